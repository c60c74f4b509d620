// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"k8s.io/client-go/rest"

	"labelstream/config"
	"labelstream/emitter"
	"labelstream/informer"
	"labelstream/record"
)

// TestDaemon follows a daemon from its start to its end: it backfills, follows
// changes, says how it is, and sends what it holds before it ends.
func TestDaemon(t *testing.T) {
	receiver := newFakeReceiver(t)
	cluster := newFakeCluster(t, "a", "b")
	d := start(t, loadConfig(t, receiver.URL, nil), Flags{Kubeconfig: writeKubeconfig(t, cluster.URL)})
	receiver.expect(t, "the backfill", "a a", "b b")
	cluster.change(t, "MODIFIED", pod("a", "a"))
	cluster.change(t, "MODIFIED", pod("b", "b2"))
	cluster.change(t, "DELETED", pod("a", "a"))
	receiver.expect(t, "the changes", "b b2", "a a")
	d.waitFor(t, "/metrics", "labelstream_samples_sent_total 4")

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
		"labelstream_leader 1", `labelstream_synced{resource="pods"} 1`, `labelstream_ledger_entries{resource="pods"} 1`,
		`labelstream_records_total{resource="pods",source="list"} 2`, `labelstream_records_total{resource="pods",source="watch"} 2`,
		`labelstream_watching{resource="pods"} 1`, `labelstream_resource_missing{resource="pods"} 0`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}

	// The destination is away for a moment when it is told to end.
	receiver.reject.Store(http.StatusServiceUnavailable)
	cluster.change(t, "MODIFIED", pod("b", "b3"))
	d.waitFor(t, "/metrics", `labelstream_records_total{resource="pods",source="watch"} 3`)
	d.stop()
	for code := 200; code == 200; {
		var body string
		if code, body = d.get(t, "/readyz"); code != http.StatusOK && body != "stopped by a signal\n" {
			t.Errorf("GET /readyz while it ends: %d %q", code, body)
		}
	}
	receiver.reject.Store(0)
	if err := <-d.done; err != nil {
		t.Errorf("Run returns %v", err)
	}
	receiver.expect(t, "the end", "b b3")
	if _, err := http.Get("http://" + d.logged(t, "address") + "/healthz"); err == nil {
		t.Error("the status is served after the end")
	}
}

// TestDaemonSaysWhatIsUnsent has a destination that stays away.
func TestDaemonSaysWhatIsUnsent(t *testing.T) {
	receiver := newFakeReceiver(t)
	receiver.reject.Store(http.StatusServiceUnavailable)
	cfg := loadConfig(t, receiver.URL, map[string]string{"SHUTDOWN_TIMEOUT": "1ms"})
	d := start(t, cfg, Flags{Kubeconfig: writeKubeconfig(t, newFakeCluster(t, "a").URL)})
	d.waitFor(t, "/readyz?verbose", "synced")
	d.stop()
	// Whether an attempt had failed before that is a matter of chance.
	const want = "1 records unsent: stopped by a signal, and what was held could not be sent within 1ms"
	if err := <-d.done; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("Run returns %v, want %s", err, want)
	}
}

// TestStartErrors ends the start with one line.
func TestStartErrors(t *testing.T) {
	taken := strings.TrimPrefix(newFakeReceiver(t).URL, "http://")
	dir, _ := writeCertificate(t)
	for _, tt := range []struct {
		name      string
		settings  map[string]string
		want, end string
	}{
		{"another process has the port", map[string]string{"STATUS_ADDRESS": taken}, `listen on STATUS_ADDRESS "` + taken + `"`, ""},
		{"no certificate there", map[string]string{"CHANGES": "webhook", "WEBHOOK_CERT_DIR": "/nowhere"},
			`LABELSTREAM_WEBHOOK_CERT_DIR="/nowhere": `, "open /nowhere/tls.crt: no such file or directory"},
		{"no such address", map[string]string{"CHANGES": "webhook", "WEBHOOK_CERT_DIR": dir, "WEBHOOK_ADDRESS": "192.0.2.1:8443"},
			"serve the webhook at 192.0.2.1:8443, as LABELSTREAM_WEBHOOK_ADDRESS says: ", ""},
		{"no pod", map[string]string{"CHANGES": "webhook"}, "find the namespace of the webhook's Secret: set POD_NAMESPACE from the downward API: ", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const nobody = "http://127.0.0.1:1"
			err := <-start(t, loadConfig(t, nobody, tt.settings), Flags{Kubeconfig: writeKubeconfig(t, nobody)}).done
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) || !strings.HasSuffix(err.Error(), tt.end) {
				t.Errorf("Run returns %v, want %s…%s", err, tt.want, tt.end)
			}
		})
	}
}

// newTestApp wires a daemon that nothing runs of.
func newTestApp(t *testing.T, cfg *config.Config, cluster string) *app {
	t.Helper()
	log, _ := logtest.NewNullLogger()
	a, err := wire(t.Context(), cfg, &Options{Flags: Flags{Kubeconfig: writeKubeconfig(t, cluster)}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestFollower reads and sends nothing until it leads, and drops what it holds
// when the lease ends.
func TestFollower(t *testing.T) {
	receiver := newFakeReceiver(t)
	receiver.reject.Store(http.StatusServiceUnavailable)
	a := newTestApp(t, loadConfig(t, receiver.URL, map[string]string{"SHUTDOWN_TIMEOUT": "10m"}), newFakeCluster(t, "a").URL)
	report := func() string {
		var text strings.Builder
		a.report(&text)
		return text.String()
	}
	const leader = "# HELP labelstream_leader 1 while this process reads and sends, 0 while another replica does.\n" +
		"# TYPE labelstream_leader gauge\nlabelstream_leader "
	if err := testutil.GatherAndCompare(a.registry, strings.NewReader(leader+"0\n"), "labelstream_leader", "labelstream_resource_missing"); err != nil {
		t.Error(err)
	}
	if got := report(); got != "another replica leads\n" {
		t.Errorf("a follower reports %q", got)
	}
	lease, lose := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.lead(t.Context(), lease) }()
	for !strings.Contains(report(), "synced") {
	}
	if err := testutil.GatherAndCompare(a.registry, strings.NewReader(leader+"1\n"), "labelstream_leader"); err != nil {
		t.Error(err)
	}
	lose(errLeaseLost)
	if err := <-ended; !errors.Is(err, errLeaseLost) || !strings.HasPrefix(err.Error(), "1 records unsent: the lease was lost") {
		t.Errorf("lead ends with %v", err)
	}
}

// TestLeaderAsksBeforeItSends keeps a process that does not hold the Lease from
// sending, though it has read.
func TestLeaderAsksBeforeItSends(t *testing.T) {
	receiver := newFakeReceiver(t)
	cfg := loadConfig(t, receiver.URL, map[string]string{"LEADER_ELECTION": "true", "POD_NAMESPACE": "metering"})
	a := newTestApp(t, cfg, newFakeCluster(t, "a").URL)
	if err := a.lead(t.Context(), t.Context()); !errors.Is(err, errLeaseLost) {
		t.Errorf("lead ends with %v, want %v", err, errLeaseLost)
	}
	if n := len(receiver.samples); n > 0 {
		t.Errorf("%d samples were sent", n)
	}
}

// TestMetricsFollowPrometheusPractice lints every metric of a daemon.
func TestMetricsFollowPrometheusPractice(t *testing.T) {
	lintMetrics(t, nil, "a a")
	lintMetrics(t, map[string]string{"CHANGES": "webhook", "POD_NAMESPACE": "metering", "WEBHOOK_ADDRESS": "127.0.0.1:0"})
}

func lintMetrics(t *testing.T, settings map[string]string, sent ...string) {
	t.Helper()
	receiver := newFakeReceiver(t)
	a := newTestApp(t, loadConfig(t, receiver.URL, settings), newFakeCluster(t, "a").URL)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.lead(ctx, t.Context()) }()
	receiver.expect(t, "the backfill", sent...)
	problems, err := testutil.GatherAndLint(a.registry)
	if err != nil {
		t.Error(err)
	}
	for _, problem := range problems {
		// The others are the Go runtime's.
		if strings.HasPrefix(problem.Metric, "labelstream_") {
			t.Errorf("%s: %s", problem.Metric, problem.Text)
		}
	}
	families, err := a.registry.Gather()
	if err != nil {
		t.Error(err)
	}
	for _, family := range families {
		for _, label := range family.Metric[0].Label {
			if label.GetName() == "kind" {
				t.Errorf("%s has the label kind; want resource", family.GetName())
			}
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestDescribe(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, tt := range []struct {
		status informer.Status
		totals emitter.Totals
		want   string
	}{
		{informer.Status{Read: 3}, emitter.Totals{}, "listing, 3 objects read"},
		{informer.Status{Err: errors.New("list pods: forbidden")}, emitter.Totals{}, "listing, 0 objects read; list pods: forbidden"},
		{
			informer.Status{Synced: true, LedgerEntries: 4, Watching: true, Current: now.Add(-time.Second)},
			emitter.Totals{Accepted: 2, Refused: 2}, "synced, 4 objects, current 1s ago, 2 records refused so far",
		},
		{
			informer.Status{Synced: true, WatchErr: errors.New("watch pods: forbidden"), Current: now.Add(-time.Hour)},
			emitter.Totals{}, "synced, 0 objects, not watched, current 1h0m0s ago; watch pods: forbidden",
		},
	} {
		if got := describe(&tt.status, tt.totals, config.ChangesWatch, now); got != tt.want {
			t.Errorf("%+v is described as %q, want %q", tt.status, got, tt.want)
		}
	}
}

// panics is set in the process that TestPanicEndsTheProcess starts.
const panics = "TEST_PANICS"

type panicSink struct{}

func (panicSink) Put(context.Context, *record.Record, func(*record.Record) bool) (bool, error) {
	panic("broken")
}

// TestPanicEndsTheProcess panics in a goroutine that belongs to client-go: it must
// not be swallowed.
func TestPanicEndsTheProcess(t *testing.T) {
	if host := os.Getenv(panics); host != "" {
		panicInInformer(t, host)
		return
	}
	for name, names := range map[string][]string{"in a list": {"a"}, "in a watch": nil} {
		t.Run(name, func(t *testing.T) {
			cluster := newFakeCluster(t, names...)
			if names == nil {
				cluster.change(t, "ADDED", pod("a", "a"))
			}
			process := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPanicEndsTheProcess$")
			process.Env = append(os.Environ(), panics+"="+cluster.URL, "LABELSTREAM_LABELS_RESOURCES=pods")
			output, err := process.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !strings.Contains(string(output), "panic: broken") {
				t.Errorf("the process ended with %v and wrote\n%s\nwant the panic", err, output)
			}
		})
	}
}

func panicInInformer(t *testing.T, host string) {
	log, _ := logtest.NewNullLogger()
	client, noClient := informer.Client(&rest.Config{Host: host})
	cfg, noConfig := config.Load(true)
	catalog, noCatalog := informer.Discover(t.Context(), &rest.Config{Host: host}, 0, log)
	if err := errors.Join(noClient, noConfig, noCatalog); err != nil {
		t.Fatal(err)
	}
	kinds, _ := catalog.Kinds(cfg)
	informers := informer.New(client, cfg, panicSink{}, informer.Options{PageSize: 50, Changes: cfg.Changes}, prometheus.NewRegistry(), log)
	informers.Add(kinds)
	informers.Run(t.Context())
}
