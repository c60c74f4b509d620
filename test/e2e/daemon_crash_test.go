package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

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

// TestDaemonKilled kills the daemon at random moments, of its start, of its first
// list or of its watch, while the cluster changes.
func TestDaemonKilled(t *testing.T) {
	t.Parallel()
	const (
		namespace = "daemon-killed"
		count     = 300
		// longest is how long the daemon lives before it is killed, at most.
		longest = time.Second
	)
	rounds := inSoak(100, 8)
	p := shared.plane
	p.numbered(t, namespace, count)
	j := newJournal(t)
	j.cut = true
	inv := invocation{user: p.follower(t, namespace, "pods"), settings: following.and(settings{
		"DESTINATION": j.URL(), "NAMESPACES": namespace, "PAGE_SIZE": "50", "BATCH_SIZE": "20",
	})}
	changes := newChanger(t, p, namespace, count, 5*time.Millisecond)
	random := rand.New(rand.NewPCG(3, 4))
	for range rounds {
		changes.start()
		victim := launch(t, inv)
		elapse(t, time.Duration(random.Int64N(int64(longest))))
		victim.kill(t)
		// The next has the rest of the changes to follow.
		next := startDaemon(t, inv)
		changes.stop()
		j.awaitState(t, p.state(t, namespace))
		next.kill(t)
	}
	j.mustBeInOrder(t)
}
