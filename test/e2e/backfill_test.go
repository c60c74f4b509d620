// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/test/receiver"
)

// TestManyPods is not parallel: it counts the API server's requests.
func TestManyPods(t *testing.T) {
	const (
		namespace = "many"
		count     = 5000
		// minPages is how many pages of the default PAGE_SIZE hold them all, and
		// one for the small first ones.
		minPages = 11
	)
	p := shared.plane
	p.numbered(t, namespace, count)
	j := newJournal(t)
	inv := invocation{user: p.reader(t, namespace, "pods"), settings: settings{
		"DESTINATION": j.URL(), "LABELS_RESOURCES": "pods", "NAMESPACES": namespace,
	}}
	before := p.lists(t, "200")
	r := once(t, inv)
	r.mustSucceed(t)
	if pages := p.lists(t, "200") - before; pages < minPages {
		t.Errorf("%d pods came in %d pages, want at least %d", count, pages, minPages)
	}
	j.mustHave(t, podSeries(namespace, count))
	r.mustHaveSent(t, "pods", count)
}

// TestStop sends signals to one-shot runs that hold records and cannot read on.
func TestStop(t *testing.T) {
	t.Parallel()
	const namespace = "stopped"
	p := shared.plane
	p.numbered(t, namespace, 500)
	inv := invocation{user: p.reader(t, namespace, "pods"), settings: settings{
		"LABELS_RESOURCES": "pods", "NAMESPACES": namespace, "BATCH_SIZE": "10", "PAGE_SIZE": "10", "SEND_TIMEOUT": "5m",
	}}
	for _, test := range []struct {
		name    string
		signal  syscall.Signal
		timeout string
		takes   bool
	}{
		{"receiver hangs", syscall.SIGINT, "1s", false},
		{"receiver takes what is held", syscall.SIGTERM, "1m", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			j := newJournal(t)
			stalled := j.stall(t)
			run := launchOnce(t, inv.with(settings{"DESTINATION": j.URL(), "SHUTDOWN_TIMEOUT": test.timeout}))
			stalled.await(t)
			run.signal(t, test.signal)
			run.awaitLog(t, "Stopping")
			if test.takes {
				stalled.release()
			}
			r := run.wait(t)
			r.mustFail(t)
			r.mustSayOnce(t, "stopped by a signal")
			sent := len(j.Series())
			if (sent > 0) != test.takes {
				t.Errorf("%d records were received of what the run held", sent)
			}
			r.mustHaveSent(t, "pods", sent)
		})
	}
}

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

// TestDisruptedList kills and restarts the API server while a list is half read,
// and makes it forget the list's version.
func TestDisruptedList(t *testing.T) {
	t.Parallel()
	p := ownPlane(t)
	p.namespace(t, "heavy")
	annotations := fat(heavyKeys)
	p.pods(t, heavyPods, func(i int) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "heavy", Name: heavyPod(i), Annotations: annotations}
	})
	j := newJournal(t)
	run, stalled := startStalled(t, j, invocation{plane: p, user: p.reader(t, "", "pods"),
		// Small pages, so that there are many to come.
		settings: bothOfPods.and(settings{"PAGE_SIZE": "20", "SEND_TIMEOUT": "5m"})})
	// A list that is younger than the run's: when it has expired, so has that.
	list, err := p.client.CoreV1().Pods("heavy").List(t.Context(), metav1.ListOptions{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	var want, deleted []string
	for i := range heavyPods {
		switch i % 20 {
		case 5:
			p.remove(t, "heavy", heavyPod(i))
			deleted = append(deleted, heavyPod(i))
			continue
		case 10:
			p.setStep(t, "heavy", heavyPod(i), "2")
		}
		want = append(want, shapes(heavyPod(i), heavyKeys)...)
	}
	if err := p.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.awaitExpired(t, "heavy", list.Continue)
	before := p.lists(t, "410")
	stalled.release()
	run.wait(t).mustSucceed(t)
	if p.lists(t, "410") == before {
		t.Error("the run's list did not expire: nothing was tested")
	}
	// What is deleted while it is read may be there or not.
	compare(t, want, shapesOf(slices.DeleteFunc(j.All(), func(s receiver.Series) bool { return slices.Contains(deleted, s.Get("pod")) })))
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

// shapesOf leaves the step out, which changes while the pods are read.
func shapesOf(all []receiver.Series) []string {
	var got []string
	for _, series := range all {
		count := len(series.Labels)
		if series.Get("label_step") != "" {
			count--
		}
		got = append(got, fmt.Sprintf("%s of %s: %d labels", series.Get("__name__"), series.Get("pod"), count))
	}
	return got
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
	metas := make([]metav1.ObjectMeta, small+large)
	for i := range metas {
		metas[i] = metav1.ObjectMeta{Namespace: namespace, Name: heavyPod(i)}
		if i >= small {
			metas[i].Annotations = annotations
		}
		want = append(want, shapes(heavyPod(i), len(metas[i].Annotations))...)
	}
	p.pods(t, len(metas), func(i int) metav1.ObjectMeta { return metas[i] })
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
