// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"labelstream/config"
)

const (
	podsList = podsPath + "?limit=50"
	cannotGo = "info: Cannot go on watching; listing again: watch pods: "
)

func podsFrom(version string) string { return podsPath + "?resourceVersion=" + version }

// TestWatchEvents shows every type of event: what changed is sent, in order,
// once, and the cache stays empty.
func TestWatchEvents(t *testing.T) {
	for _, form := range []string{"protobuf", "json"} {
		subtest(t, form, config.ChangesWatch, func(t *testing.T, b *bench) {
			b.cfg.NamespacesExclude = []string{"kube-system"}
			b.api.set(podsPath, podA, podB)
			send := func(typ watch.EventType, o metav1.PartialObjectMetadata) []byte {
				return event(t, form, typ, partial(o))
			}
			b.api.watches[podsPath] = []answer{feed(
				send(watch.Added, at(podC, "102", "c")),
				send(watch.Modified, at(podA, "103", "a")), // only the status
				send(watch.Modified, at(podA, "104", "a2")),
				send(watch.Modified, at(podA, "105", "a")),
				send(watch.Deleted, at(podB, "106", "b")),
				send(watch.Deleted, at(podB, "107", "b")), // nobody knows it
				send(watch.Added, at(podB, "108", "b")),
				send("OTHER", at(podB, "109", "b3")),
				send(watch.Added, at(named("kube-system", "x"), "110", "x")),
				send(watch.Bookmark, metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "111"}}),
			)}
			defer b.start(t, podsKind())()
			b.expectSent(t, "at the end", "a a", "b b", "c c", "a a2", "a a", "-b b", "b b")
			b.expectRequests(t, podsList)
			b.expectWatches(t, podsFrom("101"))
			b.expectStatus(t, Status{Resource: "pods", Read: 2, Total: 2, Synced: true, Watching: true, LedgerEntries: 3})
		})
	}
}

// TestWatchGoesOn ends and breaks watches: each next one begins where the last
// one was, nothing is listed again or sent twice.
func TestWatchGoesOn(t *testing.T) {
	inBubble(t, config.ChangesWatch, func(t *testing.T, b *bench) {
		b.api.set(podsPath, podA)
		c := added(t, at(podC, "104", "c"))
		b.api.watches[podsPath] = []answer{
			feedAndEnd(added(t, at(podB, "102", "b"))), feedAndBreak(bookmarked(t, "103"), c[:len(c)-1]), feedAndBreak(c, c[:2]), text(503, ""), disconnect,
			func(http.ResponseWriter, *http.Request, []byte) {
				time.Sleep(2 * time.Second)
				panic(http.ErrAbortHandler)
			},
			func(w http.ResponseWriter, _ *http.Request, _ []byte) {
				write(w)
				time.Sleep(2 * time.Second) // silent, and its time is over
			},
			feed(c, modified(t, at(podC, "105", "c2"))),
		}
		defer b.start(t, podsKind())()
		time.Sleep(time.Minute)
		b.expectSent(t, "at the end", "a a", "b b", "c c", "c c2")
		b.expectRequests(t, podsList)
		b.expectWatches(t, podsFrom("101"), podsFrom("102"), podsFrom("103"), podsFrom("104"), podsFrom("104"), podsFrom("104"), podsFrom("104"), podsFrom("104"))
		b.expectLogs(t, "info: Listed",
			"warning: Cannot watch: watch pods: the server is currently unable to handle the request",
			"warning: Cannot watch: watch pods: GET /api/v1/pods: EOF",
			"info: Watching again")
		var counted []string
		for _, line := range gathered(t, b.registry) {
			if strings.Contains(line, "failures") || strings.Contains(line, "restarts") {
				counted = append(counted, line)
			}
		}
		expect(t, "metrics", []string{
			"labelstream_api_request_failures_total reason=Connection resource=pods verb=watch 2",
			"labelstream_api_request_failures_total reason=ServiceUnavailable resource=pods verb=watch 1",
			"labelstream_watch_restarts_total resource=pods 4",
		}, counted)
	})
}

// TestWatchPauses says how long after a watch the next one comes, and that nothing is
// listed again: later each time where the server ends it at once, as told where it
// is busy, and a minute after its time where it is silent.
func TestWatchPauses(t *testing.T) {
	const ms = time.Millisecond
	type pause struct{ least, most time.Duration }
	for name, test := range map[string]struct {
		watches []answer
		pauses  []pause
		logs    []string
	}{
		"ended at once": {
			repeat(6, feedAndEnd()),
			[]pause{{200 * ms, 300 * ms}, {400 * ms, 600 * ms}, {800 * ms, 1200 * ms}, {1600 * ms, 2400 * ms}, {3200 * ms, 4800 * ms}, {6400 * ms, 9600 * ms}},
			[]string{"warning: Cannot watch: watch pods: it ended after 0s: EOF", "info: Watching again"},
		},
		"busy": {
			[]answer{feed(failed(t, 429, 7, metav1.StatusReasonTooManyRequests, "not now"))}, []pause{{7 * time.Second, 7 * time.Second}},
			[]string{"warning: Cannot watch: watch pods: not now", "info: Watching again"},
		},
		// Of the second the log says for how long, which is by chance.
		"silent": {[]answer{feed(), hang}, []pause{{6 * time.Minute, 11 * time.Minute}, {6 * time.Minute, 11*time.Minute + 300*ms}}, nil},
	} {
		subtest(t, name, config.ChangesWatch, func(t *testing.T, b *bench) {
			b.api.watches[podsPath] = append(test.watches, feed(added(t, podA)))
			defer b.start(t, podsKind())()
			time.Sleep(30 * time.Minute)
			b.expectSent(t, "at the end", "a a")
			b.expectRequests(t, podsList)
			if test.logs != nil {
				b.expectLogs(t, append([]string{"info: Listed"}, test.logs...)...)
			}
			for i, pause := range test.pauses {
				if got := b.api.watchTimes[i+1].Sub(b.api.watchTimes[i]); got < pause.least || got > pause.most {
					t.Errorf("watch %d came after %s, want %s to %s", i+2, got, pause.least, pause.most)
				}
			}
		})
	}
}

// TestWatchRelists has watches that cannot go on. The list that follows sends
// what has changed since, and forgets what is gone.
func TestWatchRelists(t *testing.T) {
	tests := map[string]struct {
		answer answer
		want   string
	}{
		"410 as the answer":   {gone("protobuf", ""), "too old"},
		"410 as an event":     {feed(failed(t, 410, 0, metav1.StatusReasonExpired, "too old")), "too old"},
		"410 of a proxy":      {text(410, ""), "the server responded with the status code 410 but did not return more information"},
		"404 as the answer":   {refusal(404, metav1.StatusReasonNotFound, "no such thing"), "no such thing"},
		"another error":       {feed(failed(t, 500, 0, metav1.StatusReasonInternalError, "no idea")), "no idea"},
		"what makes no sense": {feed([]byte{4, 0, 0, 1}), "decode the watch: a frame of 67108865 bytes"},
	}
	for name, test := range tests {
		subtest(t, name, config.ChangesWatch, func(t *testing.T, b *bench) {
			b.api.set(podsPath, podA, podB, podC)
			end := make(chan []byte)
			b.api.watches[podsPath] = []answer{live(end), test.answer}
			defer b.start(t, podsKind())()
			b.expectSent(t, "the first list", "a a", "b b", "c c")
			b.api.set(podsPath, at(podA, "200", "a"), at(podB, "201", "b2"), at(named("shop", "d"), "202", "d"))
			time.Sleep(2 * time.Second)
			close(end)
			time.Sleep(2 * time.Minute)
			b.expectSent(t, "the second list", "b b2", "d d")
			b.expectRequests(t, podsList, podsList)
			b.expectWatches(t, podsFrom("101"), podsFrom("101"), podsFrom("102"))
			b.expectLogs(t, "info: Listed", cannotGo+test.want, "info: Listed")
			last := b.logs.LastEntry().Data
			if got := fmt.Sprintf("%v: %v read, %v sent, %v vanished, %v", last["why"], last["read"], last["sent"], last["vanished"], last["took"]); got != "relist: 3 read, 2 sent, 1 vanished, 0s" {
				t.Errorf("the log says %q, want a relist: 3 read, 2 sent, 1 vanished, 0s", got)
			}
			b.expectStatus(t, Status{Resource: "pods", Read: 3, Total: 3, Vanished: 1, Synced: true, Watching: true, LedgerEntries: 3})
		})
	}
}

// TestWatchForbidden has the right to list, and that to watch comes later. What
// changes meanwhile comes with the resync.
func TestWatchForbidden(t *testing.T) {
	inBubble(t, config.ChangesWatch, func(t *testing.T, b *bench) {
		b.options.ResyncInterval = time.Hour
		b.api.set(podsPath, podA)
		granted := make(chan []byte)
		b.api.watches[podsPath] = append(repeat(126, forbidden()), live(granted))
		defer b.start(t, podsKind(), widgetsKind())()
		time.Sleep(time.Minute)
		b.expectSent(t, "while forbidden", "a a")
		s := b.Status()
		if err := s[0].WatchErr; err == nil || err.Error() != "watch pods: pods is forbidden" || s[0].Watching || !s[0].Synced || s[0].Err != nil {
			t.Errorf("status %+v, want synced, not watching, and forbidden", s[0])
		}
		if !s[1].Watching || s[1].WatchErr != nil {
			t.Errorf("the other kind's status is %+v, want watching", s[1])
		}
		b.api.set(podsPath, podA, podB)
		time.Sleep(time.Hour)
		b.expectSent(t, "the resync", "a a", "b b")
		for s = b.Status(); !s[0].Watching; s = b.Status() {
			time.Sleep(time.Second)
		}
		granted <- modified(t, at(podB, "150", "b2"))
		b.expectSent(t, "when granted", "b b2")
		if s := b.Status()[0]; s.WatchErr != nil {
			t.Errorf("status %+v, want no error", s)
		}
	})
}

// TestResync has everything sent again in time, once, in order, and never later
// than the interval says. What changes around it is sent in order, and what is
// equal is not sent between resyncs.
func TestResync(t *testing.T) {
	for _, changes := range []config.Changes{config.ChangesWatch, config.ChangesWebhook, config.ChangesNone} {
		subtest(t, string(changes), changes, func(t *testing.T, b *bench) {
			b.options.ResyncInterval = 4 * time.Minute
			b.api.set(podsPath, podA, podB)
			defer b.start(t, podsKind())()
			time.Sleep(30 * time.Second)
			b.expectSent(t, "the first list", "a a", "b b")
			begun := b.api.times[0]
			for n := range 20 {
				for len(b.api.asked()) == n+1 {
					time.Sleep(100 * time.Millisecond)
				}
				// A reflector waits for a second or two before it lists again.
				if took := time.Since(begun); took < 216*time.Second || took > 4*time.Minute+2*time.Second {
					t.Errorf("resync %d came after %s, want 3m36s to 4m", n, took)
				}
				begun = time.Now()
				b.expectSent(t, "a resync", "a a", "b b")
			}
			if got := b.logs.LastEntry().Data["why"]; got != reasonResync {
				t.Errorf("the log says why: %v, want %v", got, reasonResync)
			}
			if n := len(b.api.askedToWatch()); (n >= 20) != (changes == config.ChangesWatch) {
				t.Errorf("%d watches", n)
			}
		})
	}
}

// TestResyncBetweenEvents has pods change before, during and after a resync: the
// watch of before is over by then, and that of after begins with the list's
// version.
func TestResyncBetweenEvents(t *testing.T) {
	inBubble(t, config.ChangesWatch, func(t *testing.T, b *bench) {
		b.options.ResyncInterval = time.Minute
		b.api.set(podsPath, podA, podB, podC)
		before, after := make(chan []byte), make(chan []byte)
		b.api.watches[podsPath] = []answer{live(before), live(after)}
		release := make(chan struct{})
		b.api.script[podsPath] = []answer{nil, func(w http.ResponseWriter, r *http.Request, body []byte) {
			<-release
			serve(w, r, body)
		}}
		defer b.start(t, podsKind())()
		b.expectSent(t, "the first list", "a a", "b b", "c c")
		before <- modified(t, at(podA, "110", "a2"))
		before <- deleted(t, at(podC, "111", "c"))
		b.expectSent(t, "the events before", "a a2", "-c c")
		b.api.set(podsPath, at(podA, "110", "a2"), podB)
		time.Sleep(time.Minute + 2*time.Second)
		b.expectRequests(t, podsList, podsList)
		if s := b.Status()[0]; s.Watching || !s.Listing {
			t.Errorf("status %+v, want a list and no watch beside it", s)
		}
		release <- struct{}{}
		b.expectSent(t, "the resync", "a a2", "b b")
		after <- modified(t, at(podB, "120", "b"))
		after <- modified(t, at(podB, "121", "b2"))
		b.expectSent(t, "the events after", "b b2")
		b.expectWatches(t, podsFrom("101"), podsFrom("102"))
	})
}

// TestRelistsDoNotDelayTheResync has the watch expire again and again.
func TestRelistsDoNotDelayTheResync(t *testing.T) {
	inBubble(t, config.ChangesWatch, func(t *testing.T, b *bench) {
		b.options.ResyncInterval = time.Hour
		b.api.set(podsPath, podA)
		tooOld := failed(t, 410, 0, metav1.StatusReasonExpired, "too old")
		b.api.watches[podsPath] = repeat(100, func(w http.ResponseWriter, r *http.Request, _ []byte) {
			write(w)
			if sleep(r.Context(), 5*time.Minute) == nil {
				write(w, tooOld)
			}
		})
		defer b.start(t, podsKind())()
		time.Sleep(3*time.Hour + time.Minute)
		b.expectSent(t, "in three hours", "a a", "a a", "a a", "a a")
	})
}

// TestOlderList has a list of a version before the watch's: etcd was restored.
func TestOlderList(t *testing.T) {
	inBubble(t, config.ChangesWatch, func(t *testing.T, b *bench) {
		b.api.set(podsPath, podA)
		frames := make(chan []byte)
		b.api.watches[podsPath] = []answer{live(frames), gone("protobuf", "")}
		defer b.start(t, podsKind())()
		synctest.Wait()
		frames <- modified(t, at(podA, "1000", "a2"))
		b.expectSent(t, "the list and the watch", "a a", "a a2")
		close(frames)
		time.Sleep(time.Minute)
		b.expectSent(t, "the restored state", "a a")
		b.expectLogs(t, "info: Listed", cannotGo+"too old",
			"warning: The list is older than what was watched before it: was etcd restored from a backup?", "info: Listed")
	})
}

// TestFreshness has the time of the last evidence that a kind is complete.
func TestFreshness(t *testing.T) {
	inBubble(t, config.ChangesWatch, func(t *testing.T, b *bench) {
		frames := make(chan []byte)
		b.api.watches[podsPath] = []answer{live(frames)}
		defer b.start(t, podsKind())()
		begun := time.Now()
		var got []time.Duration
		look := func() {
			synctest.Wait()
			got = append(got, b.Status()[0].Current.Sub(begun))
		}
		look()
		time.Sleep(time.Minute)
		look()
		frames <- bookmarked(t, "102")
		look()
		time.Sleep(time.Minute)
		close(frames)
		look()
		if want := []time.Duration{0, 0, time.Minute, 2 * time.Minute}; !slices.Equal(got, want) {
			t.Errorf("current at %v, want %v", got, want)
		}
	})
}
