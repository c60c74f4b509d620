package informer

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/record"
)

// TestResync has everything sent again in time, and never later than the
// interval says.
func TestResync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		b.options.ResyncInterval = 4 * time.Minute
		b.api.set(podsPath, podA, podB)
		stop := b.start(t, podsKind())
		defer stop()
		b.expectSent(t, "the first list", "a a", "b b")
		for n := range 20 {
			before := len(b.api.asked())
			begun := time.Now()
			for len(b.api.asked()) == before {
				time.Sleep(100 * time.Millisecond)
			}
			if took := time.Since(begun); took < 216*time.Second || took > 4*time.Minute {
				t.Errorf("resync %d came after %s, want 3m36s to 4m", n, took)
			}
			b.expectSent(t, "a resync", "a a", "b b")
		}
		if got := b.logs.LastEntry().Data["why"]; got != reasonResync {
			t.Errorf("the log says why: %v, want %v", got, reasonResync)
		}
	})
}

func TestNoResync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		b.api.set(podsPath, podA)
		stop := b.start(t, podsKind())
		defer stop()
		time.Sleep(24 * time.Hour)
		b.expectSent(t, "in a day", "a a")
		b.expectRequests(t, podsPath+"?limit=50")
	})
}

// TestResyncTakesLongerThanItsInterval has one resync follow the other at
// once, and no two at a time.
func TestResyncTakesLongerThanItsInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		b.options.ResyncInterval = time.Minute
		b.api.set(podsPath, podA, podB)
		var slow atomic.Bool
		b.sink.put = func(context.Context, string) error {
			if slow.Load() {
				time.Sleep(time.Minute)
			}
			return nil
		}
		stop := b.start(t, podsKind())
		defer stop()
		synctest.Wait()
		b.sent()
		slow.Store(true)
		time.Sleep(10*time.Minute + 30*time.Second)
		b.expectSent(t, "in ten minutes", "a a", "b b", "a a", "b b", "a a", "b b", "a a", "b b", "a a")
	})
}

// TestResyncBesideEvents has pods changed and deleted between the version that
// a resync lists and the moment it comes to them: the older page never wins.
func TestResyncBesideEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		b.options.ResyncInterval = 2 * time.Minute
		b.api.set(podsPath, podA, podB, podC)
		frames := make(chan []byte)
		b.api.watches[podsPath] = []answer{live(frames)}
		release := make(chan struct{})
		b.api.script[podsPath] = []answer{nil, func(w http.ResponseWriter, r *http.Request, body []byte) {
			<-release
			serve(w, r, body)
		}}
		stop := b.start(t, podsKind())
		defer stop()
		b.expectSent(t, "the first list", "a a", "b b", "c c")
		time.Sleep(2 * time.Minute)
		if n := len(b.api.asked()); n != 2 {
			t.Fatalf("%d lists, want the resync to have begun", n)
		}
		frames <- modified(t, at(podA, "110", "a2"))
		frames <- deleted(t, at(podB, "111", "b"))
		frames <- added(t, at(named("shop", "d"), "112", "d"))
		b.expectSent(t, "the events", "a a2", "b b", "d d")
		release <- struct{}{}
		b.expectSent(t, "the resync", "c c")
		if n := b.Status()[0].Sent; n != 3 {
			t.Errorf("the ledger knows %d, want a, c and d", n)
		}
		frames <- modified(t, at(podA, "113", "a2"))
		frames <- modified(t, at(podA, "114", "a"))
		b.expectSent(t, "events after it", "a a")
	})
}

// TestResyncItemInHand has an item of a resync wait for room when an event of
// the same object comes: what is sent last is the event.
func TestResyncItemInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		b.options.ResyncInterval = 2 * time.Minute
		b.api.set(podsPath, podA, podB)
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
		b.expectSent(t, "the first list", "a a", "b b")
		full.Store(true)
		time.Sleep(2 * time.Minute)
		frames <- modified(t, at(podA, "110", "a2"))
		b.expectSent(t, "without room")
		for range 3 {
			room <- struct{}{}
			synctest.Wait()
		}
		got := b.sent()
		if at := slices.Index(got, "a a2"); at < 1 || slices.Index(got, "a a") > at || len(got) != 3 {
			t.Errorf("sent %v, want a, b and last of a the event", got)
		}
	})
}

// TestRelistDuringResync has the watch lose its way in mid-resync: the
// list that follows waits for the resync, and finds what was missed.
func TestRelistDuringResync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		b.options.ResyncInterval = 2 * time.Minute
		b.api.set(podsPath, podA, podB)
		frames := make(chan []byte)
		b.api.watches[podsPath] = []answer{live(frames), gone("protobuf", "")}
		release := make(chan struct{})
		b.api.script[podsPath] = []answer{nil, func(w http.ResponseWriter, r *http.Request, body []byte) {
			<-release
			serve(w, r, body)
		}}
		stop := b.start(t, podsKind())
		defer stop()
		time.Sleep(2 * time.Minute)
		b.expectSent(t, "the first list", "a a", "b b")
		close(frames)
		b.api.set(podsPath, at(podA, "120", "a2"))
		time.Sleep(30 * time.Second)
		if n := len(b.api.asked()); n != 2 {
			t.Errorf("%d lists while the resync runs, want 2", n)
		}
		release <- struct{}{}
		b.expectSent(t, "the resync and the relist", "a a", "b b", "a a2")
		if n := b.Status()[0].Sent; n != 1 {
			t.Errorf("the ledger knows %d, want 1", n)
		}
	})
}

// lose reports records of pods as lost.
func (b *bench) lose(objects ...metav1.PartialObjectMetadata) {
	s := b.sources[0]
	for _, o := range objects {
		b.Lost(&s.kind.Kind, keyOf(s, o))
	}
}

// TestHeal has records lost: their kind is listed again as soon as something
// is accepted, and what was lost is sent, nothing else.
func TestHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		b.api.set(podsPath, podA, podB, podC)
		b.api.set(widgetsPath, podA)
		stop := b.start(t, podsKind(), widgetsKind())
		defer stop()
		time.Sleep(time.Second)
		b.sent()
		b.lose(podA, podC)
		time.Sleep(30 * time.Second)
		b.expectSent(t, "before sending works")
		b.Accepted(&b.sources[1].kind.Kind, 1)
		time.Sleep(healInterval)
		b.expectSent(t, "when it works", "a a", "c c")
		if diff := cmp.Diff([]string{podsPath + "?limit=50", podsPath + "?limit=50"}, requestsOf(b, podsPath)); diff != "" {
			t.Errorf("lists of pods (-want +got):\n%s", diff)
		}
		if n := len(requestsOf(b, widgetsPath)); n != 1 {
			t.Errorf("%d lists of the kind that lost nothing, want 1", n)
		}
		if got := b.logs.LastEntry().Data["why"]; got != reasonHeal {
			t.Errorf("the log says why: %v, want %v", got, reasonHeal)
		}
		time.Sleep(time.Hour)
		b.expectSent(t, "an hour later")
	})
}

// TestHealAnyway has records lost, and nothing else to send that could be
// accepted.
func TestHealAnyway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		b.api.set(podsPath, podA)
		stop := b.start(t, podsKind())
		defer stop()
		time.Sleep(time.Second)
		b.sent()
		b.lose(podA)
		time.Sleep(healAnyway + healInterval)
		b.expectSent(t, "after a while", "a a")
		// What is sent is lost again, and again.
		b.lose(podA)
		time.Sleep(healAnyway + healInterval)
		b.expectSent(t, "after a while more", "a a")
	})
}

// TestRefusedAreNotSentAgain until they change.
func TestRefusedAreNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		b.options.ResyncInterval = 2 * time.Minute
		b.api.set(podsPath, podA, podB)
		frames := make(chan []byte)
		b.api.watches[podsPath] = []answer{live(frames)}
		stop := b.start(t, podsKind())
		defer stop()
		b.expectSent(t, "the first list", "a a", "b b")
		s := b.sources[0]
		b.Refused(&s.kind.Kind, keyOf(s, podA))
		b.Accepted(&s.kind.Kind, keyOf(s, podB))
		time.Sleep(2 * time.Minute)
		b.expectSent(t, "the resync", "b b")
		frames <- modified(t, at(podA, "110", "a2"))
		b.expectSent(t, "the change", "a a2")
		b.Accepted(&s.kind.Kind, keyOf(s, podA))
		b.api.set(podsPath, at(podA, "110", "a2"), podB)
		time.Sleep(2 * time.Minute)
		b.expectSent(t, "the next resync", "a a2", "b b")
	})
}

// TestLostInOneNamespace has a kind with a table for each namespace.
func TestLostInOneNamespace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		b.cfg.Namespaces = []string{"lab", "shop"}
		lab, shop := "/api/v1/namespaces/lab/pods", "/api/v1/namespaces/shop/pods"
		b.api.set(lab, named("lab", "x"))
		b.api.set(shop, podA)
		stop := b.start(t, podsKind())
		defer stop()
		time.Sleep(time.Second)
		b.sent()
		b.lose(podA)
		time.Sleep(healAnyway + healInterval)
		b.expectSent(t, "the healing", "a a")
		if x, a := len(requestsOf(b, lab)), len(requestsOf(b, shop)); x != 1 || a != 2 {
			t.Errorf("%d and %d lists, want 1 and 2", x, a)
		}
	})
}

// TestAdd adds kinds to informers that run: a custom resource, and one that a
// factory holds.
func TestAdd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		b.api.set(podsPath, podA)
		b.api.set(widgetsPath, podB)
		b.api.set("/apis/apps/v1/deployments", podC)
		stop := b.start(t, podsKind())
		b.expectSent(t, "at first", "a a")
		b.Add([]*Kind{widgetsKind(), deploymentsKind(), podsKind()})
		synctest.Wait()
		got := b.sent()
		slices.Sort(got)
		if diff := cmp.Diff([]string{"b b", "c c"}, got); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		var kinds []string
		for _, s := range b.Status() {
			kinds = append(kinds, s.Resource)
		}
		if diff := cmp.Diff([]string{"pods", "widgets.example.com", "deployments.apps"}, kinds); diff != "" {
			t.Errorf("kinds (-want +got):\n%s", diff)
		}
		b.lose(podA)
		b.Lost(&b.sources[1].kind.Kind, keyOf(b.sources[1], podB))
		time.Sleep(healAnyway + healInterval)
		got = b.sent()
		slices.Sort(got)
		if diff := cmp.Diff([]string{"a a", "b b"}, got); diff != "" {
			t.Errorf("healed (-want +got):\n%s", diff)
		}
		stop()
		b.Add([]*Kind{nodesKind()})
		if n := len(b.Status()); n != 3 {
			t.Errorf("%d kinds after the end, want 3", n)
		}
	})
}

// TestForbiddenKind is refused for long, then granted: it is there within a
// minute.
func TestForbiddenKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		b.api.set(podsPath, podA)
		granted := time.Now().Add(30*time.Minute + 1)
		b.api.script[podsPath] = repeat(1000, func(w http.ResponseWriter, r *http.Request, body []byte) {
			if time.Now().Before(granted) {
				forbidden()(w, r, nil)
				return
			}
			serve(w, r, body)
		})
		stop := b.start(t, podsKind())
		defer stop()
		time.Sleep(time.Until(granted))
		if s := b.Status()[0]; s.Synced || s.Err == nil || !strings.Contains(s.Err.Error(), `grant the verb "list"`) {
			t.Errorf("status %+v, want what to grant", s)
		}
		time.Sleep(time.Minute)
		b.expectSent(t, "a minute after the grant", "a a")
	})
}

func keyOf(s *source, o metav1.PartialObjectMetadata) uint64 {
	return record.Key(&s.kind.Kind, []byte(o.Namespace), []byte(o.Name))
}

// requestsOf are the lists of one path.
func requestsOf(b *bench, path string) []string {
	return slices.DeleteFunc(b.api.asked(), func(request string) bool { return !strings.HasPrefix(request, path+"?") })
}
