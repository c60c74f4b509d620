// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/config"
	"labelstream/record"
)

const jobsPath = "/apis/batch/v1/jobs"

func jobsKind() *Kind { return newKind("batch", "v1", "jobs", "Job", true) }

func selector(t *testing.T, text string) (s config.Selector) {
	t.Helper()
	if err := s.Decode(text); err != nil {
		t.Fatal(err)
	}
	return s
}

// inherits has objects take the label app from their namespace.
func (b *bench) inherits() {
	b.cfg.InheritNamespaceLabels = config.Patterns{{Regexp: regexp.MustCompile("^app$")}}
}

// bare is an object without labels.
func bare(namespace, name string) metav1.PartialObjectMetadata {
	o := named(namespace, name)
	o.Labels = nil
	return o
}

// TestInherited reads the namespaces first, though they are slow and the kind is not sent. A
// relabelled one makes what is in namespaces due: it is listed once for all changes within 30 s,
// and only what differs is sent. So is what came before its namespace.
func TestInherited(t *testing.T) {
	inBubble(t, config.ChangesWatch, func(t *testing.T, b *bench) {
		b.inherits()
		namespaces := namespacesKind()
		namespaces.Labels = false
		b.api.set(namespacesPath, at(named("", "shop"), "5", "one"), at(named("", "bank"), "5", "two"))
		b.api.script[namespacesPath] = []answer{func(w http.ResponseWriter, r *http.Request, body []byte) {
			time.Sleep(time.Minute)
			serve(w, r, body)
		}}
		b.api.set(podsPath, bare("shop", "a"), podB, bare("bank", "c"))
		relabelled := make(chan []byte)
		b.api.watches[namespacesPath] = []answer{live(relabelled)}
		created := make(chan []byte)
		b.api.watches[podsPath] = []answer{live(created)}
		defer b.start(t, podsKind(), nodesKind(), namespaces)()
		time.Sleep(59 * time.Second)
		b.expectRecords(t, nil)
		time.Sleep(2 * time.Second)
		b.expectSent(t, "after the namespaces", "a one", "b b", "pod bank/c two")
		relabelled <- modified(t, at(named("", "shop"), "200", "three"))
		relabelled <- modified(t, at(named("", "shop"), "201", "four"))
		relabelled <- added(t, at(named("", "unused"), "202", "six"))
		created <- added(t, bare("new", "d"))
		synctest.Wait()
		relabelled <- added(t, at(named("", "new"), "203", "five"))
		time.Sleep(29 * time.Second)
		b.expectSent(t, "before they are due", "pod new/d")
		b.api.set(podsPath, bare("shop", "a"), podB, bare("bank", "c"), bare("new", "d"))
		time.Sleep(time.Minute)
		b.expectSent(t, "when they are due", "a four", "pod new/d five")
		if n := len(slices.DeleteFunc(b.api.asked(), func(path string) bool { return path != podsList })); n != 2 {
			t.Errorf("pods were listed %d times, want twice", n)
		}
		relabelled <- deleted(t, at(named("", "bank"), "204", "two"))
		synctest.Wait()
		c := b.Informers.namespaces.find(nil, []byte("bank"))
		if got := fmt.Sprintf("%s", c.labels); got != "[{app two}]" {
			t.Errorf("a namespace that was just deleted gives %s", got)
		}
		var bytes int
		for _, line := range gathered(t, b.registry) {
			if text, ok := strings.CutPrefix(line, "labelstream_parents_bytes resource=namespaces "); ok {
				fmt.Sscan(text, &bytes)
			}
		}
		if least := 4 * parentBytes; bytes < least || bytes > 2*least {
			t.Errorf("4 namespaces take %d bytes, want some more than %d", bytes, least)
		}
	})
}

// TestNamespacesServedDifferently has namespaces that cannot be listed, and are then served in
// another version, twice. What is in them is not read for ever without them.
func TestNamespacesServedDifferently(t *testing.T) {
	inBubble(t, config.ChangesWatch, func(t *testing.T, b *bench) {
		b.inherits()
		b.api.script[namespacesPath] = repeat(100, func(_ http.ResponseWriter, r *http.Request, _ []byte) { <-r.Context().Done() })
		b.api.set(podsPath, bare("shop", "a"))
		defer b.start(t, podsKind(), namespacesKind())()
		time.Sleep(time.Second)
		b.expectSent(t, "without the namespaces")
		for _, version := range []string{"v2", "v3"} {
			b.api.set("/api/"+version+"/namespaces", at(named("", "shop"), "5", "one"))
			b.Add([]*Kind{newKind("", version, "namespaces", "Namespace", false)})
			time.Sleep(time.Minute)
		}
		b.expectSent(t, "with them", "a", "namespace /shop one", "a one", "namespace /shop one")
	})
}

// TestWithoutNamespaces does not wait for ever for what may not be read.
func TestWithoutNamespaces(t *testing.T) {
	inBubble(t, once, func(t *testing.T, b *bench) {
		b.inherits()
		b.api.script[namespacesPath] = repeat(100, forbidden())
		b.api.set(podsPath, bare("shop", "a"))
		b.backfill(t, podsKind(), namespacesKind())
		b.expectSent(t, "without", "a")
		if status := b.Status(); !status[0].Synced || !status[1].Final {
			t.Errorf("pods %+v, namespaces %+v; want the first read, the second refused", status[0], status[1])
		}
	})
}

// TestParentsAreBounded keeps what was there first, and says once that there is more.
func TestParentsAreBounded(t *testing.T) {
	inBubble(t, once, func(t *testing.T, b *bench) {
		b.inherits()
		b.backfill(t, podsKind())
		value := strings.Repeat("x", 1<<10)
		for i := range maxParentBytes >> 9 {
			o := &record.Object{Name: fmt.Appendf(nil, "n-%d", i)}
			b.Informers.namespaces.show(nil, o, parent{labels: []record.KeyValue{{Key: []byte("app"), Value: []byte(value)}}})
		}
		if bytes := b.Informers.namespaces.bytes; bytes > maxParentBytes || bytes < maxParentBytes*9/10 {
			t.Errorf("%d bytes, want %d at most", bytes, maxParentBytes)
		}
		if first := b.Informers.namespaces.find(nil, []byte("n-0")); len(first.labels) != 1 {
			t.Error("the first namespace was forgotten")
		}
		b.expectLogs(t, "warning: There are more parents than can be kept; nothing is taken from the others")
	})
}

// TestWorkloadOfCronJobs takes a job's controller where jobs are read, also of a job that is
// shown after its pod.
func TestWorkloadOfCronJobs(t *testing.T) {
	inBubble(t, config.ChangesWatch, func(t *testing.T, b *bench) {
		yes := true
		b.cfg.OwnerLabels = true
		b.cfg.Labels.Filters = config.Patterns{{Regexp: regexp.MustCompile("^workload")}}
		ownedBy := func(o metav1.PartialObjectMetadata, kind, name string) metav1.PartialObjectMetadata {
			o.OwnerReferences = []metav1.OwnerReference{{Kind: kind, Name: name, Controller: &yes}}
			return o
		}
		early, late := ownedBy(bare("shop", "a"), "Job", "nightly-1"), ownedBy(bare("shop", "b"), "Job", "nightly-2")
		b.api.set(jobsPath, ownedBy(bare("shop", "nightly-1"), "CronJob", "nightly"))
		b.api.set(podsPath, early)
		jobs, pods := make(chan []byte), make(chan []byte)
		b.api.watches[jobsPath], b.api.watches[podsPath] = []answer{live(jobs)}, []answer{live(pods)}
		stop := b.start(t, podsKind(), jobsKind())
		synctest.Wait()
		pods <- added(t, late)
		synctest.Wait()
		b.api.set(podsPath, early, late)
		jobs <- added(t, ownedBy(bare("shop", "nightly-2"), "CronJob", "nightly"))
		time.Sleep(time.Minute)
		stop()
		const cronJob = "__name__=pod_labels label_workload_kind=CronJob label_workload_name=nightly namespace=shop pod=%s resource_type=pod"
		got := slices.DeleteFunc(b.sink.series, func(series string) bool { return !strings.HasPrefix(series, "__name__=pod") })
		expect(t, "series of pods", []string{fmt.Sprintf(cronJob, "a"),
			"__name__=pod_labels label_workload_kind=Job label_workload_name=nightly-2 namespace=shop pod=b resource_type=pod", fmt.Sprintf(cronJob, "b")}, got)
	})
}

// TestSelectors has the API server select the objects, and the namespaces' table what is in
// them. What is not selected any more is told as ended.
func TestSelectors(t *testing.T) {
	inBubble(t, config.ChangesWatch, func(t *testing.T, b *bench) {
		b.cfg.LabelSelector, b.cfg.NamespaceSelector = selector(t, "app notin (x)"), selector(t, "app=one")
		pods := podsKind()
		pods.Selector = "tier in (a,b)"
		b.api.set(namespacesPath, at(named("", "bank"), "5", "two"), at(named("", "shop"), "5", "one"), at(named("", "x"), "5", "x"))
		b.api.set(podsPath, podA, named("bank", "c"))
		relabelled := make(chan []byte)
		b.api.watches[namespacesPath] = []answer{live(relabelled)}
		defer b.start(t, pods, namespacesKind())()
		b.expectSent(t, "at the start", "namespace /shop one", "a a")
		relabelled <- modified(t, at(named("", "bank"), "200", "one"))
		relabelled <- modified(t, at(named("", "shop"), "201", "two"))
		b.expectSent(t, "at once", "namespace /bank one", "-namespace /shop two")
		time.Sleep(time.Minute)
		b.expectSent(t, "within 30 s", "-a a", "pod bank/c c")
		const query = "?labelSelector=app+notin+%28x%29%2Ctier+in+%28a%2Cb%29&"
		b.expectRequests(t, namespacesPath+"?limit=50", podsPath+query+"limit=50", podsPath+query+"limit=50")
		b.expectWatches(t, namespacesPath+"?resourceVersion=101", podsPath+query+"resourceVersion=102", podsPath+query+"resourceVersion=103")
	})
}

// TestSelectedReviews evaluates the selectors for what reviews show. What falls out of one ends
// as it was.
func TestSelectedReviews(t *testing.T) {
	inBubble(t, config.ChangesWebhook, func(t *testing.T, b *bench) {
		b.cfg.LabelSelector, b.cfg.NamespaceSelector = selector(t, "app!=x"), selector(t, "app=one")
		b.api.set(namespacesPath, at(named("", "shop"), "5", "one"))
		defer b.start(t, podsKind(), namespacesKind())()
		time.Sleep(time.Minute)
		b.expectSent(t, "at the start", "namespace /shop one")
		update := func(from, to string) string {
			object := func(app string) *record.Object {
				return &record.Object{Namespace: []byte("shop"), Name: []byte("a"), Labels: []record.KeyValue{{Key: []byte("app"), Value: []byte(app)}}}
			}
			_, outcome := b.Review(&Change{Resource: "pods", Object: object(to), Old: func() *record.Object { return object(from) }}, b.sink)
			return string(outcome)
		}
		outcomes := []string{
			b.review("pods", at(podA, "", "x"), false), b.review("pods", podA, false), update("a", "x"), update("x", "x"), update("x", "b"),
			b.review("pods", at(podA, "", "x"), true), b.review("pods", named("bank", "a"), false),
			b.review("namespaces", at(named("", "bank"), "", "one"), false), b.review("pods", named("bank", "a"), false),
		}
		expect(t, "outcomes", []string{
			"pods: excluded", "pods: sent", "sent", "excluded", "sent",
			"pods: excluded", "pods: excluded", "namespaces: sent", "pods: sent",
		}, outcomes)
		b.expectSent(t, "the reviews", "a a", "-a a", "a b", "namespace /bank one", "pod bank/a a")
	})
}
