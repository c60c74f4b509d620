// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestDaemonOutages has a control plane of its own, that it disturbs.
func TestDaemonOutages(t *testing.T) {
	t.Parallel()
	p := ownPlane(t)
	t.Run("API server killed", func(t *testing.T) { testServerKilled(t, p) })
	t.Run("history gone while disconnected", func(t *testing.T) { testHistoryGone(t, p) })
}

// testServerKilled kills the API server for a while, with changes right before and
// right after.
func testServerKilled(t *testing.T, p *plane) {
	const (
		namespace = "server-killed"
		count     = 40
	)
	outage := inSoak(30*time.Second, 8*time.Second)
	want := p.numbered(t, namespace, count)
	j := newJournal(t)
	d := startDaemon(t, invocation{plane: p, user: p.follower(t, namespace, "pods"), settings: following.and(settings{
		"DESTINATION": j.URL(), "NAMESPACES": namespace,
	})})
	j.awaitCount(t, count)
	for round := range inSoak(10, 1) {
		before, after := strconv.Itoa(2*round+2), strconv.Itoa(2*round+3)
		p.setStep(t, namespace, numberedPod(1), before)
		want = append(want, numberedPod(1)+" "+before)
		j.awaitCount(t, len(want))
		p.Kill()
		d.awaitLog(t, `"Cannot watch"`)
		elapse(t, outage)
		d.mustBeAlive(t)
		if err := p.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.setStep(t, namespace, numberedPod(2), after)
		// The last in the order of names, so that this is the last sample
		// whether a list or a watch brings it.
		p.setStep(t, namespace, numberedPod(count-1), after)
		want = append(want, numberedPod(2)+" "+after, numberedPod(count-1)+" "+after)
		j.awaitCount(t, len(want))
	}
	d.terminate(t)
	j.mustBe(t, want)
}

// testHistoryGone starts a daemon that cannot reach the API server yet. Later it
// changes much while the daemon cannot, and makes etcd and the API server forget
// the changes on the way.
func testHistoryGone(t *testing.T, p *plane) {
	const (
		namespace = "history-gone"
		count     = 40
	)
	all := p.numbered(t, namespace, count)
	reader := p.follower(t, namespace, "pods")
	x := newProxy(t, p, reader, nil)
	x.down()
	j := newJournal(t)
	d := startDaemon(t, invocation{kubeconfig: x.kubeconfig(t), settings: following.and(settings{
		"DESTINATION": j.URL(), "NAMESPACES": namespace,
	})})
	d.awaitLog(t, "connection refused")
	d.mustBeAlive(t)
	x.up(t)
	j.awaitCount(t, count)
	x.down()
	d.awaitLog(t, `"Cannot watch"`)
	p.setStep(t, namespace, numberedPod(3), "2")
	p.setStep(t, namespace, numberedPod(3), "3")
	p.remove(t, namespace, numberedPod(4))
	p.remove(t, namespace, numberedPod(5))
	p.create(t, namespace, numberedPod(5), "1")
	p.remove(t, namespace, numberedPod(6))
	p.create(t, namespace, numberedPod(6), "2")
	p.setStep(t, namespace, numberedPod(7), "2")
	p.setStep(t, namespace, numberedPod(7), "1")
	p.create(t, namespace, numberedPod(count), "1")
	if err := p.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A server that has just started knows nothing older.
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	x.up(t)
	// What is as it was sent is not sent again, what is gone is silent, and of
	// what came and went nobody can know.
	want := slices.Concat(all, []string{numberedPod(3) + " 3", numberedPod(6) + " 2", numberedPod(count) + " 1"})
	j.awaitCount(t, len(want))
	d.awaitLog(t, "Cannot go on watching; listing again")
	// The watch goes on, and knows what was there and what was not.
	p.remove(t, namespace, numberedPod(count))
	p.create(t, namespace, numberedPod(4), "1")
	want = append(want, numberedPod(count)+" 1", numberedPod(4)+" 1")
	j.awaitCount(t, len(want))
	if entries := d.metrics(t)[`labelstream_ledger_entries{resource="pods"}`]; entries != count {
		t.Errorf("labelstream_ledger_entries is %v, want %d", entries, count)
	}
	d.terminate(t)
	j.mustBe(t, want)
}

// mustBeAlive demands that an outage of others is no reason to start again.
func (d *daemon) mustBeAlive(t *testing.T) {
	t.Helper()
	if code, text := d.get(t, "/healthz"); code != http.StatusOK {
		t.Errorf("/healthz answers %d in an outage: %s", code, text)
	}
}

// TestDaemonDestinationDown is of a receiver that is away while much changes.
func TestDaemonDestinationDown(t *testing.T) {
	t.Parallel()
	const (
		namespace = "destination-down"
		count     = 100
		// perSecond changes of 60 KB each are 45 MB in the quick test's outage,
		// for which there is no room.
		perSecond = 50
		notes     = 30
	)
	outage := inSoak(2*time.Minute, 15*time.Second)
	p := shared.plane
	p.namespace(t, namespace)
	annotations := fat(notes)
	p.pods(t, count, func(i int) metav1.ObjectMeta {
		meta := inStep(namespace, numberedPod(i), "1")
		meta.Annotations = annotations
		return meta
	})
	j := newJournal(t)
	d := startDaemon(t, invocation{user: p.follower(t, namespace, "pods"), settings: following.and(settings{
		"DESTINATION": j.URL(), "NAMESPACES": namespace, "ANNOTATIONS_ENABLED": "true", "ANNOTATIONS_RESOURCES": "pods",
	})})
	j.awaitCount(t, 2*count)
	j.Down()
	tick := time.NewTicker(time.Second / perSecond)
	defer tick.Stop()
	for i := range int(outage/time.Second) * perSecond {
		p.setStep(t, namespace, numberedPod(i%count), strconv.Itoa(i+2))
		<-tick.C
	}
	d.mustBeAlive(t)
	if err := j.Up(); err != nil {
		t.Fatal(err)
	}
	j.awaitState(t, p.state(t, namespace))
	if peak := d.peakRSS(t); peak > 72<<20 {
		t.Errorf("the peak of resident memory is %.1f MiB, want at most 72", float64(peak)/(1<<20))
	}
	d.terminate(t)
	j.mustBeInOrder(t)
}
