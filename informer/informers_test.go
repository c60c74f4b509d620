// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/config"
	"labelstream/record"
)

// TestListsInFlight has four kinds whose server is slow: two are listed at a
// time.
func TestListsInFlight(t *testing.T) {
	inBubble(t, once, func(t *testing.T, b *bench) {
		release := make(chan struct{})
		slow := func(w http.ResponseWriter, r *http.Request, body []byte) {
			<-release
			serve(w, r, body)
		}
		kinds := []*Kind{podsKind(), nodesKind(), deploymentsKind(), widgetsKind()}
		var want []string
		for _, kind := range kinds {
			path, _ := location(kind, Scope{})
			b.api.objects[path], b.api.script[path] = pods(60), repeat(2, slow)
			want = append(want, records(kind.Type, pods(60))...)
		}
		defer b.start(t, kinds...)()
		for n := range 8 {
			synctest.Wait()
			if asked := len(b.api.asked()); asked > n+listsInFlight {
				t.Errorf("%d requests when %d are answered, want %d more at most", asked, n, listsInFlight)
			}
			release <- struct{}{}
		}
		synctest.Wait()
		b.expectSorted(t, want...)
	})
}

// TestRetriesFreeTheSlot has two kinds that fail, one of them page after page:
// the third is read.
func TestRetriesFreeTheSlot(t *testing.T) {
	inBubble(t, once, func(t *testing.T, b *bench) {
		b.api.script[podsPath] = repeat(1000, text(503, "3600"))
		nodes, _ := location(nodesKind(), Scope{})
		b.api.script[nodes] = repeat(1000, sameToken("101-0", 0, 0))
		b.api.objects[widgetsPath] = pods(60)
		defer b.start(t, podsKind(), nodesKind(), widgetsKind())()
		time.Sleep(time.Second)
		b.expectRecords(t, records("widget.example.com", pods(60)))
		time.Sleep(time.Hour)
		// At a backoff of 30 s and more.
		if n := len(b.api.asked()); n > 140 {
			t.Errorf("%d requests in an hour", n)
		}
	})
}

// TestStopWaitingForASlot ends the context while two kinds hang and a third
// waits; before, the time is over to wait for them.
func TestStopWaitingForASlot(t *testing.T) {
	inBubble(t, once, func(t *testing.T, b *bench) {
		kinds := []*Kind{podsKind(), nodesKind(), widgetsKind()}
		for _, kind := range kinds {
			path, _ := location(kind, Scope{})
			b.api.script[path] = []answer{hang}
		}
		stop := b.start(t, kinds...)
		why := errors.New("no time left")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, why)
		defer cancel()
		if err := b.Wait(ctx); !errors.Is(err, why) {
			t.Errorf("error %v, want %q", err, why)
		}
		stop()
		if n := len(b.api.asked()); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
	})
}

func TestNamespaces(t *testing.T) {
	inBubble(t, once, func(t *testing.T, b *bench) {
		b.cfg.Namespaces = config.List{"shop", "lab"}
		b.api.objects = map[string]objects{
			"/api/v1/namespaces/shop/pods":                      {podA, podB},
			"/api/v1/namespaces/lab/pods":                       {named("lab", "c")},
			"/apis/example.com/v1beta2/namespaces/shop/widgets": {named("shop", "w")},
			"/api/v1/nodes":                                     {named("", "n")},
			"/api/v1/namespaces":                                {named("", "lab"), named("", "other"), named("", "shop")},
		}
		b.api.script["/apis/example.com/v1beta2/namespaces/lab/widgets"] = repeat(1000, forbidden())
		b.backfill(t, podsKind(), widgetsKind(), nodesKind(), namespacesKind())
		b.expectSorted(t, "namespace /lab lab", "namespace /shop shop", "node /n n", "pod lab/c c", "pod shop/a a", "pod shop/b b", "widget.example.com shop/w w")
		var paths []string
		for _, request := range b.api.asked() {
			path, _, _ := strings.Cut(request, "limit=")
			paths = append(paths, path)
		}
		slices.Sort(paths)
		expect(t, "requests", []string{
			"/api/v1/namespaces/lab/pods?", "/api/v1/namespaces/shop/pods?",
			"/api/v1/namespaces?fieldSelector=metadata.name%3Dlab&", "/api/v1/namespaces?fieldSelector=metadata.name%3Dshop&", "/api/v1/nodes?",
			"/apis/example.com/v1beta2/namespaces/lab/widgets?", "/apis/example.com/v1beta2/namespaces/shop/widgets?",
		}, slices.Compact(paths))
		var read []string
		for _, s := range b.Status() {
			read = append(read, fmt.Sprintf("%s in %q: %d of %d, %v", s.Resource, s.Namespace, s.Read, s.Total, s.Err))
		}
		expect(t, "status", []string{
			`pods in "shop": 2 of 2, <nil>`, `pods in "lab": 1 of 1, <nil>`, `widgets.example.com in "shop": 1 of 1, <nil>`,
			`widgets.example.com in "lab": 0 of -1, list widgets.example.com in namespace lab: pods is forbidden`,
			`nodes in "": 1 of 1, <nil>`, `namespaces in "shop": 1 of 1, <nil>`, `namespaces in "lab": 1 of 1, <nil>`,
		}, read)
		if got := b.logs.LastEntry().Data["namespace"]; got != "lab" {
			t.Errorf("the log names the namespace %v, want lab", got)
		}
	})
}

// TestManyNamespaces chooses more namespaces than are read one by one.
func TestManyNamespaces(t *testing.T) {
	inBubble(t, once, func(t *testing.T, b *bench) {
		for i := range maxScopes {
			b.cfg.Namespaces = append(b.cfg.Namespaces, fmt.Sprint("n", i))
		}
		b.cfg.Namespaces = append(b.cfg.Namespaces, "shop")
		b.api.objects = map[string]objects{
			"/api/v1/pods":       {named("lab", "c"), named("n7", "b"), named("shop", "a")},
			"/api/v1/nodes":      {named("", "n")},
			"/api/v1/namespaces": {named("", "lab"), named("", "shop")},
		}
		b.backfill(t, podsKind(), nodesKind(), namespacesKind())
		b.expectSorted(t, "namespace /shop shop", "node /n n", "pod n7/b b", "pod shop/a a")
		if status := b.Status(); len(status) != 3 || status[0].Excluded != 1 || status[2].Excluded != 1 {
			t.Errorf("status %+v, want one for each kind, with the pod and the namespace of lab excluded", status)
		}
	})
}

// TestStatusAndMetrics reads objects of which some are excluded and some values
// are dropped.
func TestStatusAndMetrics(t *testing.T) {
	inBubble(t, config.ChangesWatch, func(t *testing.T, b *bench) {
		b.options.ResyncInterval = 4 * time.Hour
		b.cfg.Labels.Filters = config.Patterns{{Regexp: regexp.MustCompile("kept|bad|long|none")}}
		b.cfg.NamespacesExclude = config.List{"kube-system"}
		b.cfg.ValueMaxBytes = 16
		b.cfg.MetricPrefix = "t_"
		pod := named("shop", "a")
		pod.Labels = map[string]string{"kept": "v", "bad": "a<b", "long": strings.Repeat("l", 20), "none": "", "other": "x"}
		b.api.objects[podsPath] = objects{named("kube-system", "x"), named("kube-system", "y"), pod}
		defer b.start(t, podsKind())()
		synctest.Wait()
		wantSeries := []string{`__name__=t_pod_labels label_kept=v label_long=llllllllllllllll namespace=shop pod=a resource_type=pod`}
		expect(t, "series", wantSeries, b.sink.series)
		b.expectStatus(t, Status{
			Resource: "pods", Read: 3, Excluded: 2, Total: 3, Synced: true, Watching: true, LedgerEntries: 1,
			Drops: record.Drops{Empty: 1, Unsafe: 1, Truncated: 1},
		})
		expect(t, "metrics", []string{
			"labelstream_keys 2",
			"labelstream_keys_limit 0",
			"labelstream_last_list_timestamp_seconds resource=pods 9.466848e+08",
			"labelstream_last_sync_timestamp_seconds resource=pods 9.466848e+08",
			"labelstream_ledger_bytes resource=pods 4096",
			"labelstream_ledger_entries resource=pods 1",
			"labelstream_objects_seen_total resource=pods 3",
			"labelstream_objects_vanished_total resource=pods 0",
			"labelstream_records_total resource=pods source=list 1",
			"labelstream_records_total resource=pods source=relist 0",
			"labelstream_records_total resource=pods source=resync 0",
			"labelstream_records_total resource=pods source=watch 0",
			"labelstream_resync_interval_seconds 14400",
			"labelstream_synced resource=pods 1",
			"labelstream_values_dropped_total reason=empty resource=pods 1",
			"labelstream_values_dropped_total reason=long_name resource=pods 0",
			"labelstream_values_dropped_total reason=too_many resource=pods 0",
			"labelstream_values_dropped_total reason=unsafe resource=pods 1",
			"labelstream_values_truncated_total resource=pods 1",
			"labelstream_watch_restarts_total resource=pods 0",
			"labelstream_watching resource=pods 1",
		}, gathered(t, b.registry))
	})
}

// TestLimits names the first pod beyond each limit, and says once that there are
// too many keys.
func TestLimits(t *testing.T) {
	inBubble(t, once, func(t *testing.T, b *bench) {
		b.cfg.MaxLabelsPerSeries, b.cfg.LabelNameMaxBytes, b.cfg.ValueMaxBytes, b.cfg.MaxKeys = 6, 12, 8, 2
		pod := func(name string, labels map[string]string) metav1.PartialObjectMetadata {
			o := named("shop", name)
			o.Labels = labels
			return o
		}
		b.api.objects[podsPath] = objects{
			pod("a", map[string]string{"x": "1", "y": "2"}),
			pod("b", map[string]string{"x": "1", "y": "2", "z": "123456789"}),
			pod("c", map[string]string{"v": "1", "w": "1", "x": "1", "y": "2", "long-name": "1"}),
		}
		b.backfill(t, podsKind())
		var logs []string
		for _, e := range b.logs.AllEntries() {
			logs = append(logs, fmt.Sprint(e.Message, ": ", e.Data["object_namespace"], "/", e.Data["object"], " ", e.Data["labels"], " ", e.Data["setting"]))
		}
		slices.Sort(logs)
		expect(t, "logs", []string{
			"Labels are left out, the object has too many: shop/b 1 LABELSTREAM_MAX_LABELS_PER_SERIES",
			"Labels are left out, their names are too long: shop/c 1 LABELSTREAM_LABEL_NAME_MAX_BYTES",
			"More keys of labels and annotations are sent than the receiver keeps: <nil>/<nil> <nil> LABELSTREAM_MAX_KEYS",
			"Values are cut, they are too long: shop/b 1 LABELSTREAM_VALUE_MAX_BYTES",
		}, logs)
		b.expectStatus(t, Status{Resource: "pods", Read: 3, Total: 3, Synced: true, Drops: record.Drops{Truncated: 1, LongName: 1, TooMany: 3}})
	})
}

// gathered are the metrics of a registry: name, labels, value.
func gathered(t *testing.T, registry *prometheus.Registry) (lines []string) {
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.Metric {
			line := family.GetName()
			for _, label := range m.Label {
				line += " " + label.GetName() + "=" + label.GetValue()
			}
			lines = append(lines, fmt.Sprintf("%s %g", line, m.GetCounter().GetValue()+m.GetGauge().GetValue()))
		}
	}
	return lines
}

// TestProgress looks at the status page by page.
func TestProgress(t *testing.T) {
	inBubble(t, once, func(t *testing.T, b *bench) {
		next := make(chan struct{})
		step := func(w http.ResponseWriter, r *http.Request, body []byte) {
			<-next
			serve(w, r, body)
		}
		b.api.objects[podsPath] = pods(600)
		b.api.script[podsPath] = []answer{step, step, gone("protobuf", ""), step, step}
		defer b.start(t, podsKind())()
		var got []string
		look := func() {
			time.Sleep(time.Second)
			s := b.Status()[0]
			got = append(got, fmt.Sprint(s.Read, s.Total, s.Listing, s.Synced))
		}
		look()
		for range 4 {
			next <- struct{}{}
			look()
		}
		// The list begins anew after 550: what is left is not known before it has
		// come as far again.
		want := []string{"0 -1 true false", "50 600 true false", "550 600 true false", "550 -1 true false", "600 600 false true"}
		expect(t, "progress", want, got)
	})
}

// TestAdd adds kinds to informers that run: a new one, and one whose resource was
// deleted, so that discovery was asked again, and is served in another version. Be
// it in a factory or not, that is read anew, once.
func TestAdd(t *testing.T) {
	missing := refusal(404, metav1.StatusReasonNotFound, "no such thing")
	for _, kind := range []*Kind{widgetsKind(), deploymentsKind()} {
		subtest(t, kind.Resource, config.ChangesWatch, func(t *testing.T, b *bench) {
			var asked atomic.Int64
			b.options.Rediscover = func() { asked.Add(1) }
			path, _ := location(kind, Scope{})
			b.api.set(path, podA, podB)
			end := make(chan []byte)
			b.api.watches[path] = append([]answer{live(end)}, repeat(100, missing)...)
			b.api.script[path] = append([]answer{nil}, repeat(100, missing)...)
			stop := b.start(t, kind)
			defer stop()
			synctest.Wait()
			b.expectRecords(t, records(kind.Type, objects{podA, podB}))
			close(end)
			time.Sleep(2 * time.Minute)
			if s := b.Status()[0]; s.Synced || !s.Final || s.Err == nil || s.Err.Error() != "list "+kind.Resource+": no such thing" {
				t.Errorf("status %+v, want not synced, and why", s)
			}
			if asked.Load() == 0 {
				t.Error("discovery was not asked again")
			}
			other := *kind
			other.GVR.Version, other.GVK.Version = "v7", "v7"
			path, _ = location(&other, Scope{})
			b.api.set(path, podA)
			b.api.set(podsPath, podB)
			b.Add([]*Kind{&other, podsKind()})
			time.Sleep(time.Second)
			b.expectSorted(t, kind.Type+" shop/a a", "pod shop/b b")
			want := []Status{
				{Resource: kind.Resource, Read: 1, Total: 1, Synced: true, Watching: true, LedgerEntries: 1},
				{Resource: "pods", Read: 1, Total: 1, Synced: true, Watching: true, LedgerEntries: 1},
			}
			b.expectStatus(t, want...)
			lists := len(b.api.asked())
			b.Add([]*Kind{&other, podsKind()})
			time.Sleep(time.Hour)
			b.expectStatus(t, want...)
			stop()
			b.Add([]*Kind{nodesKind()})
			if n := len(b.api.asked()); n != lists || len(b.Status()) != 2 {
				t.Errorf("%d lists after all was read, status %+v", n-lists, b.Status())
			}
		})
	}
}

// TestAlive has a kind that does not get on although nobody else is to blame.
func TestAlive(t *testing.T) {
	inBubble(t, config.ChangesWatch, func(t *testing.T, b *bench) {
		stuck := make(chan struct{})
		b.sink.room = func(context.Context, string) error { <-stuck; return nil }
		b.api.set(podsPath, podA)
		expect := func(after time.Duration, queueFull bool, want string) {
			t.Helper()
			got := ""
			if err := b.Alive(time.Now().Add(after), queueFull); err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("after %s, queue full %t: %q, want %q", after, queueFull, got, want)
			}
		}
		b.make(t, podsKind())
		expect(time.Hour, false, "") // nothing runs yet
		stop := b.run(t)
		synctest.Wait()
		expect(0, false, "")
		expect(29*time.Minute, false, "")
		expect(31*time.Minute, false, "pods has made no progress for 31m0s")
		expect(time.Hour, true, "")
		close(stuck)
		stop()
	})
}

// TestAliveThroughOutages looks in each minute of a day with outages of all
// sorts.
func TestAliveThroughOutages(t *testing.T) {
	for _, changes := range []config.Changes{config.ChangesWatch, config.ChangesWebhook, config.ChangesNone} {
		subtest(t, string(changes), changes, func(t *testing.T, b *bench) {
			b.options.ResyncInterval = time.Hour
			b.api.set(podsPath, podA, podB)
			b.api.script[podsPath] = slices.Concat(repeat(20, text(503, "")), repeat(3, hang), []answer{nil}, repeat(30, forbidden()))
			b.api.watches[podsPath] = slices.Concat(repeat(3, hang), repeat(20, text(503, "300")), []answer{gone("protobuf", "")}, repeat(30, feedAndEnd()))
			b.sink.room = func(context.Context, string) error {
				time.Sleep(10 * time.Minute)
				return nil
			}
			defer b.start(t, podsKind(), widgetsKind(), nodesKind())()
			for range 24 * 60 {
				time.Sleep(time.Minute)
				if err := b.Alive(time.Now(), false); err != nil {
					t.Fatal(err)
				}
			}
			if n := len(b.sink.records()); n < 2*17 {
				t.Errorf("%d records in a day of hourly resyncs of 2", n)
			}
		})
	}
}

// TestByKind adds up namespaces: a kind is no better than the worst of them.
func TestByKind(t *testing.T) {
	early, late := time.Unix(100, 0), time.Unix(200, 0)
	got := ByKind([]Status{
		{Resource: "pods", Namespace: "a", Synced: true, Watching: true, Current: early, Listed: late, Total: 3, LedgerEntries: 1, LedgerBytes: 10},
		{Resource: "pods", Namespace: "b", Synced: true, Listing: true, Current: late, Listed: early, Total: -1, LedgerEntries: 2, LedgerBytes: 20},
		{Resource: "pods", Namespace: "c", Synced: true, Current: late, Listed: late, Total: 4},
		{Resource: "nodes", Synced: true, Watching: true, Current: late, Listed: late, Total: 3, LedgerEntries: 4},
		{Resource: "nodes", Synced: true, Watching: true, Current: late, Listed: late, Total: 5, LedgerEntries: 4},
	})
	want := []Status{
		{Resource: "pods", Namespace: "a", Synced: true, Listing: true, Current: early, Listed: early, Total: -1, LedgerEntries: 3, LedgerBytes: 30},
		{Resource: "nodes", Synced: true, Watching: true, Current: late, Listed: late, Total: 8, LedgerEntries: 8},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kinds (-want +got):\n%s", diff)
	}
}

// TestConnections reads page after page over one connection, until that is cut.
func TestConnections(t *testing.T) {
	inBubble(t, once, func(t *testing.T, b *bench) {
		var connections atomic.Int64
		dial := b.transport.DialContext
		b.transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			connections.Add(1)
			return dial(ctx, network, address)
		}
		b.transport.DisableKeepAlives = false
		defer b.transport.CloseIdleConnections()
		b.options.PageSize = 52
		b.api.objects[podsPath], b.api.script[podsPath] = fat(120, 20_000), []answer{nil, nil, cutAt("pod-0105"), nil}
		b.backfill(t, podsKind())
		b.expectRecords(t, records("pod", pods(120)))
		b.expectRequests(t, podsList, podsPath+"?continue=101-50&limit=52", podsPath+"?continue=101-102&limit=52", podsPath+"?continue=101-102&limit=26")
		if n := connections.Load(); n != 2 {
			t.Errorf("%d connections, want two: one until it was cut, one after", n)
		}
	})
}
