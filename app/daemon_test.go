package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/prompb"
	logtest "github.com/sirupsen/logrus/hooks/test"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"labelstream/config"
	"labelstream/informer"
	"labelstream/record"
)

// fakeCluster is an API server with pods, of which it tells in JSON.
type fakeCluster struct {
	*httptest.Server
	pods   []metav1.PartialObjectMetadata
	events chan string
}

func newFakeCluster(t *testing.T, names ...string) *fakeCluster {
	c := &fakeCluster{events: make(chan string)}
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

// change sends an event of a watch, and returns when one has taken it.
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
	mu     sync.Mutex
	reject int
}

func newFakeReceiver(t *testing.T) *fakeReceiver {
	r := &fakeReceiver{samples: make(chan string, 100)}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (f *fakeReceiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	reject := f.reject
	f.mu.Unlock()
	if reject != 0 {
		w.WriteHeader(reject)
		return
	}
	compressed, _ := io.ReadAll(r.Body)
	body, err := snappy.Decode(nil, compressed)
	var request prompb.WriteRequest
	if err == nil {
		err = request.Unmarshal(body)
	}
	if err != nil {
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

func (f *fakeReceiver) answer(code int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reject = code
}

// expect waits for that many samples, in any order of objects.
func (f *fakeReceiver) expect(t *testing.T, when string, want ...string) {
	t.Helper()
	got := map[string]int{}
	for range want {
		got[<-f.samples]++
	}
	wanted := map[string]int{}
	for _, sample := range want {
		wanted[sample]++
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Errorf("%s: samples (-want +got):\n%s", when, diff)
	}
}

// daemonConfig has settings with short times.
func daemonConfig(t *testing.T, receiver *fakeReceiver) *config.Config {
	t.Helper()
	t.Setenv("LABELSTREAM_DESTINATION", receiver.URL)
	t.Setenv("LABELSTREAM_LABELS_RESOURCES", "pods")
	t.Setenv("LABELSTREAM_PROTOCOL", "1.0")
	t.Setenv("LABELSTREAM_SEND_INTERVAL", "10ms")
	t.Setenv("LABELSTREAM_STATUS_ADDRESS", "127.0.0.1:0")
	t.Setenv("LABELSTREAM_WEBHOOK_ENABLED", "false")
	cfg, err := config.Load(false)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// runningDaemon is a daemon whose log tells where its status is.
type runningDaemon struct {
	*daemon
	url  string
	logs *logtest.Hook
	stop context.CancelFunc
	done chan error
}

func startDaemon(t *testing.T, cfg *config.Config, cluster *fakeCluster) *runningDaemon {
	t.Helper()
	log, hook := logtest.NewNullLogger()
	u, err := url.Parse(cluster.URL)
	if err != nil {
		t.Fatal(err)
	}
	file := writeKubeconfig(t, filepath.Join(t.TempDir(), "kubeconfig"), u.Host)
	r := &runningDaemon{daemon: newDaemon(cfg, file, prometheus.NewRegistry(), log), logs: hook, done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	go func() { r.done <- r.run(ctx) }()
	for r.url == "" {
		for _, entry := range hook.AllEntries() {
			if address, ok := entry.Data["address"]; ok {
				r.url = fmt.Sprintf("http://%s", address)
			}
		}
		time.Sleep(time.Millisecond)
	}
	return r
}

func (r *runningDaemon) get(t *testing.T, path string) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(r.url + path)
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

// waitFor waits until so many records have no outcome.
func (d *daemon) waitFor(open int64) {
	for d.current().sink.open.Load() != open {
		time.Sleep(time.Millisecond)
	}
}

// TestDaemon follows a daemon from its start to its end: it backfills, follows
// a change, says how it is, and sends what it holds before it ends.
func TestDaemon(t *testing.T) {
	receiver := newFakeReceiver(t)
	cluster := newFakeCluster(t, "a", "b")
	d := startDaemon(t, daemonConfig(t, receiver), cluster)
	receiver.expect(t, "the backfill", "a a", "b b")
	cluster.change(t, "MODIFIED", pod("a", "a"))
	cluster.change(t, "MODIFIED", pod("b", "b2"))
	cluster.change(t, "DELETED", pod("a", "a"))
	receiver.expect(t, "the changes", "b b2", "a a")
	d.waitFor(0)

	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ok\n"} {
		if code, body := d.get(t, path); code != http.StatusOK || body != want {
			t.Errorf("GET %s: %d %q", path, code, body)
		}
	}
	if _, body := d.get(t, "/readyz?verbose"); !strings.HasPrefix(body, "pods: synced, 1 objects, current ") || !strings.HasSuffix(body, "s ago\nok\n") {
		t.Errorf("GET /readyz?verbose: %q", body)
	}
	_, metrics := d.get(t, "/metrics")
	for _, want := range []string{
		"labelstream_leader 1", `labelstream_synced{kind="pods"} 1`, `labelstream_ledger_entries{kind="pods"} 1`,
		`labelstream_records_total{kind="pods",source="list"} 2`, `labelstream_records_total{kind="pods",source="watch"} 2`,
		`labelstream_objects_seen_total{kind="pods"} 5`, `labelstream_watch_restarts_total{kind="pods"} 0`,
		`labelstream_watch_changes_total{kind="pods"} 2`, `labelstream_watching{kind="pods"} 1`, "labelstream_resync_interval_seconds 10800",
		`labelstream_resource_missing{resource="pods"} 0`, `labelstream_last_sync_timestamp_seconds{kind="pods"} `, `labelstream_ledger_bytes{kind="pods"} `,
		"labelstream_samples_sent_total 4",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}

	// The destination is away for a moment when it is told to end.
	receiver.answer(http.StatusServiceUnavailable)
	cluster.change(t, "MODIFIED", pod("b", "b3"))
	d.waitFor(1)
	d.stop()
	for code := 200; code == 200; {
		var body string
		if code, body = d.get(t, "/readyz"); code != http.StatusOK && body != "stopped by a signal\n" {
			t.Errorf("GET /readyz while it ends: %d %q", code, body)
		}
	}
	receiver.answer(0)
	if err := <-d.done; err != nil {
		t.Errorf("run returns %v", err)
	}
	receiver.expect(t, "the end", "b b3")
	if _, err := http.Get(d.url + "/healthz"); err == nil {
		t.Error("the status is served after the end")
	}
}

// TestDaemonSaysWhatIsUnsent has a destination that stays away.
func TestDaemonSaysWhatIsUnsent(t *testing.T) {
	receiver := newFakeReceiver(t)
	cfg := daemonConfig(t, receiver)
	cfg.ShutdownTimeout = time.Millisecond
	receiver.answer(http.StatusServiceUnavailable)
	d := startDaemon(t, cfg, newFakeCluster(t, "a"))
	for !strings.Contains(d.report1(), "synced") {
		time.Sleep(time.Millisecond)
	}
	d.stop()
	// Whether an attempt had failed before that is a matter of chance.
	const want = "1 records unsent: stopped by a signal, and what was held could not be sent within 1ms"
	if err := <-d.done; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("run returns %v, want %s", err, want)
	}
}

// report1 is what /readyz?verbose says of the kinds.
func (r *runningDaemon) report1() string {
	var b strings.Builder
	r.report(&b)
	return b.String()
}

// TestDaemonNeedsItsPort ends the start where another process has it.
func TestDaemonNeedsItsPort(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	cfg := daemonConfig(t, newFakeReceiver(t))
	cfg.StatusAddress = listener.Addr().String()
	log, _ := logtest.NewNullLogger()
	file := writeKubeconfig(t, filepath.Join(t.TempDir(), "kubeconfig"), "127.0.0.1:1")
	err = newDaemon(cfg, file, prometheus.NewRegistry(), log).run(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), `listen on STATUS_ADDRESS "`+cfg.StatusAddress+`"`) {
		t.Errorf("run returns %v, want which address is taken", err)
	}
}

// TestTenureEndsWithItsLease drops what is held at once, and the next tenure
// begins anew: all is sent again, and the metrics count from nothing.
func TestTenureEndsWithItsLease(t *testing.T) {
	receiver := newFakeReceiver(t)
	cfg := daemonConfig(t, receiver)
	cfg.ShutdownTimeout = time.Hour
	cluster := newFakeCluster(t, "a")
	log, _ := logtest.NewNullLogger()
	d := newDaemon(cfg, "", prometheus.NewRegistry(), log)
	access := &rest.Config{Host: cluster.URL}
	lead := func() (lose context.CancelCauseFunc, ended <-chan error) {
		lease, lose := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		held := leaseTerm{Context: lease, check: func() error { return context.Cause(lease) }}
		go func() { done <- d.lead(t.Context(), held, access) }()
		return lose, done
	}
	receiver.answer(http.StatusServiceUnavailable)
	lose, ended := lead()
	for {
		var b strings.Builder
		if d.report(&b); strings.Contains(b.String(), "synced") {
			break
		}
		time.Sleep(time.Millisecond)
	}
	lose(errLeaseLost)
	if err := <-ended; !errors.Is(err, errLeaseLost) || err.Error() != "1 records unsent: the lease was lost" {
		t.Errorf("the first tenure ends with %v", err)
	}
	var b strings.Builder
	if d.report(&b); b.String() != "another replica leads\n" {
		t.Errorf("a follower reports %q", &b)
	}
	if families, err := d.gather(); err != nil || len(families) != 1 || families[0].Metric[0].Gauge.GetValue() != 0 {
		t.Errorf("a follower's metrics are %v, %v; want labelstream_leader 0 alone", families, err)
	}
	receiver.answer(0)
	lose, ended = lead()
	receiver.expect(t, "the second tenure", "a a")
	d.waitFor(0)
	lose(errLeaseLost)
	if err := <-ended; err != nil {
		t.Errorf("the second tenure ends with %v", err)
	}
}

func TestDescribe(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, tt := range []struct {
		status informer.Status
		want   string
	}{
		{informer.Status{Read: 3}, "listing, 3 objects read"},
		{informer.Status{Err: errors.New("list pods: forbidden")}, "listing, 0 objects read; list pods: forbidden"},
		{informer.Status{Synced: true, Sent: 4, Watching: true, Current: now.Add(-time.Second)}, "synced, 4 objects, current 1s ago"},
		{
			informer.Status{Synced: true, WatchErr: errors.New("watch pods: forbidden"), Current: now.Add(-time.Hour)},
			"synced, 0 objects, not watched, current 1h0m0s ago; watch pods: forbidden",
		},
	} {
		if got := describe(&tt.status, true, now); got != tt.want {
			t.Errorf("%+v is described as %q, want %q", tt.status, got, tt.want)
		}
	}
}

type fullSink struct{ queue }

func (fullSink) Put(ctx context.Context, _ *record.Record) error { return ctx.Err() }

// TestSendingIsStuck has records that get no outcome for longer than any
// outage explains.
func TestSendingIsStuck(t *testing.T) {
	f := &followed{queue: fullSink{}}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Put(ended, nil); err == nil {
		t.Error("a record was put after the end")
	}
	begun := time.Now()
	if err := f.stuck(begun.Add(24*time.Hour), time.Second); err != nil {
		t.Errorf("without records: %v", err)
	}
	for range 2 {
		if err := f.Put(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.stuck(begun.Add(settleTime), time.Second); err != nil {
		t.Errorf("in time: %v", err)
	}
	err := f.stuck(begun.Add(2*settleTime), time.Second)
	if err == nil || !strings.HasPrefix(err.Error(), "sending is stuck: nothing became of any of 2 records for ") {
		t.Errorf("too late: %v", err)
	}
	f.settled(2)
	if err := f.stuck(begun.Add(24*time.Hour), time.Second); err != nil {
		t.Errorf("when all have an outcome: %v", err)
	}
}

// panics is set in the process that TestPanicEndsTheProcess starts.
const panics = "TEST_PANICS"

type panicSink struct{}

func (panicSink) Put(context.Context, *record.Record) error { panic("broken") }

// TestPanicEndsTheProcess has a panic in a goroutine that belongs to client-go:
// it must not be swallowed.
func TestPanicEndsTheProcess(t *testing.T) {
	if host := os.Getenv(panics); host != "" {
		client, err := informer.Client(&rest.Config{Host: host})
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := config.Load(true)
		if err != nil {
			t.Fatal(err)
		}
		log, _ := logtest.NewNullLogger()
		catalog, err := informer.Discover(t.Context(), &rest.Config{Host: host}, 0, log)
		if err != nil {
			t.Fatal(err)
		}
		kinds, _ := catalog.Kinds(cfg)
		informer.New(client, kinds, cfg, panicSink{}, informer.Options{PageSize: 50, Follow: true, Watch: true}, prometheus.NewRegistry(), log).Run(t.Context())
		return
	}
	for name, names := range map[string][]string{"in a list": {"a"}, "in a watch": nil} {
		t.Run(name, func(t *testing.T) {
			cluster := newFakeCluster(t, names...)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if names == nil {
				go func() {
					event, _ := json.Marshal(map[string]any{"type": "ADDED", "object": pod("a", "a")})
					select {
					case cluster.events <- string(event):
					case <-ctx.Done():
					}
				}()
			}
			process := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestPanicEndsTheProcess$")
			process.Env = append(os.Environ(), panics+"="+cluster.URL, "LABELSTREAM_LABELS_RESOURCES=pods")
			output, err := process.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !strings.Contains(string(output), "panic: broken") || !strings.Contains(string(output), "panicSink.Put") {
				t.Errorf("the process ended with %v and wrote\n%s\nwant the panic and its trace", err, output)
			}
		})
	}
}
