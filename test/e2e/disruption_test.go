package e2e

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"labelstream/test/receiver"
)

const (
	// heavyPods of heavyKeys annotations are 24 MB, three times what a sender
	// may hold: while the receiver stalls, their list cannot be read to its end.
	heavyPods = 400
	heavyKeys = 30
)

var bothOfPods = settings{
	"LABELS_RESOURCES":      "pods",
	"ANNOTATIONS_ENABLED":   "true",
	"ANNOTATIONS_RESOURCES": "pods",
}

// stall makes the receiver keep every request open until release is called.
func stall(t *testing.T, s *receiver.Server) (release func()) {
	t.Helper()
	gate := make(chan struct{})
	s.Always(receiver.Hang(gate))
	open := true
	release = func() {
		if open {
			open = false
			close(gate)
		}
	}
	t.Cleanup(release)
	return release
}

// TestDisruptedLists has a control plane of its own, that it disturbs while a
// list is half read.
func TestDisruptedLists(t *testing.T) {
	t.Parallel()
	p := ownPlane(t)
	p.namespace(t, metav1.ObjectMeta{Name: "heavy"})
	annotations := fat(heavyKeys)
	p.pods(t, heavyPods, func(i int) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "heavy", Name: heavyPod(i), Annotations: annotations}
	})
	reader := p.grant(t, "", "pods")
	t.Run("API server killed and restarted", func(t *testing.T) { testKilled(t, p, reader) })
	t.Run("etcd compacted", func(t *testing.T) { testCompacted(t, p, reader) })
}

func heavyPod(i int) string { return fmt.Sprintf("heavy-%03d", i) }

// startStalled starts a run, and returns when its first request hangs.
func startStalled(t *testing.T, p *plane, reader string, s *receiver.Server) *process {
	t.Helper()
	// Small pages, so that there are many to come.
	run := launch(t, invocation{plane: p, user: reader, args: []string{"--once"},
		settings: bothOfPods.and(settings{"DESTINATION": s.URL(), "PAGE_SIZE": "20", "SEND_TIMEOUT": "5m"})})
	awaitRequests(t, s, 1)
	return run
}

func testKilled(t *testing.T, p *plane, reader string) {
	s := newReceiver(t)
	release := stall(t, s)
	run := startStalled(t, p, reader, s)
	p.Kill()
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	release()
	run.wait(t).mustSucceed(t)
	// The restarted server counts from zero.
	if p.lists(t, "200") == 0 {
		t.Error("the list was read to its end before the API server was killed: nothing was tested")
	}
	var want []string
	for i := range heavyPods {
		want = append(want, heavyPod(i))
	}
	compareHeavy(t, s, want)
}

// compareHeavy demands both series, whole, of each pod, and of no other.
func compareHeavy(t *testing.T, s *receiver.Server, pods []string) {
	t.Helper()
	var want, got []string
	for _, pod := range pods {
		want = append(want,
			fmt.Sprintf("cloudzero_pod_annotations of %s: %d labels", pod, heavyKeys+4),
			fmt.Sprintf("cloudzero_pod_labels of %s: 4 labels", pod))
	}
	for _, series := range s.All() {
		got = append(got, fmt.Sprintf("%s of %s: %d labels", series.Get("__name__"), series.Get("pod"), len(series.Labels)))
	}
	slices.Sort(got)
	compare(t, want, got)
}

func testCompacted(t *testing.T, p *plane, reader string) {
	s := newReceiver(t)
	release := stall(t, s)
	run := startStalled(t, p, reader, s)
	// A list that is younger than the run's: when it has expired, so has that.
	list, err := p.client.CoreV1().Pods("heavy").List(t.Context(), metav1.ListOptions{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	created, deleted := p.churn(t)
	if err := p.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.awaitExpired(t, "heavy", list.Continue)
	before := p.lists(t, "410")
	release()
	run.wait(t).mustSucceed(t)
	if p.lists(t, "410") == before {
		t.Error("the run's list did not expire: nothing was tested")
	}
	received := make(map[string]bool)
	for _, series := range s.All() {
		received[series.Get("__name__")+" "+series.Get("pod")] = true
	}
	for i := range heavyPods {
		// What came or went during the run may be there or not.
		for _, metric := range []string{"cloudzero_pod_labels ", "cloudzero_pod_annotations "} {
			if !received[metric+heavyPod(i)] && !slices.Contains(deleted, heavyPod(i)) {
				t.Errorf("%s%s is missing", metric, heavyPod(i))
			}
			delete(received, metric+heavyPod(i))
		}
	}
	for _, pod := range created {
		delete(received, "cloudzero_pod_labels "+pod)
		delete(received, "cloudzero_pod_annotations "+pod)
	}
	compare(t, nil, slices.Sorted(maps.Keys(received)))
}

// churn creates some pods, deletes some and changes some, spread over the
// list.
func (p *plane) churn(t *testing.T) (created, deleted []string) {
	t.Helper()
	pods := p.client.CoreV1().Pods("heavy")
	for i := 0; i < heavyPods; i += 20 {
		fresh := heavyPod(i) + "-fresh"
		_, err := pods.Create(t.Context(), pod(metav1.ObjectMeta{Namespace: "heavy", Name: fresh}), metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		created = append(created, fresh)
		if err := pods.Delete(t.Context(), heavyPod(i+5), metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		deleted = append(deleted, heavyPod(i+5))
		changed := []byte(`{"metadata":{"labels":{"changed":"yes"}}}`)
		var result *corev1.Pod
		if result, err = pods.Patch(t.Context(), heavyPod(i+10), types.MergePatchType, changed, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		if result.Labels["changed"] != "yes" {
			t.Fatalf("pod %s was not changed", result.Name)
		}
	}
	return created, deleted
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
	p.namespace(t, metav1.ObjectMeta{Name: namespace})
	annotations := fat(keys)
	p.pods(t, small+large, func(i int) metav1.ObjectMeta {
		if i < small {
			return metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("a-%03d", i)}
		}
		return metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("b-%03d", i), Annotations: annotations}
	})
	reader := p.grant(t, namespace, "pods")
	s := newReceiver(t)
	release := stall(t, s)
	run := launch(t, invocation{user: reader, args: []string{"--once"}, limit: stop + patience,
		settings: bothOfPods.and(settings{"DESTINATION": s.URL(), "NAMESPACES": namespace})})
	awaitRequests(t, s, 1)
	select {
	case <-time.After(stop):
	case <-run.ended:
	}
	release()
	run.wait(t).mustSucceed(t)
	var want, got []string
	for i := range small {
		want = append(want, fmt.Sprintf("annotations of a-%03d: 4 labels", i), fmt.Sprintf("labels of a-%03d: 4 labels", i))
	}
	for i := small; i < small+large; i++ {
		want = append(want, fmt.Sprintf("annotations of b-%03d: %d labels", i, keys+4), fmt.Sprintf("labels of b-%03d: 4 labels", i))
	}
	for _, series := range s.All() {
		got = append(got, fmt.Sprintf("%s of %s: %d labels",
			series.Get("__name__")[len("cloudzero_pod_"):], series.Get("pod"), len(series.Labels)))
	}
	slices.Sort(got)
	compare(t, want, got)
}
