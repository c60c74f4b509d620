// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	logrustest "github.com/sirupsen/logrus/hooks/test"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// roundTrip answers a request of discovery.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func respond(r *http.Request, code int, answer any) *http.Response {
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer)
	response := w.Result()
	response.Request = r
	return response
}

func notReady(r *http.Request) (*http.Response, error) {
	return respond(r, http.StatusServiceUnavailable, "not now"), nil
}

func refuse(*http.Request) (*http.Response, error) { return nil, errors.New("connection closed") }

func silent(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// discover asks a server, which fails at first, and returns what the log said too.
// The server has pods, a group whose preferred version is not the newest, and one
// that cannot be discovered.
func discover(ctx context.Context, patience time.Duration, failures ...roundTrip) (*Catalog, []string, error) {
	group := func(name string, versions ...string) metav1.APIGroup {
		g := metav1.APIGroup{Name: name}
		for _, v := range versions {
			g.Versions = append(g.Versions, metav1.GroupVersionForDiscovery{GroupVersion: name + "/" + v, Version: v})
		}
		g.PreferredVersion = g.Versions[len(g.Versions)-1]
		return g
	}
	answers := map[string]any{
		"/api":                       metav1.APIVersions{Versions: []string{"v1"}},
		"/api/v1":                    serves("v1", "pods Pod pod ns lw", "pods/log Pod - ns -"),
		"/apis":                      metav1.APIGroupList{Groups: []metav1.APIGroup{group("example.com", "v2alpha1", "v1"), group("metrics.k8s.io", "v1beta1")}},
		"/apis/example.com/v2alpha1": serves("example.com/v2alpha1", "widgets Widget widget ns lw", "gears Gear gear ns lw"),
		"/apis/example.com/v1":       serves("example.com/v1", "widgets Widget widget ns lw"),
	}
	server := func(r *http.Request) (*http.Response, error) {
		if len(failures) > 0 {
			fail := failures[0]
			failures = failures[1:]
			return fail(r)
		}
		if answer, ok := answers[r.URL.Path]; ok {
			return respond(r, http.StatusOK, answer), nil
		}
		return respond(r, http.StatusNotFound, metav1.Status{Reason: metav1.StatusReasonNotFound}), nil
	}
	log, hook := logrustest.NewNullLogger()
	catalog, err := Discover(ctx, &rest.Config{Host: "http://api.test", Transport: roundTrip(server)}, patience, log)
	return catalog, logged(hook), err
}

func TestDiscover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		catalog, lines, err := discover(t.Context(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		got := resolve(catalog, chosen("pods,*.example.com,nodes.metrics.k8s.io", ""))
		got[3], _, _ = strings.Cut(got[3], " serves:")
		expect(t, "kinds", []string{
			"pods v1 pod/pod pod ns L",
			// Only the version before the preferred one has gears.
			"gears.example.com v2alpha1 gear.example.com/gear_example.com workload ns L",
			"widgets.example.com v1 widget.example.com/widget_example.com workload ns L",
			`error: "nodes.metrics.k8s.io": the server could not say what the group "metrics.k8s.io"`,
		}, got)
		expect(t, "log", nil, lines)
	})
}

// TestDiscoverTriesAgain until its patience or its context ends, and no later. It
// says the last answer of the server; a silent one has none.
func TestDiscoverTriesAgain(t *testing.T) {
	const begins, warning = "ask the API server at http://api.test for its resources: ", "warning: Cannot discover what the API server serves: "
	always := func(fail roundTrip) []roundTrip { return slices.Repeat([]roundTrip{fail}, 1000) }
	for _, fail := range []struct {
		roundTrip
		want string
	}{{refuse, "connection closed"}, {notReady, "currently unable"}} {
		synctest.Test(t, func(t *testing.T) {
			catalog, lines, err := discover(t.Context(), time.Minute, always(fail.roundTrip)[:6]...)
			if err != nil || len(resolve(catalog, chosen("pods", ""))) != 1 || len(lines) != 2 ||
				!strings.HasPrefix(lines[0], warning+begins) || !strings.Contains(lines[0], fail.want) || lines[1] != "info: Discovering again" {
				t.Errorf("error %v, log %q; want none, and a warning with %q and its end", err, lines, fail.want)
			}
		})
	}
	for name, test := range map[string]struct {
		failures        []roundTrip
		patience, after time.Duration
		want            string
	}{
		"refused":          {always(refuse), 30 * time.Second, 30 * time.Second, "connection closed"},
		"silent":           {always(silent), 30 * time.Second, 30 * time.Second, "context deadline exceeded"},
		"silent at last":   {append([]roundTrip{refuse, refuse}, always(silent)...), 30 * time.Second, 30 * time.Second, "connection closed"},
		"no patience":      {always(refuse), 0, 0, "connection closed"},
		"ended, not ready": {always(notReady), time.Hour, time.Minute, "currently unable"},
		"ended, silent":    {always(silent), time.Hour, time.Minute, "deadline exceeded"},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Minute, cancel)
			began := time.Now()
			catalog, _, err := discover(ctx, test.patience, test.failures...)
			if took := time.Since(began); catalog != nil || err == nil || took != test.after ||
				!strings.HasPrefix(err.Error(), begins) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: catalog %v, error %v after %s; want none and one with %q after %s", name, catalog, err, took, test.want, test.after)
			}
		})
	}
}

func TestClientErrors(t *testing.T) {
	_, err := Client(&rest.Config{Host: "https://api.test", TLSClientConfig: rest.TLSClientConfig{CAFile: "/does/not/exist"}})
	const want = "make a client of the API server at https://api.test: "
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error %v, want one that begins with %q", err, want)
	}
}
