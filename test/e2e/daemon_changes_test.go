// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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
	p.updateStatus(t, namespace, "old", "done")
	p.setStep(t, namespace, "old", "end")
	expect("old end")

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
	j.mustRise(t)
}

// mustRise demands that no older step of an object is received after a newer one.
func (j *journal) mustRise(t *testing.T) {
	t.Helper()
	last := make(map[string]int)
	for i, s := range j.all() {
		// Those that are not numbered are no pods of a changer.
		if !strings.HasPrefix(s.Object, "pod-") {
			continue
		}
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

// changer creates, relabels and deletes pods of a namespace, the same ones in the
// same order for the same seed, until it is stopped.
type changer struct {
	t         *testing.T
	plane     *plane
	namespace string
	count     int
	pause     time.Duration
	random    *rand.Rand
	step      int
	// relabelsOnly says that none is created or deleted.
	relabelsOnly bool

	stopping chan struct{}
	running  sync.WaitGroup
	err      error
}

func newChanger(t *testing.T, p *plane, namespace string, count int, pause time.Duration) *changer {
	// A fixed seed: what happens to the daemon is random enough.
	c := &changer{t: t, plane: p, namespace: namespace, count: count, pause: pause, random: rand.New(rand.NewPCG(1, 2))}
	// A test that fails does not come to stop it; the context ends the change in
	// hand.
	t.Cleanup(c.end)
	return c
}

func (c *changer) start() {
	c.stopping = make(chan struct{})
	c.running.Go(func() {
		for c.err == nil {
			select {
			case <-c.stopping:
				return
			case <-time.After(c.pause):
				c.err = c.change()
			}
		}
	})
}

// stop returns when the last change has been made.
func (c *changer) stop() {
	c.t.Helper()
	c.end()
	if c.err != nil {
		c.t.Fatal(c.err)
	}
}

func (c *changer) end() {
	if c.stopping == nil {
		return
	}
	close(c.stopping)
	c.running.Wait()
	c.stopping = nil
}

// change makes one: of ten, eight relabel, one deletes, one creates or does
// nothing where the pod is there.
func (c *changer) change() error {
	pods, ctx := c.plane.client.CoreV1().Pods(c.namespace), c.t.Context()
	c.step++
	name, step := numberedPod(c.random.IntN(c.count)), strconv.Itoa(c.step)
	var err error
	switch kind := c.random.IntN(10); {
	case kind == 0 && !c.relabelsOnly:
		err = pods.Delete(ctx, name, metav1.DeleteOptions{})
	case kind == 1 && !c.relabelsOnly:
		if _, err = pods.Create(ctx, pod(inStep(c.namespace, name, step)), metav1.CreateOptions{}); apierrors.IsAlreadyExists(err) {
			err = nil
		}
	default:
		var changed *corev1.Pod
		changed, err = pods.Patch(ctx, name, types.MergePatchType, []byte(stepPatch(step)), metav1.PatchOptions{})
		if err == nil && changed.Labels["step"] != step {
			err = errors.New("the pod was not changed")
		}
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("change %s: %w", name, err)
	}
	return nil
}
