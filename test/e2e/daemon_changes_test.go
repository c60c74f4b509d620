package e2e

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestDaemonChanges follows one change after the other, and demands a sample for
// each, in order, and not one more.
func TestDaemonChanges(t *testing.T) {
	t.Parallel()
	const namespace = "changes"
	p := shared.plane
	p.namespace(t, namespace)
	p.create(t, namespace, "old", "1")
	j := newJournal(t)
	d := startDaemon(t, invocation{user: p.follower(t, namespace, "pods"),
		settings: following.and(settings{"DESTINATION": j.URL(), "NAMESPACES": namespace})})
	j.awaitCount(t, 1)

	want := []string{"old 1"}
	expect := func(samples ...string) {
		t.Helper()
		want = append(want, samples...)
		j.awaitCount(t, len(want))
	}
	p.create(t, namespace, "new", "1")
	expect("new 1")
	p.setStep(t, namespace, "new", "2")
	expect("new 2")
	p.setStep(t, namespace, "old", "2")
	p.setStep(t, namespace, "old", "3")
	expect("old 2", "old 3")
	for i := range 5 {
		p.updateStatus(t, namespace, "new", strconv.Itoa(i))
	}
	// The last state of an object is sent once more when it goes.
	p.remove(t, namespace, "new")
	expect("new 2")
	p.create(t, namespace, "new", "3")
	expect("new 3")
	p.remove(t, namespace, "new")
	p.create(t, namespace, "new", "3")
	expect("new 3", "new 3")
	p.setStep(t, namespace, "new", "4")
	p.remove(t, namespace, "new")
	p.create(t, namespace, "new", "5")
	expect("new 4", "new 4", "new 5")
	expect(p.inOrder(t, namespace, 200)...)
	p.updateStatus(t, namespace, "old", "done")
	p.setStep(t, namespace, "old", "end")
	expect("old end")

	d.terminate(t)
	j.mustBe(t, want)
}

// inOrder creates many pods at a time, and returns what is received of them, in
// the order in which they were created.
func (p *plane) inOrder(t *testing.T, namespace string, n int) []string {
	t.Helper()
	p.pods(t, n, func(i int) metav1.ObjectMeta { return inStep(namespace, numberedPod(i), "1") })
	list, err := p.client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ours := slices.DeleteFunc(list.Items, func(pod corev1.Pod) bool { return pod.Name < numberedPod(0) || pod.Name > numberedPod(n) })
	// Nothing else has changed them, so their versions are those of creation.
	slices.SortFunc(ours, func(a, b corev1.Pod) int { return cmp.Compare(version(t, a), version(t, b)) })
	var samples []string
	for i := range ours {
		samples = append(samples, ours[i].Name+" 1")
	}
	return samples
}

func version(t *testing.T, pod corev1.Pod) int {
	t.Helper()
	n, err := strconv.Atoi(pod.ResourceVersion)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// heldPage is a page of a list that waits before it is asked for.
type heldPage struct {
	// list and page say which, both from 1.
	list, page     int
	begun, release chan struct{}

	mu         sync.Mutex
	lists, now int
}

// onRequest counts lists and their pages, and keeps the one waiting.
func (h *heldPage) onRequest(r *http.Request) {
	if !isList(r) {
		return
	}
	h.mu.Lock()
	h.now++
	if !r.URL.Query().Has("continue") {
		h.lists, h.now = h.lists+1, 1
	}
	held := h.lists == h.list && h.now == h.page
	h.mu.Unlock()
	if !held {
		return
	}
	close(h.begun)
	select {
	case <-h.release:
	case <-r.Context().Done():
	}
}

// TestDaemonChangesWithinResync changes objects while a list that sends all again
// has come half way. The pages that follow are older than the changes, which come
// after them by the watch.
func TestDaemonChangesWithinResync(t *testing.T) {
	t.Parallel()
	const (
		namespace = "within-resync"
		count     = 60
		page      = 20
	)
	p := shared.plane
	all := p.numbered(t, namespace, count)
	held := &heldPage{list: 2, page: 2, begun: make(chan struct{}), release: make(chan struct{})}
	x := newProxy(t, p, p.follower(t, namespace, "pods"), held.onRequest)
	j := newJournal(t)
	d := startDaemon(t, invocation{kubeconfig: x.kubeconfig(t), settings: following.and(settings{
		"DESTINATION": j.URL(), "NAMESPACES": namespace, "PAGE_SIZE": strconv.Itoa(page), "RESYNC_INTERVAL": "20s",
	})})
	awaitClosed(t, "the second page of the second list", held.begun)
	want := slices.Concat(all, all[:page])
	j.awaitCount(t, len(want))
	p.setStep(t, namespace, numberedPod(count-1), "2")
	p.remove(t, namespace, numberedPod(count-2))
	p.create(t, namespace, "pod-late", "1")
	p.setStep(t, namespace, numberedPod(0), "2")
	close(held.release)
	want = append(want, all[page:]...)
	want = append(want, numberedPod(count-1)+" 2", numberedPod(count-2)+" 1", "pod-late 1", numberedPod(0)+" 2")
	j.awaitCount(t, len(want))
	d.terminate(t)
	j.mustBe(t, want)
}

// TestDaemonResyncsWhileChanging changes objects 50 times a second while resyncs
// follow one another and the receiver stops now and then: no older state of an
// object is received after a newer one, and the last ones are right.
func TestDaemonResyncsWhileChanging(t *testing.T) {
	t.Parallel()
	const (
		namespace = "resyncs"
		count     = 100
	)
	p := shared.plane
	p.numbered(t, namespace, count)
	j := newJournal(t)
	d := startDaemon(t, invocation{user: p.follower(t, namespace, "pods"), settings: following.and(settings{
		// Small batches: the few that the daemon may hold are soon full.
		"DESTINATION": j.URL(), "NAMESPACES": namespace, "PAGE_SIZE": "10", "BATCH_SIZE": "5", "RESYNC_INTERVAL": "1s", "SEND_TIMEOUT": "5m",
	})})
	changes := newChanger(t, p, namespace, count, 20*time.Millisecond)
	changes.start()
	for range inSoak(60, 4) {
		receiver := j.stall(t)
		receiver.await(t)
		elapse(t, time.Second)
		receiver.release()
		elapse(t, 2*time.Second)
	}
	changes.stop()
	j.awaitState(t, p.state(t, namespace))
	resent := d.metrics(t)[`labelstream_records_total{resource="pods",source="resync"}`]
	d.terminate(t)
	if resent < count {
		t.Errorf("resyncs sent %v records, want each object at least once", resent)
	}
	j.mustBeInOrder(t)
	last := make(map[string]int)
	for i, s := range j.all() {
		step, err := strconv.Atoi(s.Step)
		if err != nil {
			t.Fatal(err)
		}
		if step < last[s.Object] {
			t.Errorf("sample %d of %s is of step %d, after one of step %d", i, s.Object, step, last[s.Object])
		}
		last[s.Object] = step
	}
}
