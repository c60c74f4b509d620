// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/config"
	"labelstream/record"
)

// review shows an object, as "<kind>: <outcome>".
func (b *bench) review(resource string, o metav1.PartialObjectMetadata, deleted bool) string {
	plural, group, _ := strings.Cut(resource, ".")
	object := &record.Object{Namespace: []byte(o.Namespace), Name: []byte(o.Name)}
	for key, value := range o.Labels {
		object.Labels = append(object.Labels, record.KeyValue{Key: []byte(key), Value: []byte(value)})
	}
	kind, outcome := b.Review(&Change{Group: group, Resource: plural, Object: object, Deleted: deleted}, b.sink)
	return fmt.Sprintf("%s: %s", kind, outcome)
}

// expectReview reviews a pod with the label app of that value; "" means its deletion.
func (b *bench) expectReview(t *testing.T, o metav1.PartialObjectMetadata, app string, want ReviewOutcome) {
	t.Helper()
	if app != "" {
		o = at(o, "", app)
	}
	if got := b.review("pods", o, app == ""); got != "pods: "+string(want) {
		t.Errorf("%s, want %s", got, want)
	}
}

// afterTheFirstList tests what comes after a daemon has read these objects.
func afterTheFirstList(t *testing.T, objects objects, test func(*testing.T, *bench)) {
	inBubble(t, config.ChangesWebhook, func(t *testing.T, b *bench) {
		b.options.ResyncInterval = time.Hour
		b.api.set(podsPath, objects...)
		defer b.start(t, podsKind())()
		time.Sleep(29 * time.Second)
		b.expectRequests(t)
		time.Sleep(2 * time.Second)
		b.expectRequests(t, podsList)
		b.expectRecords(t, records("pod", objects))
		test(t, b)
	})
}

// TestReviewEndsSeries shows what an object was before: series that it no longer has
// are handed over with its record, where they are to get markers.
func TestReviewEndsSeries(t *testing.T) {
	afterTheFirstList(t, objects{podA}, func(t *testing.T, b *bench) {
		object := func(value string) *record.Object {
			return &record.Object{Namespace: []byte("shop"), Name: []byte("a"), Labels: []record.KeyValue{{Key: []byte("app"), Value: []byte(value)}}}
		}
		update := func(from, to string) {
			b.Review(&Change{Resource: "pods", Object: object(to), Old: func() *record.Object { return object(from) }}, b.sink)
		}
		update("a", "x")
		b.cfg.StaleMarkers = true
		update("x", "x")
		update("x", "y")
		b.expectSent(t, "the reviews", "a x", "a y after __name__=pod_labels label_app=x namespace=shop pod=a resource_type=pod")
	})
}

// TestReviews are sent where they show something new, and of a deletion the last
// series always. Those of objects that do not exist cost their records and no list.
func TestReviews(t *testing.T) {
	afterTheFirstList(t, objects{podA}, func(t *testing.T, b *bench) {
		b.expectReview(t, podA, "a", Unchanged)
		b.expectReview(t, podA, "a2", Sent)
		b.expectReview(t, podA, "a2", Unchanged)
		b.expectReview(t, podB, "b", Sent)
		b.expectReview(t, podB, "", Sent)
		b.expectReview(t, podC, "", Sent)
		b.expectReview(t, podB, "b", Sent)
		b.expectSent(t, "the reviews", "a a2", "b b", "-b b", "-c c", "b b")
		time.Sleep(50 * time.Minute)
		b.expectSent(t, "before the resync")
		b.api.set(podsPath, podA)
		time.Sleep(10 * time.Minute)
		b.expectSent(t, "the resync, which corrects what was refused", "a a")
		b.expectRequests(t, podsList, podsList)
		b.expectWatches(t)
		b.expectStatus(t, Status{Resource: "pods", Read: 1, Total: 1, Vanished: 1, Synced: true, LedgerEntries: 1})
	})
}

// TestReviewsDuringAList win over what the list shows, which is older.
func TestReviewsDuringAList(t *testing.T) {
	afterTheFirstList(t, objects{podA, podB, podC}, func(t *testing.T, b *bench) {
		room := make(chan struct{})
		b.sink.room = func(context.Context, string) error { <-room; return nil }
		// The resync has begun, but is not read, once it has a review sent that
		// changes nothing.
		for b.review("pods", podB, false) == "pods: unchanged" {
			time.Sleep(time.Second)
		}
		b.expectReview(t, podA, "a2", Sent)
		time.Sleep(time.Minute)
		b.expectRequests(t, podsList, podsList)
		b.expectReview(t, podA, "a2", Unchanged)
		b.expectReview(t, podC, "", Sent)
		b.expectSent(t, "the reviews", "b b", "a a2", "-c c")
		close(room)
		time.Sleep(time.Minute)
		b.expectSent(t, "the list")
		b.expectReview(t, podA, "a", Sent)
		b.expectReview(t, podC, "c", Sent)
	})
}

// TestNoRoom lists a kind again, once for all reviews that found no room.
func TestNoRoom(t *testing.T) {
	afterTheFirstList(t, objects{podA}, func(t *testing.T, b *bench) {
		room := make(chan struct{})
		b.sink.full = true
		b.sink.room = func(context.Context, string) error { <-room; return nil }
		b.expectReview(t, podA, "a2", NoRoom)
		b.expectReview(t, podB, "b", NoRoom)
		b.expectReview(t, podC, "", NoRoom)
		b.api.set(podsPath, at(podA, "200", "a2"), podB)
		time.Sleep(10 * time.Minute)
		b.expectSent(t, "without room")
		b.sink.full = false
		close(room)
		b.expectSent(t, "with room", "a a2", "b b")
		time.Sleep(20 * time.Minute)
		b.expectRequests(t, podsList, podsList)
		if got := b.logs.LastEntry().Data["why"]; got != reasonRequested {
			t.Errorf("the log says why: %v, want %v", got, reasonRequested)
		}
	})
}

// TestReviewsThatAreNotTaken says of each why.
func TestReviewsThatAreNotTaken(t *testing.T) {
	inBubble(t, config.ChangesWebhook, func(t *testing.T, b *bench) {
		b.cfg.Namespaces = config.List{"shop", "bank"}
		b.cfg.NamespacesExclude = config.List{"bank"}
		stop := b.start(t, podsKind(), namespacesKind(), deploymentsKind())
		synctest.Wait()
		var got []string
		want := []string{}
		for _, test := range []struct{ resource, namespace, name, want string }{
			{"pods", "shop", "a", "pods: sent"},
			{"pods", "bank", "a", "pods: excluded"},
			{"pods", "other", "a", "pods: excluded"},
			{"pods", "", "a", "pods: excluded"},
			{"pods", "shop", "", "pods: excluded"},
			{"namespaces", "", "shop", "namespaces: sent"},
			{"namespaces", "", "other", "namespaces: excluded"},
			{"namespaces", "shop", "shop", "namespaces: excluded"},
			{"deployments.apps", "shop", "a", "deployments.apps: sent"},
			{"pods.example.com", "shop", "a", ": not_chosen"},
			{"services", "shop", "a", ": not_chosen"},
		} {
			got = append(got, b.review(test.resource, named(test.namespace, test.name), false))
			want = append(want, test.want)
		}
		stop()
		got, want = append(got, b.review("pods", podA, false)), append(want, "pods: stopping")
		expect(t, "outcomes", want, got)
	})
}
