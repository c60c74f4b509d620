package informer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"labelstream/config"
)

// newFollower is a bench whose informers keep a ledger and watch.
func newFollower(t *testing.T) *bench {
	b := newBench(t)
	b.options.Follow, b.options.Watch = true, true
	b.cfg.Labels.Filters = config.Patterns{regexp.MustCompile("")}
	return b
}

// sent takes what the sink was given since the last call, as "name app".
func (b *bench) sent() []string {
	b.sink.mu.Lock()
	defer b.sink.mu.Unlock()
	records := make([]string, 0, len(b.sink.series))
	for _, series := range b.sink.series {
		var name, app string
		for label := range strings.SplitSeq(series, " ") {
			switch key, value, _ := strings.Cut(label, "="); key {
			case "label_app":
				app = value
			case "pod", "workload", "node":
				name = value
			}
		}
		records = append(records, name+" "+app)
	}
	b.sink.taken, b.sink.series = nil, nil
	return records
}

// expectSent lets everything come to rest and compares what was sent.
func (b *bench) expectSent(t *testing.T, when string, want ...string) {
	t.Helper()
	synctest.Wait()
	if diff := cmp.Diff(want, b.sent(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s: sent (-want +got):\n%.3000s", when, diff)
	}
}

func (b *bench) expectWatches(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, b.api.askedToWatch(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("watches (-want +got):\n%s", diff)
	}
}

var (
	podA = named("shop", "a")
	podB = named("shop", "b")
	podC = named("shop", "c")
)

// TestWatchEvents brings every type of event: what changed is sent, in order,
// once; the cache stays empty, and its version follows.
func TestWatchEvents(t *testing.T) {
	for _, form := range forms {
		t.Run(form, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newFollower(t)
				b.api.set(widgetsPath, podA, podB)
				send := func(typ watch.EventType, o metav1.PartialObjectMetadata) []byte {
					return encodeEvent(t, form, typ, partial(o))
				}
				b.api.watches[widgetsPath] = []answer{feed(
					send(watch.Added, at(podC, "102", "c")),
					send(watch.Modified, at(podA, "103", "a")), // only the status
					send(watch.Modified, at(podA, "104", "a2")),
					send(watch.Modified, at(podA, "105", "a")),
					send(watch.Deleted, at(podB, "106", "b")),
					send(watch.Deleted, at(podB, "107", "b")), // nobody knows it
					send(watch.Added, at(podB, "108", "b")),
					send("OTHER", at(podB, "109", "b3")),
					send(watch.Bookmark, metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "110"}}),
				)}
				stop := b.start(t, widgetsKind())
				defer stop()
				b.expectSent(t, "at the end", "a a", "b b", "c c", "a a2", "a a", "b b", "b b")
				b.expectRequests(t, widgetsPath+"?limit=50")
				b.expectWatches(t, widgetsPath+"?resourceVersion=101")
				informer := b.others[0]
				if !informer.HasSynced() || informer.LastSyncResourceVersion() != "110" || len(informer.GetStore().ListKeys()) != 0 {
					t.Errorf("synced %t, version %q, cache of %d; want true, 110 and 0",
						informer.HasSynced(), informer.LastSyncResourceVersion(), len(informer.GetStore().ListKeys()))
				}
				want := []Status{{Resource: "widgets.example.com", Read: 2, Total: 2, Synced: true, Watching: true, Sent: 3, Changes: 5}}
				if diff := cmp.Diff(want, b.Status(), cmpopts.IgnoreFields(Status{}, "Took", "Current", "Listed", "SentBytes")); diff != "" {
					t.Errorf("status (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestWatchGoesOn ends and breaks watches: each next one begins where the last
// one was, nothing is listed again or sent twice.
func TestWatchGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		b.api.set(podsPath, podA)
		c := added(t, at(podC, "104", "c"))
		b.api.watches[podsPath] = []answer{
			feedAndEnd(added(t, at(podB, "102", "b"))),
			feedAndBreak(bookmarked(t, "103"), c[:len(c)-1]),
			feedAndBreak(c, c[:2]),
			text(503, ""),
			disconnect,
			func(_ http.ResponseWriter, r *http.Request, _ []byte) {
				time.Sleep(2 * time.Second)
				panic(http.ErrAbortHandler)
			},
			func(w http.ResponseWriter, r *http.Request, _ []byte) {
				write(w)
				time.Sleep(2 * time.Second) // silent, and its time is over
			},
			feed(c, modified(t, at(podC, "105", "c2"))),
		}
		stop := b.start(t, podsKind())
		defer stop()
		time.Sleep(time.Minute)
		b.expectSent(t, "at the end", "a a", "b b", "c c", "c c2")
		b.expectRequests(t, podsPath+"?limit=50")
		from := func(version string) string { return podsPath + "?resourceVersion=" + version }
		b.expectWatches(t, from("101"), from("102"), from("103"), from("104"), from("104"), from("104"), from("104"), from("104"))
		b.expectLogs(t, "info: Listed",
			"warning: Cannot watch; trying again: watch pods: the server is currently unable to handle the request",
			"warning: Cannot watch; trying again: watch pods: GET /api/v1/pods: connection closed",
			"info: Watching again")
		want := `
# HELP labelstream_errors_total Failures of requests to the API server, each of which is tried again.
# TYPE labelstream_errors_total counter
labelstream_errors_total{kind="pods",reason="Connection",verb="watch"} 2
labelstream_errors_total{kind="pods",reason="ServiceUnavailable",verb="watch"} 1
# HELP labelstream_ledger_entries Objects of which is known what was sent.
# TYPE labelstream_ledger_entries gauge
labelstream_ledger_entries{kind="pods"} 3
# HELP labelstream_last_list_timestamp_seconds When a list of the kind was last complete, in Unix time.
# TYPE labelstream_last_list_timestamp_seconds gauge
labelstream_last_list_timestamp_seconds{kind="pods"} 9.466848e+08
# HELP labelstream_objects_seen_total Objects that lists and watches have brought, sent or not.
# TYPE labelstream_objects_seen_total counter
labelstream_objects_seen_total{kind="pods"} 5
# HELP labelstream_records_total Records handed over for sending, by what brought them.
# TYPE labelstream_records_total counter
labelstream_records_total{kind="pods",source="heal"} 0
labelstream_records_total{kind="pods",source="list"} 1
labelstream_records_total{kind="pods",source="resync"} 0
labelstream_records_total{kind="pods",source="watch"} 3
# HELP labelstream_watch_changes_total Changes that watches have brought and admission reviews show: an object came to be, ended, or has other tags.
# TYPE labelstream_watch_changes_total counter
labelstream_watch_changes_total{kind="pods"} 3
# HELP labelstream_watch_restarts_total Watches that were opened after the first of a kind; servers end each after some minutes.
# TYPE labelstream_watch_restarts_total counter
labelstream_watch_restarts_total{kind="pods"} 4
# HELP labelstream_watching 1 while the kind is watched; none where watches are off.
# TYPE labelstream_watching gauge
labelstream_watching{kind="pods"} 1
`
		if err := testutil.GatherAndCompare(b.registry, strings.NewReader(want), "labelstream_errors_total", "labelstream_ledger_entries",
			"labelstream_last_list_timestamp_seconds", "labelstream_objects_seen_total", "labelstream_records_total",
			"labelstream_resync_interval_seconds", "labelstream_watch_changes_total", "labelstream_watch_restarts_total",
			"labelstream_watching"); err != nil {
			t.Error(err)
		}
	})
}

// TestWatchEndsAtOnce has a server that closes every watch at once: we back
// off, and neither spin nor list again.
func TestWatchEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		b.api.watches[podsPath] = append(repeat(6, feedAndEnd()), feed(added(t, podA)))
		stop := b.start(t, podsKind())
		defer stop()
		begun := time.Now()
		for len(b.api.askedToWatch()) < 7 {
			time.Sleep(100 * time.Millisecond)
		}
		// 0.2, 0.4, 0.8, 1.6, 3.2 and 6.4 s, each up to half as much again.
		if took := time.Since(begun); took < 12600*time.Millisecond || took > 19*time.Second {
			t.Errorf("six more watches took %s, want the backoff's 12.6 s to half as much again", took)
		}
		b.expectSent(t, "at the end", "a a")
		b.expectRequests(t, podsPath+"?limit=50")
		b.expectLogs(t, "info: Listed", "warning: Cannot watch; trying again: watch pods: it ended after 0s: EOF", "info: Watching again")
	})
}

// TestWatchRelists has watches that cannot go on. The list that follows sends
// what has changed since, and forgets what is gone.
func TestWatchRelists(t *testing.T) {
	const expired = "info: The watch cannot go on; listing again: watch pods: too old"
	tests := map[string]struct {
		answer answer
		want   string
	}{
		"410 as the answer":   {gone("protobuf", ""), expired},
		"410 as an event":     {feed(failed(t, 410, metav1.StatusReasonExpired, "too old")), expired},
		"410 of a proxy":      {text(410, ""), "info: The watch cannot go on; listing again: watch pods: the server responded with the status code 410 but did not return more information"},
		"another error":       {feed(failed(t, 500, metav1.StatusReasonInternalError, "too old")), expired},
		"what makes no sense": {feed([]byte{4, 0, 0, 1}), "info: The watch cannot go on; listing again: watch pods: Internal error occurred: decode the watch: a frame of 67108865 bytes"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newFollower(t)
				b.api.set(podsPath, podA, podB, podC)
				end := make(chan []byte)
				b.api.watches[podsPath] = []answer{live(end), test.answer}
				stop := b.start(t, podsKind())
				defer stop()
				b.expectSent(t, "the first list", "a a", "b b", "c c")
				b.api.set(podsPath, at(podA, "200", "a"), at(podB, "201", "b2"), at(named("shop", "d"), "202", "d"))
				time.Sleep(2 * time.Second)
				close(end)
				time.Sleep(2 * time.Minute)
				b.expectSent(t, "the second list", "b b2", "d d")
				b.expectRequests(t, podsPath+"?limit=50", podsPath+"?limit=50")
				b.expectWatches(t, podsPath+"?resourceVersion=101", podsPath+"?resourceVersion=101", podsPath+"?resourceVersion=102")
				b.expectLogs(t, "info: Listed", test.want, "info: Listed")
				last := b.logs.LastEntry().Data
				if got := fmt.Sprintf("%v: %v read, %v sent, %v gone", last["why"], last["read"], last["sent"], last["gone"]); got != "list: 3 read, 2 sent, 1 gone" {
					t.Errorf("the log says %q, want a list: 3 read, 2 sent, 1 gone", got)
				}
				if n := b.Status()[0].Sent; n != 3 {
					t.Errorf("the ledger knows %d, want 3", n)
				}
			})
		})
	}
}

// TestWatchWaitsAsTold has a server that is too busy in mid-watch.
func TestWatchWaitsAsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		busy := failure(429, metav1.StatusReasonTooManyRequests, "busy")
		busy.Details = &metav1.StatusDetails{RetryAfterSeconds: 7}
		b.api.watches[podsPath] = []answer{feed(encodeEvent(t, "protobuf", watch.Error, busy)), feed(added(t, podA))}
		stop := b.start(t, podsKind())
		defer stop()
		time.Sleep(6900 * time.Millisecond)
		b.expectSent(t, "before the time")
		time.Sleep(200 * time.Millisecond)
		b.expectSent(t, "after it", "a a")
		b.expectRequests(t, podsPath+"?limit=50")
	})
}

// TestWatchForbidden has the right to list, and that to watch comes later.
func TestWatchForbidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		b.api.set(podsPath, podA)
		b.api.watches[podsPath] = append(repeat(12, forbidden()), feed(added(t, at(podB, "150", "b"))))
		stop := b.start(t, podsKind(), widgetsKind())
		defer stop()
		time.Sleep(time.Minute)
		b.expectSent(t, "while forbidden", "a a")
		status := b.Status()
		want := `watch pods: forbidden; grant the verb "watch" on resource "pods" in API group "": pods is forbidden`
		if err := status[0].WatchErr; err == nil || err.Error() != want || status[0].Watching || !status[0].Synced || status[0].Err != nil {
			t.Errorf("status %+v, want synced, not watching, and %q", status[0], want)
		}
		if !status[1].Watching || status[1].WatchErr != nil {
			t.Errorf("the other kind's status is %+v, want watching", status[1])
		}
		for len(b.api.askedToWatch()) < 14 {
			time.Sleep(time.Second)
		}
		b.expectSent(t, "when granted", "b b")
		if s := b.Status()[0]; s.WatchErr != nil || !s.Watching {
			t.Errorf("status %+v, want watching", s)
		}
	})
}

// TestWatchSilence has a server that neither sends nor ends a watch: it is
// given up a minute after its time, and goes on.
func TestWatchSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		b.api.watches[podsPath] = []answer{feed(), hang}
		stop := b.start(t, podsKind())
		defer stop()
		// Reflectors ask for 5 to 10 minutes.
		last := time.Now()
		for n := 2; n <= 3; n++ {
			for len(b.api.askedToWatch()) < n {
				time.Sleep(time.Second)
			}
			if took := time.Since(last); took < 6*time.Minute || took > 11*time.Minute+2*time.Second {
				t.Errorf("watch %d came %s after the one before, want 6 to 11 minutes", n, took)
			}
			last = time.Now()
		}
		b.expectRequests(t, podsPath+"?limit=50")
	})
}

// TestWatchOff has nothing watched, and what was sent sent again in time.
func TestWatchOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		b.options.Watch, b.options.ResyncInterval = false, time.Hour
		b.api.set(podsPath, podA)
		stop := b.start(t, podsKind())
		defer stop()
		time.Sleep(time.Hour)
		b.expectSent(t, "after an hour", "a a", "a a")
		b.expectWatches(t)
	})
}

// TestWatchedObjectsAreFiltered has an object in an excluded namespace, and
// tags that are dropped.
func TestWatchedObjectsAreFiltered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		b.cfg.NamespacesExclude = []string{"kube-system"}
		b.api.watches[podsPath] = []answer{feed(
			added(t, named("kube-system", "x")), deleted(t, named("kube-system", "x")), added(t, at(podA, "110", "")))}
		stop := b.start(t, podsKind())
		defer stop()
		b.expectSent(t, "at the end", "a ")
		if n := testutil.ToFloat64(b.vectors.tags.WithLabelValues("empty")); n != 1 {
			t.Errorf("%v empty tags, want 1", n)
		}
	})
}

// TestWatchWaitsForTheSink has a destination that takes nothing for long: the
// watch waits, and nothing is lost or sent again.
func TestWatchWaitsForTheSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		b.api.watches[podsPath] = []answer{feedAndEnd(added(t, podA), added(t, podB), added(t, podC))}
		b.sink.put = func(ctx context.Context, key string) error {
			time.Sleep(time.Hour)
			return nil
		}
		stop := b.start(t, podsKind())
		defer stop()
		time.Sleep(30 * time.Minute)
		if err := b.Stuck(time.Now()); err != nil {
			t.Errorf("waiting for the destination: %v", err)
		}
		time.Sleep(3 * time.Hour)
		b.expectSent(t, "at the end", "a a", "b b", "c c")
		b.expectRequests(t, podsPath+"?limit=50")
	})
}

// TestWatchStops ends the context in each state that a watch can be in. The
// bubble fails where anything is left running.
func TestWatchStops(t *testing.T) {
	block := func(ctx context.Context, _ string) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	tests := map[string]struct {
		answer answer
		put    func(context.Context, string) error
		list   []metav1.PartialObjectMetadata
	}{
		"listing":             {list: []metav1.PartialObjectMetadata{podA}, put: block},
		"connecting":          {answer: hang},
		"waiting to try":      {answer: text(503, "3600")},
		"waiting for a event": {answer: feed()},
		"in mid-event":        {answer: feed(added(t, podA)[:9])},
		"putting":             {answer: feed(added(t, podA), added(t, podB)), put: block},
		"relisting":           {answer: gone("protobuf", "")},
		"the sink is closed": {answer: feed(added(t, podA)), put: func(context.Context, string) error {
			return errors.New("closed")
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newFollower(t)
				b.sink.put = test.put
				b.api.set(podsPath, test.list...)
				if test.answer != nil {
					b.api.watches[podsPath] = []answer{test.answer}
				}
				stop := b.start(t, podsKind())
				time.Sleep(100 * time.Millisecond)
				asked := len(b.api.askedToWatch())
				if (test.answer != nil) != (asked == 1) {
					t.Errorf("%d watches, want one where there is an answer", asked)
				}
				begun := time.Now()
				stop()
				if took := time.Since(begun); took != 0 {
					t.Errorf("the end took %s", took)
				}
				b.expectSent(t, "after the end")
				if n := len(b.api.askedToWatch()); n != asked {
					t.Errorf("%d watches were opened after the end", n-asked)
				}
			})
		})
	}
}

// TestStoppedStream has the reflector's side of a watch stop first.
func TestStoppedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		b.sink.put = func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		b.api.watches[podsPath] = []answer{feed(added(t, podA)), feed(added(t, podA)), feed(added(t, podA))}
		b.build(t, podsKind())
		s := b.sources[0]
		var seconds int64 = 300
		for range 2 {
			w, err := s.WatchWithContext(t.Context(), metav1.ListOptions{ResourceVersion: "7", TimeoutSeconds: &seconds, AllowWatchBookmarks: true})
			if err != nil {
				t.Fatal(err)
			}
			if e := <-w.ResultChan(); e.Type != watch.Bookmark || e.Object.(*metav1.PartialObjectMetadata).ResourceVersion != "7" {
				t.Errorf("the first event is %v, want the version it begins with", e)
			}
			synctest.Wait()
			// The event is in hand when the watch is stopped; the next one
			// waits for it, and the ledger takes it as not sent.
			w.Stop()
			w.Stop()
		}
		b.sink.put = nil
		w, err := s.WatchWithContext(t.Context(), metav1.ListOptions{ResourceVersion: "7", TimeoutSeconds: &seconds, AllowWatchBookmarks: true})
		if err != nil {
			t.Fatal(err)
		}
		<-w.ResultChan()
		<-w.ResultChan()
		w.Stop()
		b.expectSent(t, "in the end", "a a")
		b.calls.close()
		if w, err := s.WatchWithContext(t.Context(), metav1.ListOptions{}); w != nil || !errors.Is(err, context.Canceled) {
			t.Errorf("after the end: watch %v, error %v; want none and %v", w, err, context.Canceled)
		}
	})
}

// TestFreshness has the time of the last evidence that a kind is complete.
func TestFreshness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		frames := make(chan []byte)
		b.api.watches[podsPath] = []answer{live(frames)}
		stop := b.start(t, podsKind())
		defer stop()
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

// TestStuck has a loop that does not get on although nobody else is to blame.
func TestStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		b.build(t, podsKind())
		now := time.Now()
		if err := b.Stuck(now); err != nil {
			t.Error(err)
		}
		s := b.sources[0]
		for what, p := range map[string]*pulse{"list": &s.listPulse, "watch": &s.watch.pulse, "resync": &s.tendPulse} {
			p.within(time.Minute)
			if err := b.Stuck(now.Add(time.Minute)); err != nil {
				t.Error(err)
			}
			want := "the " + what + " of pods is stuck: it should have got on 30s ago"
			if err := b.Stuck(now.Add(90 * time.Second)); err == nil || err.Error() != want {
				t.Errorf("error %v, want %s", err, want)
			}
			p.rest()
		}
	})
}

// TestNothingIsStuck looks in each minute of a day with outages of all sorts.
func TestNothingIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFollower(t)
		b.options.ResyncInterval = time.Hour
		b.api.set(podsPath, podA, podB)
		b.api.script[podsPath] = slices.Concat(repeat(20, text(503, "")), repeat(3, hang), []answer{nil}, repeat(30, forbidden()))
		b.api.watches[podsPath] = slices.Concat(repeat(3, hang), repeat(20, text(503, "300")), []answer{gone("protobuf", "")}, repeat(30, feedAndEnd()))
		b.sink.put = func(context.Context, string) error {
			time.Sleep(10 * time.Minute)
			return nil
		}
		stop := b.start(t, podsKind())
		defer stop()
		for range 24 * 60 {
			time.Sleep(time.Minute)
			if err := b.Stuck(time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(b.sink.records()); n < 2*20 {
			t.Errorf("%d records in a day of hourly resyncs of 2", n)
		}
	})
}
