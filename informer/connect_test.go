package informer

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	logrustest "github.com/sirupsen/logrus/hooks/test"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// discoveryServer answers discovery by path, after as many failures as it is
// told.
type discoveryServer struct {
	failures int
	fail     answer
	answers  map[string]any
}

func (s *discoveryServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.failures > 0 {
		s.failures--
		s.fail(w, r, nil)
		return
	}
	answer, ok := s.answers[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// newDiscoveryServer has pods, a group whose preferred version is not the
// newest, and one that cannot be discovered.
func newDiscoveryServer() *discoveryServer {
	group := func(name string, versions ...string) metav1.APIGroup {
		g := metav1.APIGroup{Name: name}
		for _, v := range versions {
			g.Versions = append(g.Versions, metav1.GroupVersionForDiscovery{GroupVersion: name + "/" + v, Version: v})
		}
		g.PreferredVersion = g.Versions[len(g.Versions)-1]
		return g
	}
	return &discoveryServer{answers: map[string]any{
		"/api":    metav1.APIVersions{Versions: []string{"v1"}},
		"/api/v1": serves("v1", "pods Pod pod ns lw", "pods/log Pod - ns -"),
		"/apis": metav1.APIGroupList{Groups: []metav1.APIGroup{
			group("example.com", "v2alpha1", "v1"), group("metrics.k8s.io", "v1beta1"),
		}},
		"/apis/example.com/v2alpha1": serves("example.com/v2alpha1", "widgets Widget widget ns lw", "gears Gear gear ns lw"),
		"/apis/example.com/v1":       serves("example.com/v1", "widgets Widget widget ns lw"),
	}}
}

func discover(t *testing.T, ctx context.Context, s *discoveryServer, patience time.Duration) (*Catalog, *logrustest.Hook, error) {
	t.Helper()
	log, hook := logrustest.NewNullLogger()
	catalog, err := Discover(ctx, &rest.Config{Host: "http://api.test", Transport: &pipeTransport{s}}, patience, log)
	return catalog, hook, err
}

func lines(hook *logrustest.Hook) []string {
	all := []string{}
	for _, entry := range hook.AllEntries() {
		all = append(all, entry.Level.String()+": "+entry.Message+": "+entry.Data[logrus.ErrorKey].(error).Error())
	}
	return all
}

func TestDiscover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		catalog, hook, err := discover(t, t.Context(), newDiscoveryServer(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		kinds, errs := catalog.Kinds(chosen("pods,*.example.com,nodes.metrics.k8s.io", ""))
		got := []string{}
		for _, k := range kinds {
			got = append(got, resolved(k))
		}
		if diff := cmp.Diff([]string{
			"pods v1 pod/pod pod ns L",
			// Only the version before the preferred one has gears.
			"gears.example.com v2alpha1 gear.example.com/gear_example.com workload ns L",
			"widgets.example.com v1 widget.example.com/widget_example.com workload ns L",
		}, got); diff != "" {
			t.Errorf("kinds (-want +got):\n%s", diff)
		}
		const wantErr = `LABELSTREAM_LABELS_RESOURCES: "nodes.metrics.k8s.io": the server could not say what the group "metrics.k8s.io" serves: `
		if len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), wantErr) {
			t.Errorf("errors %q, want one that begins with %q", errs, wantErr)
		}
		if diff := cmp.Diff([]string{}, lines(hook)); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	})
}

// TestDiscoverTriesAgain has a server that cannot be reached, then is not
// ready, then answers.
func TestDiscoverTriesAgain(t *testing.T) {
	for name, fail := range map[string]answer{"connection closed": disconnect, "the server is currently unable": text(503, "")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newDiscoveryServer()
				server.failures, server.fail = 6, fail
				catalog, hook, err := discover(t, t.Context(), server, time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				if kinds, errs := catalog.Kinds(chosen("pods", "")); len(kinds) != 1 || len(errs) != 0 {
					t.Errorf("kinds %v, errors %v; want pods", kinds, errs)
				}
				const begins = "warning: Cannot reach the API server; trying again: ask the API server at http://api.test for its resources: "
				got := lines(hook)
				if len(got) != 1 || !strings.HasPrefix(got[0], begins) || !strings.Contains(got[0], name) {
					t.Errorf("log %q, want one line that begins with %q and holds %q", got, begins, name)
				}
			})
		})
	}
}

func TestDiscoverGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newDiscoveryServer()
		server.failures, server.fail = 1_000_000, disconnect
		catalog, _, err := discover(t, t.Context(), server, 30*time.Second)
		const want = "ask the API server at http://api.test for its resources: "
		if catalog != nil || err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("catalog %v, error %v; want none and one that begins with %q", catalog, err, want)
		}
	})
}

func TestDiscoverEndsWithItsContext(t *testing.T) {
	for name, fail := range map[string]answer{"backing off": text(503, ""), "waiting": hang} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newDiscoveryServer()
				server.failures, server.fail = 1_000_000, fail
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
				began := time.Now()
				catalog, _, err := discover(t, ctx, server, time.Hour)
				if took := time.Since(began); catalog != nil || err == nil || took != time.Second {
					t.Errorf("catalog %v, error %v after %s; want none and one at the context's end", catalog, err, took)
				}
			})
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
