package e2e

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestDaemonChanges follows one change after the other, and demands a sample for
// each, in order, and not one more.
func TestDaemonChanges(t *testing.T) {
	t.Parallel()
	const namespace = "changes"
	p := shared.plane
	p.namespace(t, metav1.ObjectMeta{Name: namespace})
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
	// The last that is known of an object is sent once more when it goes.
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
	many := p.inOrder(t, namespace, 200)
	expect(many...)
	p.updateStatus(t, namespace, "old", "done")
	p.setStep(t, namespace, "old", "end")
	expect("old end")

	d.terminate(t)
	compareSteps(t, j.all(), want)
	j.mustBeInOrder(t)
	mustBeSeries(t, j, namespace)
}

// inOrder creates many pods at a time, and returns what is received of them, in
// the order in which they came to be.
func (p *plane) inOrder(t *testing.T, namespace string, n int) []string {
	t.Helper()
	p.pods(t, n, func(i int) metav1.ObjectMeta { return inStep(namespace, numberedPod(i), "1") })
	list, err := p.client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var ours []corev1.Pod
	for _, pod := range list.Items {
		if pod.Name >= numberedPod(0) && pod.Name <= numberedPod(n) {
			ours = append(ours, pod)
		}
	}
	// Nothing else has changed them, so their versions are those of creation.
	slices.SortFunc(ours, func(a, b corev1.Pod) int { return cmp.Compare(version(t, a), version(t, b)) })
	var samples []string
	for _, pod := range ours {
		samples = append(samples, pod.Name+" 1")
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

// mustBeSeries demands that the journal's samples are of the series that pods of
// a namespace have, whole.
func mustBeSeries(t *testing.T, j *journal, namespace string) {
	t.Helper()
	for _, s := range j.all() {
		want := fmt.Sprintf(`cloudzero_pod_labels{label_step=%q,namespace=%q,pod=%q,resource_type="pod"}`, s.Step, namespace, s.Object)
		if s.Series != want {
			t.Errorf("series %s, want %s", s.Series, want)
		}
	}
}

// lists holds back pages of a kind's lists, so that a test can do things in the
// middle of one.
type lists struct {
	// hold has the pages for which the daemon has to wait, by the number of the
	// list and that of the page in it, both from 1.
	hold map[[2]int]*held

	mu         sync.Mutex
	list, page int
}

// held is a page that waits.
type held struct{ begun, release chan struct{} }

func newHeld() *held { return &held{make(chan struct{}), make(chan struct{})} }

// onRequest counts lists and their pages, and keeps those waiting that are to.
func (l *lists) onRequest(r *http.Request) {
	if !isList(r) {
		return
	}
	l.mu.Lock()
	l.page++
	if !r.URL.Query().Has("continue") {
		l.list, l.page = l.list+1, 1
	}
	h := l.hold[[2]int{l.list, l.page}]
	l.mu.Unlock()
	if h == nil {
		return
	}
	close(h.begun)
	select {
	case <-h.release:
	case <-r.Context().Done():
	}
}

// await waits until the daemon has asked for the page.
func (h *held) await(t *testing.T, d *daemon) {
	t.Helper()
	select {
	case <-h.begun:
	case <-d.ended:
		t.Fatal("the daemon has ended")
	case <-time.After(patience):
		t.Fatal("no such page was asked for")
	}
}

// TestDaemonChangesWithinResync changes objects while a list that sends all again
// has come half way. The pages that follow are older than the changes.
func TestDaemonChangesWithinResync(t *testing.T) {
	t.Parallel()
	const (
		namespace = "within-resync"
		count     = 60
		page      = 20
	)
	p := shared.plane
	all := p.numbered(t, namespace, count)
	reader := p.follower(t, namespace, "pods")
	second, third := newHeld(), newHeld()
	l := &lists{hold: map[[2]int]*held{{2, 2}: second, {3, 1}: third}}
	x := newProxy(t, p, reader, l.onRequest)
	j := newJournal(t)
	d := startDaemon(t, invocation{kubeconfig: x.kubeconfig(t), settings: following.and(settings{
		"DESTINATION": j.URL(), "NAMESPACES": namespace, "PAGE_SIZE": strconv.Itoa(page), "RESYNC_INTERVAL": "1s",
	})})
	want := slices.Concat(all, all[:page])
	expect := func(samples ...string) {
		t.Helper()
		want = append(want, samples...)
		j.awaitCount(t, len(want))
	}
	second.await(t, d)
	expect()
	// The next pages show the first of these as it was, the second as if it
	// were there, the third not at all.
	p.setStep(t, namespace, numberedPod(count-1), "2")
	expect(numberedPod(count-1) + " 2")
	// A pod's end is announced by a change of it. That event comes before the
	// list's page, so it is what sends the pod again.
	p.remove(t, namespace, numberedPod(count-2))
	expect(numberedPod(count-2)+" 1", numberedPod(count-2)+" 1")
	p.create(t, namespace, "pod-late", "1")
	expect("pod-late 1")
	// This one has been listed.
	p.setStep(t, namespace, numberedPod(0), "2")
	expect(numberedPod(0) + " 2")
	close(second.release)
	expect(all[page : count-2]...)
	third.await(t, d)
	// Only the end of an object that is remembered is sent: the list that did
	// not have it has not made it forgotten.
	p.remove(t, namespace, "pod-late")
	expect("pod-late 1", "pod-late 1")
	d.terminate(t)
	compareSteps(t, j.all(), want)
	j.mustBeInOrder(t)
}

// TestDaemonRelabelsWhileStalled changes objects again and again while resyncs
// follow one another and the receiver stops now and then, and demands that no
// older state is received after a newer one.
func TestDaemonRelabelsWhileStalled(t *testing.T) {
	t.Parallel()
	const (
		namespace = "while-stalled"
		count     = 100
	)
	rounds := inSoak(60, 4)
	p := shared.plane
	p.numbered(t, namespace, count)
	j := newJournal(t)
	d := startDaemon(t, invocation{user: p.follower(t, namespace, "pods"), settings: following.and(settings{
		// Small batches: the few that the daemon may hold are soon full.
		"DESTINATION": j.URL(), "NAMESPACES": namespace, "PAGE_SIZE": "10", "BATCH_SIZE": "5", "RESYNC_INTERVAL": "1s", "SEND_TIMEOUT": "5m",
	})})
	j.awaitState(t, p.state(t, namespace))
	for round := range rounds {
		receiver := j.stall(t)
		// Without changes it is a resync that is stopped.
		receiver.await(t)
		step := strconv.Itoa(round + 2)
		for i := range count {
			p.setStep(t, namespace, numberedPod(i), step)
		}
		receiver.release()
		j.awaitState(t, p.state(t, namespace))
	}
	d.terminate(t)
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
	if diff := gocmp.Diff(p.state(t, namespace), latest(j.all())); diff != "" {
		t.Errorf("the receiver does not hold the cluster's state (-cluster +receiver):\n%s", diff)
	}
}
