package informer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	logrustest "github.com/sirupsen/logrus/hooks/test"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"labelstream/config"
	"labelstream/record"
)

// TestListVersion has the reflector given the first page's version, whatever
// came after.
func TestListVersion(t *testing.T) {
	tests := map[string][]answer{
		"all well":              nil,
		"first page cut":        {cutAt("pod-0020")},
		"410 without a token":   {nil, gone("protobuf", "")},
		"410 with a token":      {nil, gone("protobuf", "300-50")},
		"second page cut twice": {nil, cutAt("pod-0055"), disconnect},
	}
	for name, script := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.api.objects[podsPath], b.api.script[podsPath] = pods(60), script
				b.build(t, podsKind())
				list, err := b.sources[0].ListWithContext(t.Context(), metav1.ListOptions{ResourceVersion: "0"})
				if err != nil {
					t.Fatal(err)
				}
				want := &metav1.PartialObjectMetadataList{ListMeta: metav1.ListMeta{ResourceVersion: "101"}}
				if diff := cmp.Diff(want, list); diff != "" {
					t.Errorf("list (-want +got):\n%s", diff)
				}
				b.expectRecords(t, keys("pod", pods(60)))
			})
		})
	}
}

func TestListEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.api.script[podsPath] = []answer{hang}
		b.build(t, podsKind())
		why := errors.New("the lease was lost")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		if list, err := b.sources[0].ListWithContext(ctx, metav1.ListOptions{}); list != nil || !errors.Is(err, why) {
			t.Errorf("list %v, error %v; want none and %q", list, err, why)
		}
		b.calls.close()
		if list, err := b.sources[0].ListWithContext(t.Context(), metav1.ListOptions{}); list != nil || !errors.Is(err, context.Canceled) {
			t.Errorf("after the end: list %v, error %v; want none and %v", list, err, context.Canceled)
		}
		b.expectRequests(t, podsPath+"?limit=50")
	})
}

// TestOnlyLists has an hour pass after a backfill: nothing is watched, listed
// again or kept.
func TestOnlyLists(t *testing.T) {
	for _, kind := range []*Kind{podsKind(), widgetsKind()} {
		t.Run(kind.Resource, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				path, _ := location(kind, "")
				b.api.objects[path] = pods(60)
				stop := b.start(t, kind)
				defer stop()
				if err := b.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				b.expectRequests(t, path+"?limit=50", path+"?continue=101-50&limit=500")
				b.expectRecords(t, keys(kind.Type, pods(60)))
			})
		})
	}
}

// TestReflectorSeesNothing has the informer of a kind synced, empty, and at
// the first page's version.
func TestReflectorSeesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.api.objects[widgetsPath] = pods(60)
		stop := b.start(t, widgetsKind())
		defer stop()
		if err := b.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		informer := b.others[0]
		if !informer.HasSynced() || informer.LastSyncResourceVersion() != "101" || len(informer.GetStore().ListKeys()) != 0 {
			t.Errorf("synced %t, version %q, cache of %d; want true, 101 and 0",
				informer.HasSynced(), informer.LastSyncResourceVersion(), len(informer.GetStore().ListKeys()))
		}
	})
}

// TestListsInFlight has four kinds whose server is slow: two are listed at a
// time.
func TestListsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		release := make(chan struct{})
		var mu sync.Mutex
		var running, most int
		slow := func(w http.ResponseWriter, r *http.Request, body []byte) {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			<-release
			mu.Lock()
			running--
			mu.Unlock()
			serve(w, r, body)
		}
		kinds := []*Kind{podsKind(), nodesKind(), deploymentsKind(), widgetsKind()}
		for _, kind := range kinds {
			path, _ := location(kind, "")
			b.api.objects[path] = pods(60)
			b.api.script[path] = []answer{slow, slow}
		}
		stop := b.start(t, kinds...)
		defer stop()
		synctest.Wait()
		if n := len(b.api.asked()); n != 2 {
			t.Errorf("%d requests at first, want 2", n)
		}
		for range 8 {
			release <- struct{}{}
			synctest.Wait()
		}
		if err := b.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if most != 2 {
			t.Errorf("%d lists at a time, want 2", most)
		}
		want := slices.Concat(keys("pod", pods(60)), keys("node", pods(60)), keys("deployment", pods(60)), keys("widget.example.com", pods(60)))
		got := b.sink.records()
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("records (-want +got):\n%.2000s", diff)
		}
	})
}

// TestStopWaitingForASlot ends the context while two kinds hang and a third
// waits.
func TestStopWaitingForASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		kinds := []*Kind{podsKind(), nodesKind(), widgetsKind()}
		for _, kind := range kinds {
			path, _ := location(kind, "")
			b.api.script[path] = []answer{hang}
		}
		stop := b.start(t, kinds...)
		synctest.Wait()
		asked := b.api.asked()
		stop()
		if len(asked) != 2 || len(b.api.asked()) != 2 {
			t.Errorf("requests %v and %v, want 2", asked, b.api.asked())
		}
	})
}

// TestBackoffFreesTheSlot has two kinds that are refused: the third is read.
func TestBackoffFreesTheSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		for _, kind := range []*Kind{podsKind(), nodesKind()} {
			path, _ := location(kind, "")
			b.api.script[path] = repeat(1000, text(503, "3600"))
		}
		b.api.objects[widgetsPath] = pods(60)
		stop := b.start(t, podsKind(), nodesKind(), widgetsKind())
		defer stop()
		time.Sleep(time.Second)
		b.expectRecords(t, keys("widget.example.com", pods(60)))
	})
}

// TestNoRateLimit has many pages follow each other without a pause.
func TestNoRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.options.PageSize = 1
		b.api.objects[podsPath] = pods(100)
		b.backfill(t, podsKind())
		if n, took := len(b.api.asked()), b.api.pause(0, 99); n != 100 || took != 0 {
			t.Errorf("%d requests in %s, want 100 at once", n, took)
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.api.script[podsPath] = []answer{hang}
		stop := b.start(t, podsKind())
		defer stop()
		why := errors.New("no time left")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, why)
		defer cancel()
		if err := b.Wait(ctx); !errors.Is(err, why) {
			t.Errorf("error %v, want %q", err, why)
		}
	})
}

func TestNamespaces(t *testing.T) {
	inNamespace := func(namespace string, names ...string) []metav1.PartialObjectMetadata {
		var items []metav1.PartialObjectMetadata
		for _, name := range names {
			items = append(items, named(namespace, name))
		}
		return items
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.cfg.Namespaces = config.List{"shop", "lab"}
		b.api.objects = map[string][]metav1.PartialObjectMetadata{
			"/api/v1/namespaces/shop/pods":                      inNamespace("shop", "a", "b"),
			"/api/v1/namespaces/lab/pods":                       inNamespace("lab", "c"),
			"/apis/apps/v1/namespaces/shop/deployments":         inNamespace("shop", "d"),
			"/apis/apps/v1/namespaces/lab/deployments":          nil,
			"/apis/example.com/v1beta2/namespaces/shop/widgets": inNamespace("shop", "w"),
			"/apis/example.com/v1beta2/namespaces/lab/widgets":  inNamespace("lab", "w"),
			"/api/v1/nodes":      inNamespace("", "n"),
			"/api/v1/namespaces": inNamespace("", "lab", "other", "shop"),
		}
		b.backfill(t, podsKind(), deploymentsKind(), widgetsKind(), nodesKind(), namespacesKind())
		requests, records := b.api.asked(), b.sink.records()
		slices.Sort(requests)
		slices.Sort(records)
		if diff := cmp.Diff([]string{
			"/api/v1/namespaces/lab/pods?limit=50",
			"/api/v1/namespaces/shop/pods?limit=50",
			"/api/v1/namespaces?fieldSelector=metadata.name%3Dlab&limit=50",
			"/api/v1/namespaces?fieldSelector=metadata.name%3Dshop&limit=50",
			"/api/v1/nodes?limit=50",
			"/apis/apps/v1/namespaces/lab/deployments?limit=50",
			"/apis/apps/v1/namespaces/shop/deployments?limit=50",
			"/apis/example.com/v1beta2/namespaces/lab/widgets?limit=50",
			"/apis/example.com/v1beta2/namespaces/shop/widgets?limit=50",
		}, requests); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{
			"deployment shop/d", "namespace /lab", "namespace /shop", "node /n", "pod lab/c", "pod shop/a", "pod shop/b",
			"widget.example.com lab/w", "widget.example.com shop/w",
		}, records); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		var read []string
		for _, s := range b.Status() {
			read = append(read, fmt.Sprintf("%s in %q: %d of %d", s.Resource, s.Namespace, s.Read, s.Total))
		}
		if diff := cmp.Diff([]string{
			`pods in "shop": 2 of 2`, `pods in "lab": 1 of 1`, `deployments.apps in "shop": 1 of 1`, `deployments.apps in "lab": 0 of 0`,
			`widgets.example.com in "shop": 1 of 1`, `widgets.example.com in "lab": 1 of 1`,
			`nodes in "": 1 of 1`, `namespaces in "shop": 1 of 1`, `namespaces in "lab": 1 of 1`,
		}, read); diff != "" {
			t.Errorf("status (-want +got):\n%s", diff)
		}
	})
}

// TestNamespaceIsNamed has the log and the error say which namespace it is.
func TestNamespaceIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.cfg.Namespaces = config.List{"shop"}
		b.api.script["/api/v1/namespaces/shop/pods"] = repeat(1000, forbidden())
		b.backfill(t, podsKind())
		want := `list pods in namespace shop: forbidden; grant the verb "list" on resource "pods" in API group "": pods is forbidden`
		if err := b.Status()[0].Err; err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
		if got := b.logs.LastEntry().Data["namespace"]; got != "shop" {
			t.Errorf("the log names the namespace %v, want shop", got)
		}
	})
}

// TestStatusAndMetrics reads objects of which some are excluded and some tags
// are dropped.
func TestStatusAndMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.cfg.Labels.Filters = config.Patterns{regexp.MustCompile("kept|bad|long|none")}
		b.cfg.NamespacesExclude = config.List{"kube-system"}
		b.cfg.ValueMaxBytes = 16
		b.cfg.MetricPrefix = "t_"
		pod := named("shop", "a")
		pod.Labels = map[string]string{"kept": "v", "bad": "a<b", "long": strings.Repeat("l", 20), "none": "", "other": "x"}
		b.api.objects[podsPath] = []metav1.PartialObjectMetadata{named("kube-system", "x"), named("kube-system", "y"), pod}
		b.backfill(t, podsKind())
		wantSeries := []string{`__name__=t_pod_labels label_kept=v label_long=llllllllllllllll namespace=shop pod=a resource_type=pod`}
		if diff := cmp.Diff(wantSeries, b.sink.series); diff != "" {
			t.Errorf("series (-want +got):\n%s", diff)
		}
		want := []Status{{
			Resource: "pods", Read: 3, Excluded: 2, Total: 3, Synced: true,
			Drops: record.Drops{Empty: 1, Unsafe: 1, Cut: 1},
		}}
		if diff := cmp.Diff(want, b.Status(), cmpopts.IgnoreFields(Status{}, "Took", "Current", "Listed")); diff != "" {
			t.Errorf("status (-want +got):\n%s", diff)
		}
		wantMetrics := `
# HELP labelstream_last_sync_timestamp_seconds When the kind was last known to be complete, by a list or by its watch, in Unix time.
# TYPE labelstream_last_sync_timestamp_seconds gauge
labelstream_last_sync_timestamp_seconds{kind="pods"} 9.466848e+08
# HELP labelstream_objects_seen_total Objects that lists and watches have brought, sent or not.
# TYPE labelstream_objects_seen_total counter
labelstream_objects_seen_total{kind="pods"} 3
# HELP labelstream_records_total Records handed over for sending, by what brought them.
# TYPE labelstream_records_total counter
labelstream_records_total{kind="pods",source="list"} 1
# HELP labelstream_synced 1 where all objects of the kind have been handed over once.
# TYPE labelstream_synced gauge
labelstream_synced{kind="pods"} 1
# HELP labelstream_tags_dropped_total Labels and annotations left out (empty, unsafe) or shortened (cut).
# TYPE labelstream_tags_dropped_total counter
labelstream_tags_dropped_total{reason="cut"} 1
labelstream_tags_dropped_total{reason="empty"} 1
labelstream_tags_dropped_total{reason="unsafe"} 1
# HELP labelstream_watch_restarts_total Watches that were opened after the first of a kind; servers end each after some minutes.
# TYPE labelstream_watch_restarts_total counter
labelstream_watch_restarts_total{kind="pods"} 0
`
		if err := testutil.GatherAndCompare(b.registry, strings.NewReader(wantMetrics)); err != nil {
			t.Error(err)
		}
	})
}

// TestProgress looks at the status page by page.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		next := make(chan struct{})
		step := func(w http.ResponseWriter, r *http.Request, body []byte) {
			<-next
			serve(w, r, body)
		}
		b.api.objects[podsPath] = pods(600)
		b.api.script[podsPath] = []answer{step, step, gone("protobuf", ""), step, step}
		stop := b.start(t, podsKind())
		defer stop()
		type seen struct {
			Read, Total int64
			Synced      bool
		}
		var got []seen
		look := func() {
			time.Sleep(time.Second)
			s := b.Status()[0]
			got = append(got, seen{s.Read, s.Total, s.Synced})
		}
		look()
		for range 4 {
			next <- struct{}{}
			look()
		}
		// The list begins anew after 550: what is left is not known before it
		// has come as far again.
		want := []seen{{0, -1, false}, {50, 600, false}, {550, 600, false}, {550, -1, false}, {600, 600, true}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("progress (-want +got):\n%s", diff)
		}
	})
}

// TestRealConnections reads over HTTP: a connection is used again for page
// after page, also with what a pipe cannot show: resets and chunks.
func TestRealConnections(t *testing.T) {
	api := newFakeAPI(t)
	api.objects[podsPath] = fat(120, 20_000)
	api.script[podsPath] = []answer{nil, nil, cutAt("pod-0105"), nil}
	var mu sync.Mutex
	connections := map[string]int{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		connections[r.RemoteAddr]++
		mu.Unlock()
		api.ServeHTTP(w, r)
	}))
	server.Start()
	defer server.Close()
	client, err := Client(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer client.(*rest.RESTClient).Client.CloseIdleConnections()
	log, _ := logrustest.NewNullLogger()
	sink := &fakeSink{}
	in := New(client, []*Kind{podsKind()}, &config.Config{}, sink, Options{PageSize: 52}, prometheus.NewRegistry(), log)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { in.Run(ctx) })
	err = in.Wait(t.Context())
	cancel()
	running.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(keys("pod", pods(120)), sink.records()); diff != "" {
		t.Errorf("records (-want +got):\n%.2000s", diff)
	}
	if diff := cmp.Diff([]string{
		podsPath + "?limit=50", podsPath + "?continue=101-50&limit=52", podsPath + "?continue=101-102&limit=52", podsPath + "?continue=101-102&limit=26",
	}, api.asked()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if len(connections) != 2 {
		t.Errorf("connections %v, want two: one until it was cut, one after", connections)
	}
}
