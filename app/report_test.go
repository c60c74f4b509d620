// SPDX-License-Identifier: Apache-2.0

package app

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"labelstream/status"
)

var update = flag.Bool("update", false, "write the files of testdata/status anew")

// varying is what differs each time.
var varying = []struct {
	pattern *regexp.Regexp
	same    string
}{
	{regexp.MustCompile(`127\.0\.0\.1:[1-9]\d*`), "HOST"},
	{regexp.MustCompile(`20\d\d-\d\d-\d\d[T ][\d:.]+(Z| UTC)`), "TIME"},
	{regexp.MustCompile(`\d[\dhms.]* ago`), "SECONDS ago"},
	{regexp.MustCompile(`\d+s old`), "SECONDS old"},
	{regexp.MustCompile(`("oldestAgeSeconds": )[\d.e-]*[1-9].*`), "${1}SECONDS,"},
}

// parsed is a page as it was read, without its style and script.
func parsed(t *testing.T, page string) string {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		if n.DataAtom == atom.Style || n.DataAtom == atom.Script {
			n.RemoveChild(n.FirstChild)
		}
	}
	var text strings.Builder
	if err := html.Render(&text, root); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// expectFile compares with a file, but for what varies.
func expectFile(t *testing.T, name, got string) {
	t.Helper()
	for _, v := range varying {
		got = v.pattern.ReplaceAllString(got, v.same)
	}
	file := filepath.Join("testdata", "status", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// TestStatus has each condition of a daemon, as JSON and as a page.
func TestStatus(t *testing.T) {
	const listPath, leasePath = "/api/v1/pods", "/apis/coordination.k8s.io/v1/namespaces/metering/leases/labelstream"
	const page = `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"7","continue":"next","remainingItemCount":6},` +
		`"items":[{"metadata":{"namespace":"shop","name":"a","labels":{"app":"a"}}},{"metadata":{"namespace":"shop","name":"b","labels":{"app":"b"}}}]}`
	lease := fmt.Sprintf(`{"metadata":{"name":"labelstream","resourceVersion":"1"},"spec":{"holderIdentity":"other-0_1","leaseDurationSeconds":15,"renewTime":%q}}`,
		time.Now().Format("2006-01-02T15:04:05.000000Z07:00"))
	// A batch is let go of an instant after it was accepted.
	const emptied = `"oldestAgeSeconds": 0,`
	for _, tt := range []struct {
		name     string
		settings map[string]string
		// replaces answers requests for a path in place of the cluster.
		path, replaces string
		code           int
		reject         int32
		// shown are in the JSON once the condition is reached.
		shown []string
	}{
		{"backfilling", nil, listPath, page, 200, 0, []string{`"total": 8`, `"sent": 2`, `"lastSuccess"`, emptied}},
		{"healthy", nil, "", "", 0, 0, []string{`"sent": 2`, `"watching": true`, `"lastSuccess"`, emptied}},
		{"receiver-down", nil, "", "", 0, http.StatusServiceUnavailable, []string{`"failingSince"`, `"watching": true`}},
		{"forbidden", nil, listPath, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"pods is forbidden"}`, 403, 0, []string{`"error"`}},
		{"follower", map[string]string{"LEADER_ELECTION": "true", "POD_NAMESPACE": "metering", "PPROF": "true"}, leasePath, lease, 200, 0, []string{`"leaseHolder": "other-0_1"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			receiver, cluster := newFakeReceiver(t), newFakeCluster(t, "a", "b")
			receiver.reject.Store(tt.reject)
			api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path != tt.path:
					cluster.ServeHTTP(w, r)
				case r.URL.Query().Has("continue"):
					<-r.Context().Done()
				default:
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(tt.code)
					_, _ = io.WriteString(w, tt.replaces)
				}
			}))
			t.Cleanup(api.Close)
			tt.settings = with(tt.settings, "SHUTDOWN_TIMEOUT", "1ms")
			d := start(t, loadConfig(t, receiver.URL, tt.settings), Flags{Kubeconfig: writeKubeconfig(t, api.URL)})
			for _, text := range tt.shown {
				d.waitFor(t, "/api/v1/status", text)
			}
			_, text := d.get(t, "/api/v1/status")
			_, page := d.get(t, "/")
			d.stop()
			<-d.done
			expectFile(t, tt.name+".json", text)
			expectFile(t, tt.name+".html", parsed(t, page))
		})
	}
}

func with(settings map[string]string, name, value string) map[string]string {
	all := map[string]string{name: value}
	for name, value := range settings {
		all[name] = value
	}
	return all
}

// TestStatusHasTheMetricsNumbers counts what was read, sent, refused and dropped.
func TestStatusHasTheMetricsNumbers(t *testing.T) {
	receiver, cluster := newFakeReceiver(t), newFakeCluster(t, "a")
	cluster.pods = append(cluster.pods, pod("b", ""), pod("c", "<c>"))
	d := start(t, loadConfig(t, receiver.URL, nil), Flags{Kubeconfig: writeKubeconfig(t, cluster.URL)})
	receiver.expect(t, "the backfill", "a a", "b ", "c ")
	d.waitFor(t, "/api/v1/status", `"sent": 3`)
	receiver.reject.Store(http.StatusBadRequest)
	cluster.change(t, "MODIFIED", pod("a", "a2"))
	d.waitFor(t, "/api/v1/status", `"name": "a"`)

	_, metrics := d.get(t, "/metrics")
	metric := func(name string) float64 {
		_, rest, _ := strings.Cut(metrics, "\n"+name+" ")
		text, _, _ := strings.Cut(rest, "\n")
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Errorf("the metric %s: %v", name, err)
		}
		return value
	}
	var s status.State
	_, text := d.get(t, "/api/v1/status")
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	seconds := func(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }
	pods := s.Resources[0]
	for name, got := range map[string]float64{
		`labelstream_ledger_entries{resource="pods"}`:                             float64(pods.Objects),
		`labelstream_last_list_timestamp_seconds{resource="pods"}`:                seconds(pods.LastList),
		`labelstream_last_sync_timestamp_seconds{resource="pods"}`:                seconds(pods.LastSync),
		`labelstream_samples_sent_total`:                                          float64(pods.Sent),
		`labelstream_records_refused_total{reason="bad_request",resource="pods"}`: float64(pods.Refused),
		`labelstream_values_dropped_total{reason="empty",resource="pods"}`:        float64(pods.Drops.Empty),
		`labelstream_values_dropped_total{reason="unsafe",resource="pods"}`:       float64(pods.Drops.Unsafe),
		`labelstream_queue_length`:                                                float64(s.Destination.QueueLength),
		`labelstream_queue_capacity`:                                              float64(s.Destination.QueueCapacity),
		`labelstream_last_success_timestamp_seconds`:                              seconds(s.Destination.LastSuccess),
		`labelstream_senders{version="` + s.Destination.Protocol + `"}`:           1,
		`labelstream_keys`:       float64(s.Keys.Sent),
		`labelstream_keys_limit`: float64(s.Keys.Limit),
	} {
		if want := metric(name); got != want {
			t.Errorf("the status has %v, %s is %v", got, name, want)
		}
	}
	_, page := d.get(t, "/")
	expectFile(t, "refusing.html", parsed(t, page))
	for _, want := range []string{
		fmt.Sprintf(`<td data-label="Objects" class="number">%v</td>`, metric(`labelstream_ledger_entries{resource="pods"}`)),
		fmt.Sprintf(`<td data-label="Sent" class="number">%v</td>`, metric("labelstream_samples_sent_total")),
		fmt.Sprintf(`<td data-label="Refused" class="number">%v</td>`, metric(`labelstream_records_refused_total{reason="bad_request",resource="pods"}`)),
		fmt.Sprintf(`<td data-label="Dropped">%v empty %v unsafe </td>`,
			metric(`labelstream_values_dropped_total{reason="empty",resource="pods"}`), metric(`labelstream_values_dropped_total{reason="unsafe",resource="pods"}`)),
		fmt.Sprintf("<dd>%v of %v records</dd>", metric("labelstream_queue_length"), metric("labelstream_queue_capacity")),
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s:\n%s", want, page)
		}
	}
	d.stop()
	<-d.done
}

// TestStatusShowsNoSecret has a receiver that repeats what it is sent.
func TestStatusShowsNoSecret(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		user, password, _ := r.BasicAuth()
		_, _ = fmt.Fprintf(w, "<b>bad</b> %s %v %s %s", r.URL, r.Header, user, password)
	}))
	t.Cleanup(receiver.Close)
	to := strings.Replace(receiver.URL, "http://", "http://canary-user:canary-password@", 1) + "/write?token=canary-token"
	cfg := loadConfig(t, to, map[string]string{"HEADERS": "X-Scope=canary-header", "WEBHOOK_PATH": "/canary-path", "SHUTDOWN_TIMEOUT": "1ms"})
	d := start(t, cfg, Flags{Kubeconfig: writeKubeconfig(t, newFakeCluster(t, "a").URL)})
	d.waitFor(t, "/api/v1/status", `"reason": "bad_request"`)
	for path, wants := range map[string][]string{
		"/api/v1/status": {`"name": "a"`, `\u003cb\u003ebad`, `/write"`, "X-Scope (values not shown)", `"(not shown)"`},
		"/":              {"&lt;b&gt;bad", "X-Scope (values not shown)", "(not shown)"},
	} {
		_, text := d.get(t, path)
		if strings.Contains(text, "canary") {
			t.Errorf("GET %s shows a secret:\n%s", path, text)
		}
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("GET %s lacks %s:\n%s", path, want, text)
			}
		}
	}
	d.stop()
	<-d.done
}
