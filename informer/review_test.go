package informer

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/config"
	"labelstream/record"
)

// fakeQueue puts into a sink, unless it is full.
type fakeQueue struct {
	sink *fakeSink
	full bool
}

func (q *fakeQueue) TryPut(r *record.Record) bool {
	return !q.full && q.sink.Put(context.Background(), r) == nil
}

// newReviewer is a follower that takes reviews.
func newReviewer(t *testing.T) (*bench, *fakeQueue) {
	b := newFollower(t)
	b.options.Reviews = true
	return b, &fakeQueue{sink: b.sink}
}

// show takes the review of an object.
func (b *bench) show(queue Queue, resource string, o metav1.PartialObjectMetadata) Taken {
	return b.showEither(queue, resource, o, false)
}

// showDeleted takes the review of an object that is about to be deleted.
func (b *bench) showDeleted(queue Queue, resource string, o metav1.PartialObjectMetadata) Taken {
	return b.showEither(queue, resource, o, true)
}

func (b *bench) showEither(queue Queue, resource string, o metav1.PartialObjectMetadata, deleted bool) Taken {
	group := ""
	if plural, rest, ok := strings.Cut(resource, "."); ok {
		resource, group = plural, rest
	}
	object := &record.Object{Namespace: []byte(o.Namespace), Name: []byte(o.Name)}
	for key, value := range o.Labels {
		object.Labels = append(object.Labels, record.Tag{Key: []byte(key), Value: []byte(value)})
	}
	_, taken := b.Reviews(queue).Take([]byte(group), []byte(resource), object, deleted)
	return taken
}

// labelled is an object with another label.
func labelled(o metav1.PartialObjectMetadata, app string) metav1.PartialObjectMetadata {
	o.Labels = map[string]string{"app": app}
	return o
}

func (b *bench) expectTaken(t *testing.T, got, want Taken) {
	t.Helper()
	if got != want {
		t.Errorf("taken: %s, want %s", got, want)
	}
}

// TestReviewIsConfirmed shows a change before its event comes: it is sent once,
// and nobody asks for the object.
func TestReviewIsConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, queue := newReviewer(t)
		b.api.set(podsPath, podA)
		frames := make(chan []byte)
		b.api.watches[podsPath] = []answer{live(frames)}
		stop := b.start(t, podsKind())
		defer stop()
		b.expectSent(t, "the list", "a a")
		b.expectTaken(t, b.show(queue, "pods", podA), Known)
		b.expectTaken(t, b.show(queue, "pods", labelled(podA, "a2")), Sent)
		b.expectTaken(t, b.show(queue, "pods", podB), Sent)
		b.expectSent(t, "the reviews", "a a2", "b b")
		frames <- modified(t, at(podA, "110", "a2"))
		frames <- added(t, at(podB, "111", "b"))
		time.Sleep(10 * time.Minute)
		b.expectSent(t, "the events")
		b.expectRequests(t, podsPath+"?limit=50")
		if got := testutil.ToFloat64(b.vectors.records.WithLabelValues("webhook", "pods")); got != 2 {
			t.Errorf("counted %v, want 2", got)
		}
		if got := b.Status()[0].Changes; got != 2 {
			t.Errorf("the watch has brought %d changes, want the 2 that the reviews have shown", got)
		}
	})
}

// TestReviewsOvertakeEvents changes an object faster than the watch brings it:
// each change is sent once, and none after a newer one.
func TestReviewsOvertakeEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, queue := newReviewer(t)
		b.api.set(podsPath, podA)
		frames := make(chan []byte)
		b.api.watches[podsPath] = []answer{live(frames)}
		stop := b.start(t, podsKind())
		defer stop()
		b.expectSent(t, "the list", "a a")
		b.expectTaken(t, b.show(queue, "pods", labelled(podA, "a2")), Sent)
		b.expectTaken(t, b.show(queue, "pods", labelled(podA, "a3")), Sent)
		b.expectTaken(t, b.show(queue, "pods", labelled(podA, "a3")), Known) // tried again
		b.expectTaken(t, b.show(queue, "pods", labelled(podA, "a2")), Sent)
		b.expectSent(t, "the reviews", "a a2", "a a3", "a a2")
		frames <- modified(t, at(podA, "110", "a2"))
		frames <- modified(t, at(podA, "111", "a3"))
		frames <- modified(t, at(podA, "112", "a2"))
		time.Sleep(10 * time.Minute)
		b.expectSent(t, "the events")
		b.expectRequests(t, podsPath+"?limit=50")
	})
}

// TestReviewsWhileAnEventIsInHand has the watch wait for room with an object
// while reviews show what follows: the watch brings it, in order and once.
func TestReviewsWhileAnEventIsInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, queue := newReviewer(t)
		b.api.set(podsPath, podA)
		frames := make(chan []byte)
		b.api.watches[podsPath] = []answer{live(frames)}
		room := make(chan struct{})
		var full atomic.Bool
		b.sink.put = func(context.Context, string) error {
			if full.Load() {
				<-room
			}
			return nil
		}
		stop := b.start(t, podsKind())
		defer stop()
		b.expectSent(t, "the list", "a a")
		full.Store(true)
		frames <- modified(t, at(podA, "110", "a2"))
		synctest.Wait()
		b.expectTaken(t, b.show(queue, "pods", labelled(podA, "a3")), LeftToWatch)
		full.Store(false)
		close(room)
		b.expectSent(t, "the event", "a a2")
		// Nobody has the turn any more, and yet this one must not overtake a3.
		b.expectTaken(t, b.show(queue, "pods", labelled(podA, "a4")), LeftToWatch)
		b.expectTaken(t, b.show(queue, "pods", podB), Sent)
		frames <- modified(t, at(podA, "111", "a3"))
		frames <- modified(t, at(podA, "112", "a4"))
		b.expectSent(t, "what follows", "b b", "a a3", "a a4")
		b.expectTaken(t, b.show(queue, "pods", labelled(podA, "a5")), Sent)
		b.expectSent(t, "a review of its own", "a a5")
	})
}

// TestLateDeletion has two delete an object at the same time: the review of the
// second comes when the watch has told of its end.
func TestLateDeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, queue := newReviewer(t)
		b.api.set(podsPath, podA)
		frames := make(chan []byte)
		b.api.watches[podsPath] = []answer{live(frames)}
		room := make(chan struct{})
		b.sink.put = func(_ context.Context, key string) error {
			if strings.HasSuffix(key, "/a") {
				<-room
			}
			return nil
		}
		stop := b.start(t, podsKind())
		defer stop()
		synctest.Wait()
		// Who is there is not known before the first list is complete.
		b.expectTaken(t, b.showDeleted(queue, "pods", podB), Sent)
		close(room)
		b.expectSent(t, "the review and the list", "b b", "a a")
		b.expectTaken(t, b.showDeleted(queue, "pods", podA), Known)
		frames <- deleted(t, at(podA, "110", "a"))
		frames <- deleted(t, at(podB, "111", "b"))
		b.expectSent(t, "the ends", "a a", "b b")
		b.expectTaken(t, b.showDeleted(queue, "pods", podA), Gone)
		time.Sleep(10 * time.Minute)
		b.expectSent(t, "after the ends")
		b.expectRequests(t, podsPath+"?limit=50")
		if got := testutil.ToFloat64(b.vectors.phantoms.WithLabelValues("pods")); got != 0 {
			t.Errorf("%v phantoms, want none", got)
		}
		b.expectTaken(t, b.show(queue, "pods", podA), Sent)
	})
}

// TestDeletionWithoutAWatch is told by its review alone.
func TestDeletionWithoutAWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, queue := newReviewer(t)
		b.options.Watch = false
		stop := b.start(t, podsKind())
		defer stop()
		synctest.Wait()
		b.expectTaken(t, b.showDeleted(queue, "pods", podA), Sent)
		b.expectSent(t, "the review", "a a")
	})
}

// TestDeletionWhileAnEventIsInHand leaves nothing to the watch but the end: what
// is created then under the name is sent.
func TestDeletionWhileAnEventIsInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, queue := newReviewer(t)
		b.api.set(podsPath, podA)
		frames := make(chan []byte)
		b.api.watches[podsPath] = []answer{live(frames)}
		room := make(chan struct{})
		var full atomic.Bool
		b.sink.put = func(context.Context, string) error {
			if full.Load() {
				<-room
			}
			return nil
		}
		stop := b.start(t, podsKind())
		defer stop()
		b.expectSent(t, "the list", "a a")
		full.Store(true)
		frames <- modified(t, at(podA, "110", "a2"))
		synctest.Wait()
		b.expectTaken(t, b.showDeleted(queue, "pods", labelled(podA, "a2")), LeftToWatch)
		full.Store(false)
		close(room)
		frames <- deleted(t, at(podA, "111", "a2"))
		b.expectSent(t, "the event and the end", "a a2", "a a2")
		b.expectTaken(t, b.show(queue, "pods", labelled(podA, "a3")), Sent)
	})
}

// TestEventsOfBefore has a change of something else on its way while a review
// shows another: what was known before is not sent once more.
func TestEventsOfBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, queue := newReviewer(t)
		b.api.set(podsPath, podA)
		frames := make(chan []byte)
		b.api.watches[podsPath] = []answer{live(frames)}
		stop := b.start(t, podsKind())
		defer stop()
		b.expectSent(t, "the list", "a a")
		b.expectTaken(t, b.show(queue, "pods", labelled(podA, "a2")), Sent)
		frames <- modified(t, at(podA, "110", "a"))
		frames <- modified(t, at(podA, "111", "a2"))
		time.Sleep(10 * time.Minute)
		b.expectSent(t, "the review and the events", "a a2")
		b.expectRequests(t, podsPath+"?limit=50")
	})
}

// TestFullQueueBesideTheWatch has no room for the record of a review: it and
// those that follow come by the watch, in order.
func TestFullQueueBesideTheWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, queue := newReviewer(t)
		b.api.set(podsPath, podA)
		frames := make(chan []byte)
		b.api.watches[podsPath] = []answer{live(frames)}
		stop := b.start(t, podsKind())
		defer stop()
		b.expectSent(t, "the list", "a a")
		queue.full = true
		b.expectTaken(t, b.show(queue, "pods", labelled(podA, "a2")), Deferred)
		queue.full = false
		b.expectTaken(t, b.show(queue, "pods", labelled(podA, "a3")), LeftToWatch)
		frames <- modified(t, at(podA, "110", "a"))
		frames <- modified(t, at(podA, "111", "a2"))
		frames <- modified(t, at(podA, "112", "a3"))
		b.expectSent(t, "the events", "a a2", "a a3")
		b.api.set(podsPath, labelled(podA, "a3"))
		time.Sleep(10 * time.Minute)
		b.expectSent(t, "the list that heals")
		b.expectRequests(t, podsPath+"?limit=50", podsPath+"?limit=50")
	})
}

// TestListBeforeTheWrite has a resync begin after a review, and read the object
// before its write: what the review has shown is not taken back.
func TestListBeforeTheWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, queue := newReviewer(t)
		b.options.ResyncInterval = 2 * time.Minute
		b.api.set(podsPath, podA)
		frames := make(chan []byte)
		b.api.watches[podsPath] = []answer{live(frames)}
		stop := b.start(t, podsKind())
		defer stop()
		b.expectSent(t, "the list", "a a")
		time.Sleep(90 * time.Second)
		b.expectTaken(t, b.show(queue, "pods", labelled(podA, "a2")), Sent)
		b.expectTaken(t, b.show(queue, "pods", podB), Sent)
		b.expectSent(t, "the reviews", "a a2", "b b")
		time.Sleep(30 * time.Second)
		b.expectRequests(t, podsPath+"?limit=50", podsPath+"?limit=50")
		frames <- modified(t, at(podA, "110", "a2"))
		frames <- added(t, at(podB, "111", "b"))
		b.expectSent(t, "the resync and the events")
	})
}

// TestReviewIsCorrected has an event say otherwise.
func TestReviewIsCorrected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, queue := newReviewer(t)
		b.api.set(podsPath, podA)
		frames := make(chan []byte)
		b.api.watches[podsPath] = []answer{live(frames)}
		stop := b.start(t, podsKind())
		defer stop()
		b.expectSent(t, "the list", "a a")
		b.expectTaken(t, b.show(queue, "pods", labelled(podA, "a2")), Sent)
		frames <- modified(t, at(podA, "110", "a3"))
		time.Sleep(10 * time.Minute)
		b.expectSent(t, "review and event", "a a2", "a a3")
		b.expectRequests(t, podsPath+"?limit=50")
	})
}

// TestReviewOfWhatWasRefused has no event come: before a minute is over the API
// server is asked. What was never created is forgotten, what was not changed is sent
// as it is.
func TestReviewOfWhatWasRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, queue := newReviewer(t)
		b.api.set(podsPath, podA, podC)
		stop := b.start(t, podsKind())
		defer stop()
		b.expectSent(t, "the list", "a a", "c c")
		b.expectTaken(t, b.show(queue, "pods", labelled(podA, "a2")), Sent)
		b.expectTaken(t, b.show(queue, "pods", podB), Sent)
		b.expectTaken(t, b.show(queue, "pods", labelled(podC, "c2")), Sent)
		b.api.set(podsPath, podA, labelled(podC, "c2")) // whose event is late
		b.expectSent(t, "the reviews", "a a2", "b b", "c c2")
		time.Sleep(39 * time.Second)
		b.expectRequests(t, podsPath+"?limit=50")
		time.Sleep(7 * time.Second)
		b.expectSent(t, "after 46 s", "a a")
		const asked = "GET /api/v1/namespaces/shop/pods/"
		b.expectRequests(t, podsPath+"?limit=50", asked+"a", asked+"b", asked+"c")
		if got := b.Status()[0].Sent; got != 2 {
			t.Errorf("%d objects are known, want a and c", got)
		}
		if got := testutil.ToFloat64(b.vectors.phantoms.WithLabelValues("pods")); got != 1 {
			t.Errorf("%v phantoms, want 1", got)
		}
		if got := testutil.ToFloat64(b.vectors.records.WithLabelValues("get", "pods")); got != 1 {
			t.Errorf("%v corrections, want 1", got)
		}
		time.Sleep(10 * time.Minute)
		b.expectRequests(t, podsPath+"?limit=50", asked+"a", asked+"b", asked+"c")
	})
}

// TestReviewsThatCannotBeSettled has requests fail: that of a server in trouble
// is made again a minute later, that of a forbidden object makes a list of it.
func TestReviewsThatCannotBeSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, queue := newReviewer(t)
		b.api.set(podsPath, podA)
		const path = "/api/v1/namespaces/shop/pods/b"
		b.api.script[path] = []answer{text(500, ""), hang, forbidden()}
		stop := b.start(t, podsKind())
		defer stop()
		b.expectSent(t, "the list", "a a")
		b.expectTaken(t, b.show(queue, "pods", podB), Sent)
		time.Sleep(66 * time.Second)
		b.expectRequests(t, podsPath+"?limit=50", "GET "+path)
		time.Sleep(150 * time.Second)
		b.expectRequests(t, podsPath+"?limit=50", "GET "+path, "GET "+path, "GET "+path, podsPath+"?limit=50")
		b.expectSent(t, "in the end", "b b")
		if got := b.Status()[0].Sent; got != 1 {
			t.Errorf("%d objects are known, want a alone", got)
		}
		warnings := 0
		for _, entry := range b.logs.AllEntries() {
			if entry.Message == "Cannot ask whether what a review has shown came to be; trying again" {
				warnings++
			}
		}
		if warnings != 1 {
			t.Errorf("%d warnings, want 1", warnings)
		}
	})
}

// TestOneThatCannotBeAskedFor is no reason not to ask for the others, unless all
// would fail.
func TestOneThatCannotBeAskedFor(t *testing.T) {
	code := func(code int32, reason metav1.StatusReason) answer {
		return status("json", metav1.Status{Code: code, Reason: reason, Message: "no"})
	}
	for name, test := range map[string]struct {
		answer answer
		// goes says that the others are asked for in the same turn, soon that
		// this one is again in the next, and listed that the kind is instead.
		goes, soon, listed bool
	}{
		"internal error":     {text(500, ""), true, false, false},
		"bad gateway":        {text(502, ""), true, false, false},
		"gateway timeout":    {text(504, ""), true, false, false},
		"not allowed":        {code(405, metav1.StatusReasonMethodNotAllowed), true, false, true},
		"no metadata":        {code(406, metav1.StatusReasonNotAcceptable), true, false, false},
		"no object":          {func(w http.ResponseWriter, r *http.Request, _ []byte) { serve(w, r, []byte("[")) }, true, false, false},
		"no answer":          {disconnect, false, true, false},
		"no credentials":     {code(401, metav1.StatusReasonUnauthorized), false, false, false},
		"forbidden":          {forbidden(), false, false, true},
		"too many requests":  {code(429, metav1.StatusReasonTooManyRequests), false, true, false},
		"server unavailable": {text(503, ""), false, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, queue := newReviewer(t)
				b.api.set(podsPath, podA, podC)
				const asked = "/api/v1/namespaces/shop/pods/"
				b.api.script[asked+"b"] = repeat(100, test.answer)
				stop := b.start(t, podsKind())
				defer stop()
				b.expectSent(t, "the list", "a a", "c c")
				b.expectTaken(t, b.show(queue, "pods", podB), Sent)
				b.expectTaken(t, b.show(queue, "pods", labelled(podC, "c2")), Sent)
				time.Sleep(41 * time.Second)
				want := []string{"GET " + asked + "b"}
				if test.goes {
					want = append(want, "GET "+asked+"c")
				}
				// It is chance whether the kind is listed by now, where it is.
				got := slices.DeleteFunc(b.api.asked(), func(request string) bool { return !strings.HasPrefix(request, "GET ") })
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("requests (-want +got):\n%s", diff)
				}
				time.Sleep(settleInterval)
				again := len(slices.DeleteFunc(b.api.asked(), func(request string) bool { return request != "GET "+asked+"b" })) > 1
				if again != test.soon {
					t.Errorf("asked for again in the next turn: %v, want %v", again, test.soon)
				}
				time.Sleep(10 * time.Minute)
				if got := len(requestsOf(b, podsPath)) > 1; got != test.listed {
					t.Errorf("listed again: %v, want %v", got, test.listed)
				}
				warnings := 0
				for _, entry := range b.logs.AllEntries() {
					if entry.Message == "Cannot ask whether what a review has shown came to be; trying again" {
						warnings++
					}
				}
				if warnings != 1 {
					t.Errorf("%d warnings, want 1", warnings)
				}
			})
		})
	}
}

// TestManyRefusedReviews has more of them than are worth asking for: the kind
// is listed instead, which settles all.
func TestManyRefusedReviews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, queue := newReviewer(t)
		b.api.set(podsPath, podA)
		stop := b.start(t, podsKind())
		defer stop()
		b.expectSent(t, "the list", "a a")
		for _, o := range pods(settleMost + 1) {
			b.expectTaken(t, b.show(queue, "pods", o), Sent)
		}
		time.Sleep(10 * time.Minute)
		b.expectRequests(t, podsPath+"?limit=50", podsPath+"?limit=50")
		if got := b.Status()[0].Sent; got != 1 {
			t.Errorf("%d objects are known, want 1", got)
		}
	})
}

// TestFullQueue has no room for a record: the kind is listed as soon as
// something is accepted, and the record sent once there is room.
func TestFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, queue := newReviewer(t)
		b.options.Watch = false
		b.api.set(podsPath, podA)
		stop := b.start(t, podsKind())
		defer stop()
		b.expectSent(t, "the list", "a a")
		queue.full = true
		b.expectTaken(t, b.show(queue, "pods", labelled(podA, "a2")), Deferred)
		b.expectTaken(t, b.show(queue, "pods", podB), Deferred)
		b.api.set(podsPath, labelled(podA, "a2"), podB)
		time.Sleep(healInterval + reviewTime + time.Second)
		b.expectSent(t, "the list that heals", "a a2", "b b")
	})
}

// TestReviewBesideTheList has a list wait for room with the very object that a
// review shows: the review waits for nothing.
func TestReviewBesideTheList(t *testing.T) {
	for _, test := range []struct {
		watch bool
		want  Taken
	}{{true, LeftToWatch}, {false, Deferred}} {
		synctest.Test(t, func(t *testing.T) {
			b, queue := newReviewer(t)
			b.options.Watch = test.watch
			b.api.set(podsPath, podA)
			room := make(chan struct{})
			b.sink.put = func(context.Context, string) error { <-room; return nil }
			stop := b.start(t, podsKind())
			defer stop()
			synctest.Wait()
			b.expectTaken(t, b.show(queue, "pods", labelled(podA, "a2")), test.want)
			close(room)
			b.api.set(podsPath, labelled(podA, "a2"))
			time.Sleep(time.Minute)
			// The watch brings nothing here: the object is asked for.
			b.expectSent(t, "list and what settles or heals", "a a", "a a2")
		})
	}
}

// TestReviewsWithoutAWatch are sent, and left to the next resync.
func TestReviewsWithoutAWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, queue := newReviewer(t)
		b.options.Watch = false
		b.options.ResyncInterval = time.Hour
		b.api.set(podsPath, podA)
		stop := b.start(t, podsKind())
		defer stop()
		b.expectSent(t, "the list", "a a")
		time.Sleep(time.Minute)
		b.expectRequests(t, podsPath+"?limit=50", podsPath+"?limit=50")
		b.expectTaken(t, b.show(queue, "pods", labelled(podA, "a2")), Sent)
		b.expectTaken(t, b.show(queue, "pods", labelled(podA, "a2")), Known)
		b.expectTaken(t, b.show(queue, "pods", podB), Sent)
		b.expectSent(t, "the reviews", "a a2", "b b")
		time.Sleep(50 * time.Minute)
		b.expectSent(t, "before the resync")
		time.Sleep(9 * time.Minute)
		b.expectSent(t, "the resync, within the hour", "a a")
		b.expectRequests(t, podsPath+"?limit=50", podsPath+"?limit=50", podsPath+"?limit=50")
	})
}

// TestResyncWithoutAWatch waits for writes, and sends all in time nevertheless.
func TestResyncWithoutAWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newReviewer(t)
		b.options.Watch = false
		b.options.ResyncInterval = 4 * time.Minute
		b.api.set(podsPath, podA)
		stop := b.start(t, podsKind())
		defer stop()
		b.expectSent(t, "the first list", "a a")
		time.Sleep(3*time.Minute + 5*time.Second)
		b.expectSent(t, "the list after it")
		time.Sleep(55 * time.Second)
		b.expectSent(t, "within the interval", "a a")
	})
}

// TestFirstListWithoutAWatch is followed by another, once: what was written
// while it ran has been shown to nobody.
func TestFirstListWithoutAWatch(t *testing.T) {
	for name, test := range map[string]struct {
		reviews, watch bool
		lists          int
		want           []string
	}{
		"reviews alone":           {true, false, 2, []string{"a a2"}},
		"reviews and a watch":     {true, true, 1, nil},
		"neither one nor a watch": {false, false, 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, _ := newReviewer(t)
				b.options.Reviews, b.options.Watch = test.reviews, test.watch
				b.options.ReviewTime = 20 * time.Second
				b.api.set(podsPath, podA)
				stop := b.start(t, podsKind())
				defer stop()
				b.expectSent(t, "the list", "a a")
				b.api.set(podsPath, labelled(podA, "a2"))
				time.Sleep(healInterval + b.options.ReviewTime - time.Second)
				b.expectSent(t, "while the next waits")
				time.Sleep(2 * time.Second)
				b.expectSent(t, "the next", test.want...)
				time.Sleep(time.Hour)
				if n := len(b.api.asked()); n != test.lists {
					t.Errorf("%d lists, want %d", n, test.lists)
				}
			})
		})
	}
}

// TestListsWaitForWrites has lists begin while writes are on their way that
// reviews have shown: those of before have happened when the list is read, and
// those that come meanwhile are not taken back.
func TestListsWaitForWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, queue := newReviewer(t)
		b.options.Watch = false
		b.options.ResyncInterval = time.Hour
		b.api.set(podsPath, podA, podC)
		stop := b.start(t, podsKind())
		b.expectSent(t, "the list", "a a", "c c")
		time.Sleep(healInterval - time.Second)
		b.expectTaken(t, b.show(queue, "pods", labelled(podA, "a2")), Sent)
		time.Sleep(2 * time.Second)
		b.expectTaken(t, b.show(queue, "pods", podB), Sent)
		b.api.set(podsPath, labelled(podA, "a2"), podC)
		time.Sleep(reviewTime - 2*time.Second)
		b.expectTaken(t, b.show(queue, "pods", labelled(podC, "c2")), Sent)
		b.expectRequests(t, podsPath+"?limit=50")
		time.Sleep(2 * time.Second)
		b.expectRequests(t, podsPath+"?limit=50", podsPath+"?limit=50")
		b.expectSent(t, "the reviews alone", "a a2", "b b", "c c2")
		if n := b.Status()[0].Sent; n != 3 {
			t.Errorf("%d objects are known, want 3", n)
		}
		// The wait ends with all else.
		b.Reviews(queue).Heal(nil, []byte("pods"))
		time.Sleep(healInterval + time.Second)
		ended := time.Now()
		stop()
		if took := time.Since(ended); took != 0 {
			t.Errorf("the end took %s", took)
		}
	})
}

// TestMadeUpReviews has somebody show objects that there are not, where nothing
// but a list can tell, and none is due: one comes as soon as they are too many.
func TestMadeUpReviews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newReviewer(t)
		b.options.Watch = false
		b.api.set(podsPath, podA)
		stop := b.start(t, podsKind())
		defer stop()
		b.expectSent(t, "the list", "a a")
		time.Sleep(time.Minute)
		nowhere := nowhereQueue{}
		for i := range 100_000 {
			b.show(nowhere, "pods", named("shop", strconv.Itoa(i)))
			if i == 99_998 {
				time.Sleep(time.Hour)
				b.expectRequests(t, podsPath+"?limit=50", podsPath+"?limit=50")
			}
		}
		time.Sleep(time.Minute)
		b.expectRequests(t, podsPath+"?limit=50", podsPath+"?limit=50", podsPath+"?limit=50")
		if n := b.Status()[0].Sent; n != 1 {
			t.Errorf("%d objects are known, want 1", n)
		}
	})
}

// nowhereQueue has room for everything.
type nowhereQueue struct{}

func (nowhereQueue) TryPut(*record.Record) bool { return true }

// TestReviewsOnly reads nothing, and sends all that it is shown.
func TestReviewsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, queue := newReviewer(t)
		b.options.ReviewsOnly = true
		stop := b.start(t, podsKind(), widgetsKind())
		defer stop()
		time.Sleep(time.Hour)
		b.expectTaken(t, b.show(queue, "pods", podA), Sent)
		b.expectTaken(t, b.show(queue, "pods", podA), Sent)
		b.Reviews(queue).Heal(nil, []byte("pods"))
		queue.full = true
		b.expectTaken(t, b.show(queue, "pods", podA), Dropped)
		b.expectSent(t, "the reviews", "a a", "a a")
		b.expectRequests(t)
		// Of what nobody reads here, nothing is overdue.
		if n, err := testutil.GatherAndCount(b.registry, "labelstream_synced", "labelstream_last_sync_timestamp_seconds"); n != 0 || err != nil {
			t.Errorf("%d metrics say how far reading is, want none: %v", n, err)
		}
	})
}

// TestReviewsThatAreNotTaken says of each why.
func TestReviewsThatAreNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, queue := newReviewer(t)
		b.cfg.Namespaces = config.List{"shop", "bank"}
		b.cfg.NamespacesExclude = config.List{"bank"}
		b.build(t, podsKind(), namespacesKind())
		b.expectTaken(t, b.show(queue, "pods", podA), Standby)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { b.Run(ctx); close(ended) }()
		synctest.Wait()
		b.sent()
		long := strings.Repeat("n", 254)
		for _, test := range []struct {
			resource        string
			namespace, name string
			want            Taken
		}{
			{"pods", "shop", "a", Sent},
			{"pods", "bank", "a", Excluded},
			{"pods", "other", "a", Excluded},
			{"pods", "", "a", Excluded},
			{"namespaces", "", "shop", Sent},
			{"namespaces", "", "other", Excluded},
			{"namespaces", "shop", "shop", Excluded},
			{"pods.example.com", "shop", "a", NotChosen},
			{"services", "shop", "a", NotChosen},
			{"pods", "shop", "", Excluded},
			{"pods", "shop", "../../secrets/a", Excluded},
			{"pods", "shop", "..", Excluded},
			{"pods", "shop", ".", Excluded},
			{"pods", "shop", "%2e", Excluded},
			{"pods", "..", "a", Excluded},
			{"pods", "shop", long, Excluded},
			{"pods", long[:64], "a", Excluded},
		} {
			if got := b.show(queue, test.resource, named(test.namespace, test.name)); got != test.want {
				t.Errorf("%s %q/%q: %s, want %s", test.resource, test.namespace, test.name, got, test.want)
			}
		}
		reviews := b.Reviews(queue)
		for resource, want := range map[string]string{"pods": "pods", "secrets": ""} {
			if got := reviews.Kind(nil, []byte(resource)); got != want {
				t.Errorf("kind %q, want %q", got, want)
			}
		}
		cancel()
		<-ended
		b.expectTaken(t, b.show(queue, "pods", podA), Standby)
		if got := b.sources[0].table.Bytes(); got != 0 {
			t.Errorf("the ledger takes %d bytes after the end", got)
		}
	})
}

// TestHealByReview lists a kind of which a review was not read.
func TestHealByReview(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, queue := newReviewer(t)
		b.api.set(podsPath, podA)
		stop := b.start(t, podsKind(), widgetsKind())
		defer stop()
		b.expectSent(t, "the list", "a a")
		b.Reviews(queue).Heal([]byte(""), []byte("pods"))
		b.Reviews(queue).Heal([]byte("made.up"), []byte("pods"))
		b.api.set(podsPath, podA, podB)
		time.Sleep(time.Minute)
		b.expectSent(t, "the list that heals", "b b")
	})
}

func TestObjectPath(t *testing.T) {
	got := []string{
		objectPath(podsKind(), "shop", "a"),
		objectPath(namespacesKind(), "", "shop"),
		objectPath(widgetsKind(), "shop", "w"),
	}
	want := []string{"/api/v1/namespaces/shop/pods/a", "/api/v1/namespaces/shop", "/apis/example.com/v1beta2/namespaces/shop/widgets/w"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
}
