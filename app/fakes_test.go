// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-logr/logr"
	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/prompb"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"labelstream/config"
	"labelstream/status"
)

func TestMain(m *testing.M) {
	klog.SetLogger(logr.Discard())
	goleak.VerifyTestMain(m)
}

// fakeCluster is an API server with pods, of which it tells in JSON.
type fakeCluster struct {
	*httptest.Server
	pods   []metav1.PartialObjectMetadata
	events chan string
	// broken lets each list fail.
	broken bool
}

func newFakeCluster(t *testing.T, names ...string) *fakeCluster {
	c := &fakeCluster{events: make(chan string, 1)}
	for _, name := range names {
		c.pods = append(c.pods, pod(name, name))
	}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func pod(name, app string) metav1.PartialObjectMetadata {
	return metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: name, ResourceVersion: "7", Labels: map[string]string{"app": app},
	}}
}

func (c *fakeCluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	encode := json.NewEncoder(w).Encode
	switch {
	case r.URL.Path == "/api":
		_ = encode(metav1.APIVersions{Versions: []string{"v1"}})
	case r.URL.Path == "/apis":
		_ = encode(metav1.APIGroupList{})
	case r.URL.Path == "/api/v1":
		_ = encode(metav1.APIResourceList{GroupVersion: "v1", APIResources: []metav1.APIResource{
			{Name: "pods", Kind: "Pod", SingularName: "pod", Namespaced: true, Verbs: []string{"list", "watch"}},
		}})
	case r.URL.Path != "/api/v1/pods":
		http.NotFound(w, r)
	case c.broken:
		http.Error(w, "conversion webhook failed", http.StatusInternalServerError)
	case r.URL.Query().Has("watch"):
		c.watch(w, r)
	default:
		_ = encode(metav1.PartialObjectMetadataList{ListMeta: metav1.ListMeta{ResourceVersion: "7"}, Items: c.pods})
	}
}

func (c *fakeCluster) watch(w http.ResponseWriter, r *http.Request) {
	w.(http.Flusher).Flush()
	for {
		select {
		case event := <-c.events:
			_, _ = io.WriteString(w, event)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// change sends an event of a watch.
func (c *fakeCluster) change(t *testing.T, typ string, o metav1.PartialObjectMetadata) {
	t.Helper()
	text, err := json.Marshal(map[string]any{"type": typ, "object": o})
	if err != nil {
		t.Fatal(err)
	}
	c.events <- string(text)
}

// fakeReceiver hands on what it is sent, as "pod app".
type fakeReceiver struct {
	*httptest.Server
	samples chan string
	// reject is answered while it is not 0.
	reject atomic.Int32
}

func newFakeReceiver(t *testing.T) *fakeReceiver {
	r := &fakeReceiver{samples: make(chan string, 100)}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (f *fakeReceiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if code := int(f.reject.Load()); code != 0 {
		w.WriteHeader(code)
		return
	}
	compressed, _ := io.ReadAll(r.Body)
	body, err := snappy.Decode(nil, compressed)
	var request prompb.WriteRequest
	if err = errors.Join(err, request.Unmarshal(body)); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, series := range request.Timeseries {
		labels := map[string]string{}
		for _, label := range series.Labels {
			labels[label.Name] = label.Value
		}
		f.samples <- labels["pod"] + " " + labels["label_app"]
	}
}

// expect waits for that many samples, in any order of objects.
func (f *fakeReceiver) expect(t *testing.T, when string, want ...string) {
	t.Helper()
	var got []string
	for range want {
		got = append(got, <-f.samples)
	}
	slices.Sort(got)
	if diff := cmp.Diff(slices.Sorted(slices.Values(want)), got); diff != "" {
		t.Errorf("%s: samples (-want +got):\n%s", when, diff)
	}
}

func writeKubeconfig(t *testing.T, server string) string {
	t.Helper()
	const format = `{"clusters": [{"name": "c", "cluster": {"server": %q}}], "contexts": [{"name": "c", "context": {"cluster": "c"}}], "current-context": "c"}`
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, fmt.Appendf(nil, format, server), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// loadConfig returns settings with short times, and those given, whose names lack
// the prefix.
func loadConfig(t *testing.T, receiver string, settings map[string]string) *config.Config {
	t.Helper()
	t.Setenv("POD_NAMESPACE", "")
	all := map[string]string{
		"DESTINATION": receiver, "LABELS_RESOURCES": "pods", "PROTOCOL": "1.0", "SEND_INTERVAL": "10ms", "STATUS_ADDRESS": "127.0.0.1:0",
	}
	maps.Copy(all, settings)
	for name, value := range all {
		t.Setenv("LABELSTREAM_"+name, value)
	}
	cfg, err := config.Load(false)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

type running struct {
	logs           *logtest.Hook
	stdout, stderr bytes.Buffer
	stop           context.CancelFunc
	done           chan error
}

func start(t *testing.T, cfg *config.Config, flags Flags) *running {
	t.Helper()
	log, hook := logtest.NewNullLogger()
	r := &running{logs: hook, done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	opts := Options{Flags: flags, Build: status.Build{Version: "dev"}, Log: log, Stdout: &r.stdout, Stderr: &r.stderr}
	go func() { r.done <- Run(ctx, cfg, opts) }()
	return r
}

// logged waits for a line of the log that has a field, and returns that.
func (r *running) logged(t *testing.T, field string) string {
	t.Helper()
	for {
		for _, entry := range r.logs.AllEntries() {
			if value, ok := entry.Data[field]; ok {
				return fmt.Sprint(value)
			}
		}
		select {
		case err := <-r.done:
			t.Fatalf("Run ended with %v before it logged %q", err, field)
		case <-t.Context().Done():
		default:
			runtime.Gosched()
		}
	}
}

func (r *running) get(t *testing.T, path string) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + r.logged(t, "address") + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func (r *running) waitFor(t *testing.T, path, text string) {
	t.Helper()
	for body := ""; !strings.Contains(body, text); {
		_, body = r.get(t, path)
	}
}
