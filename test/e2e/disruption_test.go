package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/test/receiver"
)

const (
	// heavyPods of heavyKeys annotations are 24 MB, three times what the queue
	// holds: while the receiver stalls, their list cannot be read to its end.
	heavyPods = 400
	heavyKeys = 30
)

var bothOfPods = settings{
	"LABELS_RESOURCES":      "pods",
	"ANNOTATIONS_ENABLED":   "true",
	"ANNOTATIONS_RESOURCES": "pods",
}

// TestDisruptedLists disturbs a control plane of its own while a list is half
// read.
func TestDisruptedLists(t *testing.T) {
	t.Parallel()
	p := ownPlane(t)
	p.namespace(t, "heavy")
	annotations := fat(heavyKeys)
	p.pods(t, heavyPods, func(i int) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "heavy", Name: heavyPod(i), Annotations: annotations}
	})
	// Small pages, so that there are many to come.
	inv := invocation{plane: p, user: p.reader(t, "", "pods"),
		settings: bothOfPods.and(settings{"PAGE_SIZE": "20", "SEND_TIMEOUT": "5m"})}
	t.Run("API server killed and restarted", func(t *testing.T) {
		j := newJournal(t)
		run, stalled := startStalled(t, j, inv)
		p.Kill()
		if err := p.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		stalled.release()
		run.wait(t).mustSucceed(t)
		// The restarted server counts from zero.
		if p.lists(t, "200") == 0 {
			t.Error("the list was read to its end before the API server was killed: nothing was tested")
		}
		var want []string
		for i := range heavyPods {
			want = append(want, shapes(heavyPod(i), heavyKeys)...)
		}
		compare(t, want, shapesOf(j.All()))
	})
	t.Run("etcd compacted", func(t *testing.T) { testCompacted(t, p, inv) })
}

func heavyPod(i int) string { return fmt.Sprintf("heavy-%03d", i) }

// startStalled starts a run, and returns when its first request hangs.
func startStalled(t *testing.T, j *journal, inv invocation) (*run, *stalled) {
	t.Helper()
	stalled := j.stall(t)
	run := launchOnce(t, inv.with(settings{"DESTINATION": j.URL()}))
	stalled.await(t)
	return run, stalled
}

// shapes are what the series of a pod with so many annotations look like: each has
// four labels of its own.
func shapes(pod string, annotations int) []string {
	return []string{
		fmt.Sprintf("cloudzero_pod_annotations of %s: %d labels", pod, annotations+4),
		fmt.Sprintf("cloudzero_pod_labels of %s: 4 labels", pod),
	}
}

func shapesOf(all []receiver.Series) []string {
	var got []string
	for _, series := range all {
		got = append(got, fmt.Sprintf("%s of %s: %d labels", series.Get("__name__"), series.Get("pod"), len(series.Labels)))
	}
	return got
}

// testCompacted makes the API server forget the list's version.
func testCompacted(t *testing.T, p *plane, inv invocation) {
	j := newJournal(t)
	run, stalled := startStalled(t, j, inv)
	// A list that is younger than the run's: when it has expired, so has that.
	list, err := p.client.CoreV1().Pods("heavy").List(t.Context(), metav1.ListOptions{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	created, changed, deleted := p.churn(t)
	if err := p.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.awaitExpired(t, "heavy", list.Continue)
	before := p.lists(t, "410")
	stalled.release()
	run.wait(t).mustSucceed(t)
	if p.lists(t, "410") == before {
		t.Error("the run's list did not expire: nothing was tested")
	}
	// What came, went or changed during the run may be there or not.
	uncertain := slices.Concat(created, changed, deleted)
	var want []string
	for i := range heavyPods {
		if !slices.Contains(uncertain, heavyPod(i)) {
			want = append(want, shapes(heavyPod(i), heavyKeys)...)
		}
	}
	received := slices.DeleteFunc(j.All(), func(s receiver.Series) bool { return slices.Contains(uncertain, s.Get("pod")) })
	compare(t, want, shapesOf(received))
	for _, pod := range changed {
		if !slices.ContainsFunc(j.Series(), func(series string) bool {
			return strings.HasPrefix(series, "cloudzero_pod_labels{") && strings.Contains(series, `pod="`+pod+`"`)
		}) {
			t.Errorf("%s is missing", pod)
		}
	}
}

// churn creates some pods, changes some and deletes some, spread over the list.
func (p *plane) churn(t *testing.T) (created, changed, deleted []string) {
	t.Helper()
	for i := 0; i < heavyPods; i += 20 {
		created = append(created, heavyPod(i)+"-fresh")
		changed = append(changed, heavyPod(i+10))
		deleted = append(deleted, heavyPod(i+5))
		p.create(t, "heavy", heavyPod(i)+"-fresh", "1")
		p.setStep(t, "heavy", heavyPod(i+10), "2")
		p.remove(t, "heavy", heavyPod(i+5))
	}
	return created, changed, deleted
}

// awaitExpired waits until the API server cannot continue a list that was begun
// at a certain time.
func (p *plane) awaitExpired(t *testing.T, namespace, token string) {
	t.Helper()
	p.eventually(t, func(ctx context.Context) (bool, error) {
		_, err := p.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{Limit: 1, Continue: token})
		if apierrors.IsResourceExpired(err) {
			return true, nil
		}
		return false, err
	})
}

// TestFatPageAndLongStall reads a page of 15 MB while the receiver stops for
// longer than an API server leaves a response open.
func TestFatPageAndLongStall(t *testing.T) {
	t.Parallel()
	const (
		namespace = "fat-page"
		// By the small ones the pages have grown when the fat ones come.
		small, large = 600, 64
		keys         = 125
		stop         = 100 * time.Second
	)
	p := shared.plane
	p.namespace(t, namespace)
	annotations := fat(keys)
	var want []string
	for i := range small + large {
		if i < small {
			want = append(want, shapes(fmt.Sprintf("a-%03d", i), 0)...)
		} else {
			want = append(want, shapes(fmt.Sprintf("b-%03d", i), keys)...)
		}
	}
	p.pods(t, small+large, func(i int) metav1.ObjectMeta {
		if i < small {
			return metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("a-%03d", i)}
		}
		return metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("b-%03d", i), Annotations: annotations}
	})
	j := newJournal(t)
	run, stalled := startStalled(t, j, invocation{user: p.reader(t, namespace, "pods"), limit: stop + patience,
		settings: bothOfPods.and(settings{"NAMESPACES": namespace, "SEND_TIMEOUT": "5m"})})
	select {
	case <-time.After(stop):
	case <-run.ended:
	}
	stalled.release()
	run.wait(t).mustSucceed(t)
	compare(t, want, shapesOf(j.All()))
}
