package e2e

import (
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestDaemonStatus looks at what an operator, a probe and Prometheus look at.
func TestDaemonStatus(t *testing.T) {
	t.Parallel()
	const (
		namespace = "status"
		count     = 30
	)
	p := shared.plane
	p.numbered(t, namespace, count)
	j := newJournal(t)
	inv := invocation{user: p.follower(t, namespace, "pods"), settings: following.and(settings{"DESTINATION": j.URL(), "NAMESPACES": namespace})}
	d := startDaemon(t, inv)
	j.awaitCount(t, count)
	p.setStep(t, namespace, numberedPod(0), "2")
	p.updateStatus(t, namespace, numberedPod(0), "unchanged")
	p.setStep(t, namespace, numberedPod(1), "2")
	j.awaitCount(t, count+2)

	for _, test := range []struct {
		path string
		code int
		text string
	}{
		{"/healthz", 200, `^ok\n$`},
		{"/readyz", 200, `^ok\n$`},
		{"/readyz?verbose", 200, `^pods: synced, 30 objects, current \d+s ago\nok\n$`},
		{"/metrics", 200, `(?m)^# HELP labelstream_synced `},
		{"/debug/pprof/", 404, `not found`},
		{"/", 404, `not found`},
	} {
		if code, text := d.get(t, test.path); code != test.code || !regexp.MustCompile(test.text).MatchString(text) {
			t.Errorf("%s answers %d %q, want %d with %q", test.path, code, text, test.code, test.text)
		}
	}
	mustHaveMetrics(t, d, count)
	d.terminate(t)

	d = startDaemon(t, inv.with(settings{"PPROF": "true"}))
	if code, text := d.get(t, "/debug/pprof/goroutine?debug=1"); code != http.StatusOK || !strings.Contains(text, "goroutine profile") {
		t.Errorf("with PPROF, /debug/pprof/goroutine answers %d %q", code, text)
	}
	taken := strings.TrimPrefix(d.status, "http://")
	r := launch(t, inv.with(settings{"STATUS_ADDRESS": taken})).wait(t)
	r.mustFail(t)
	r.mustSayOnce(t, "STATUS_ADDRESS", taken, "address already in use")
}

// mustHaveMetrics demands the metrics of a daemon that has listed so many pods,
// and seen three events, two of which were sent.
func mustHaveMetrics(t *testing.T, d *daemon, count float64) {
	t.Helper()
	metrics := d.metrics(t)
	for name, want := range map[string]float64{
		`labelstream_synced{resource="pods"}`:                        1,
		`labelstream_ledger_entries{resource="pods"}`:                count,
		`labelstream_objects_seen_total{resource="pods"}`:            count + 3,
		`labelstream_records_total{resource="pods",source="list"}`:   count,
		`labelstream_records_total{resource="pods",source="watch"}`:  2,
		`labelstream_records_total{resource="pods",source="resync"}`: 0,
		`labelstream_watch_restarts_total{resource="pods"}`:          0,
		`labelstream_leader`: 1,
	} {
		if got, ok := metrics[name]; !ok || got != want {
			t.Errorf("%s is %v (there: %t), want %v", name, got, ok, want)
		}
	}
	for _, name := range []string{
		`labelstream_last_sync_timestamp_seconds{resource="pods"}`, `labelstream_ledger_bytes{resource="pods"}`,
		"process_resident_memory_bytes", "go_goroutines",
	} {
		if metrics[name] <= 0 {
			t.Errorf("%s is %v, want something", name, metrics[name])
		}
	}
}

// TestDaemonStops ends daemons that hold records.
func TestDaemonStops(t *testing.T) {
	t.Parallel()
	const (
		namespace = "daemon-stops"
		count     = 30
	)
	p := shared.plane
	all := p.numbered(t, namespace, count)
	inv := invocation{user: p.follower(t, namespace, "pods"), settings: following.and(settings{
		// Nothing is sent before the daemon is told to end.
		"NAMESPACES": namespace, "SEND_INTERVAL": "10m",
	})}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run("flushes after "+signal.String(), func(t *testing.T) {
			t.Parallel()
			j := newJournal(t)
			d := startDaemon(t, inv.with(settings{"DESTINATION": j.URL()}))
			d.awaitLog(t, `"Listed"`)
			d.awaitReport(t, regexp.MustCompile(`pods: synced, \d+ objects, current`))
			d.signal(t, signal)
			r := d.wait(t)
			r.mustSucceed(t)
			j.mustBe(t, all)
			if messages := r.errors(t); len(messages) > 0 {
				t.Errorf("errors of a daemon that lost nothing: %v", messages)
			}
		})
	}
	t.Run("is unready, and well, while it flushes", func(t *testing.T) { testUnreadyWhileStopping(t, inv, all) })
	t.Run("says what it could not flush", func(t *testing.T) {
		t.Parallel()
		j := newJournal(t)
		j.stall(t)
		d := startDaemon(t, inv.with(settings{"DESTINATION": j.URL(), "SHUTDOWN_TIMEOUT": "1s"}))
		d.awaitLog(t, `"Listed"`)
		d.signal(t, syscall.SIGTERM)
		r := d.wait(t)
		r.mustFail(t)
		r.mustSayOnce(t, "30 records unsent", "could not be sent within 1s")
		j.mustBe(t, nil)
	})
	t.Run("before it has begun", func(t *testing.T) {
		t.Parallel()
		d := startDaemon(t, invocation{kubeconfig: kubeconfigFor(t, t.TempDir(), "https://"+closedPort(t)),
			settings: inv.settings.and(settings{"DESTINATION": nowhere})})
		d.awaitLog(t, "connection refused")
		if code, _ := d.get(t, "/healthz"); code != http.StatusOK {
			t.Errorf("/healthz answers %d where the API server is away", code)
		}
		d.terminate(t)
	})
}

// testUnreadyWhileStopping looks at the status of a daemon that is told to end
// while the receiver hangs.
func testUnreadyWhileStopping(t *testing.T, inv invocation, all []string) {
	t.Parallel()
	j := newJournal(t)
	receiver := j.stall(t)
	d := startDaemon(t, inv.with(settings{"DESTINATION": j.URL()}))
	d.awaitLog(t, `"Listed"`)
	d.signal(t, syscall.SIGTERM)
	receiver.await(t)
	if code, text := d.get(t, "/readyz"); code != http.StatusServiceUnavailable || text != "stopped by a signal\n" {
		t.Errorf("/readyz answers %d %q", code, text)
	}
	if code, text := d.get(t, "/healthz"); code != http.StatusOK {
		t.Errorf("/healthz answers %d %q", code, text)
	}
	if n := d.metrics(t)[`labelstream_records_total{resource="pods",source="list"}`]; n != float64(len(all)) {
		t.Errorf("labelstream_records_total is %v at the end, want %d", n, len(all))
	}
	receiver.release()
	d.wait(t).mustSucceed(t)
	j.mustBe(t, all)
}

// TestDaemonWithoutChanges reads once, and then only what resyncs bring.
func TestDaemonWithoutChanges(t *testing.T) {
	t.Parallel()
	const namespace = "without-watch"
	p := shared.plane
	all := p.numbered(t, namespace, 3)
	// The right to list is enough.
	reader := p.reader(t, namespace, "pods")
	j := newJournal(t)
	d := startDaemon(t, invocation{user: reader, settings: following.and(settings{
		"DESTINATION": j.URL(), "NAMESPACES": namespace, "CHANGES": "none", "RESYNC_INTERVAL": "2s",
	})})
	j.awaitCount(t, len(all))
	p.setStep(t, namespace, numberedPod(0), "2")
	j.awaitState(t, p.state(t, namespace))
	j.await(t, "another resync", func(samples []sample) bool { return len(samples) >= 3*len(all) })
	d.terminate(t)
	mustBeRounds(t, j.all(), len(all))
	j.mustBeInOrder(t)
}

// mustBeRounds demands that all pods come again and again, each round later than the
// one before, and that nothing but the step of the first one changes, from 1 to 2.
func mustBeRounds(t *testing.T, samples []sample, count int) {
	t.Helper()
	step := "1"
	for i, s := range samples {
		if i >= count && s.At <= samples[i-count].At {
			t.Errorf("sample %d is not newer than that of the round before", i)
		}
		want := sample{Object: numberedPod(i % count), Step: "1"}
		if i%count == 0 {
			if i > 0 && s.Step == "2" {
				step = "2"
			}
			want.Step = step
		}
		if s.Object != want.Object || s.Step != want.Step {
			t.Errorf("sample %d is of %s in step %s, want %s in step %s", i, s.Object, s.Step, want.Object, want.Step)
		}
	}
}
