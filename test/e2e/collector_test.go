package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"labelstream/test/prometheus"
)

// startAgent starts a Prometheus agent at an address that forwards to the journal
// what it is sent. It does not forward samples that are older than its own start.
func startAgent(t *testing.T, address string, j *journal) *prometheus.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	agent, err := prometheus.Start(ctx, prometheus.Options{
		Agent: true, Address: address,
		Config: fmt.Sprintf("remote_write: [{url: %q, queue_config: {batch_send_deadline: 200ms}}]\n", j.URL()),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			agent.WriteLog(t.Output(), 30)
		}
		if err := agent.Stop(); err != nil {
			t.Error(err)
		}
	})
	return agent
}

// TestCollectorStartsLater starts a collector 20 s after labelstream: it gets, and
// forwards, every series at a time of its own life.
func TestCollectorStartsLater(t *testing.T) {
	t.Parallel()
	const pods = 10_000
	j, address := newJournal(t), closedPort(t)
	run := launchOnce(t, invocation{kubeconfig: syntheticCluster(t, pods), settings: settings{
		"DESTINATION": "http://" + address + "/api/v1/write", "LABELS_RESOURCES": "pods",
	}})
	run.awaitLog(t, "connection refused")
	elapse(t, 20*time.Second)
	started := time.Now()
	startAgent(t, address, j)
	run.wait(t).mustSucceed(t)
	j.awaitCount(t, pods)
	if n := len(j.Series()); n != pods {
		t.Errorf("%d series were forwarded, want %d", n, pods)
	}
	j.mustBeSince(t, started, 0)
}

// TestCollectorKilledAfterChange kills a collector a second after a change, before
// that was sent to it. The next collector gets it at a time of its own life. The
// interval is long, so that it listens and has started by then.
func TestCollectorKilledAfterChange(t *testing.T) {
	t.Parallel()
	const (
		namespace = "collector-killed"
		count     = 20
	)
	p := shared.plane
	all := p.numbered(t, namespace, count)
	j, address := newJournal(t), closedPort(t)
	// It is killed while it sends.
	j.cut = true
	agent := startAgent(t, address, j)
	d := startDaemon(t, invocation{user: p.follower(t, namespace, "pods"), settings: following.and(settings{
		"DESTINATION": "http://" + address + "/api/v1/write", "NAMESPACES": namespace, "SEND_INTERVAL": "15s",
	})})
	j.awaitCount(t, count)
	p.setStep(t, namespace, numberedPod(0), "2")
	elapse(t, time.Second)
	if err := agent.Stop(); err != nil {
		t.Fatal(err)
	}
	elapse(t, time.Second)
	started := time.Now()
	startAgent(t, address, j)
	j.awaitCount(t, count+1)
	d.terminate(t)
	j.mustBe(t, append(all, numberedPod(0)+" 2"))
	j.mustBeSince(t, started, count)
}

// mustBeSince demands that no sample from a number on is older than a time.
func (j *journal) mustBeSince(t *testing.T, start time.Time, from int) {
	t.Helper()
	for _, s := range j.all()[from:] {
		if at := time.UnixMilli(s.At); at.Before(start.Truncate(time.Millisecond)) {
			t.Errorf("a sample of %s is of %v, before the collector's start at %v", s.Object, at, start)
		}
	}
}
