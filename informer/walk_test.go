package informer

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/sirupsen/logrus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	trying = "warning: Cannot list; trying again: "
	again  = "info: Listing again"
)

// walkTest is one backfill of pods: what the server has and does, and all that
// must be seen of it.
type walkTest struct {
	objects  []metav1.PartialObjectMetadata
	form     string
	pageSize int
	script   []answer
	// requests are the queries, in order.
	requests []string
	// records are the keys, in order; nil means each object once.
	records []string
	logs    []string
	// pauses are the least times before the second, third … request; their
	// jitter is less than half of them.
	pauses []time.Duration
}

func (test *walkTest) run(t *testing.T) {
	b := newBench(t)
	b.api.objects[podsPath], b.api.script[podsPath] = test.objects, test.script
	if test.form != "" {
		b.api.form = test.form
	}
	if test.pageSize != 0 {
		b.options.PageSize = test.pageSize
	}
	b.backfill(t, podsKind())

	want := make([]string, len(test.requests))
	for i, query := range test.requests {
		want[i] = podsPath + "?" + query
	}
	b.expectRequests(t, want...)
	if test.records == nil {
		test.records = keys("pod", test.objects)
	}
	b.expectRecords(t, test.records)
	b.expectLogs(t, test.logs...)
	for i, least := range test.pauses {
		if got := b.api.pause(i, i+1); got < least || got > least*3/2 {
			t.Errorf("%s before request %d, want %s to half as much more", got, i+2, least)
		}
	}
	wantStatus := []Status{{Resource: "pods", Read: int64(len(test.records)), Total: int64(len(test.records)), Synced: true}}
	if diff := cmp.Diff(wantStatus, b.Status(), cmpopts.IgnoreFields(Status{}, "Took", "Current", "Listed")); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

func runWalkTests(t *testing.T, tests map[string]walkTest) {
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test.run) })
	}
}

func TestWalkPages(t *testing.T) {
	runWalkTests(t, map[string]walkTest{
		"no objects": {objects: []metav1.PartialObjectMetadata{}, requests: []string{"limit=50"}},
		"one page":   {objects: pods(50), requests: []string{"limit=50"}},
		"50, then ten times as many": {
			objects:  pods(1200),
			requests: []string{"limit=50", "continue=101-50&limit=500", "continue=101-550&limit=500", "continue=101-1050&limit=500"},
		},
		"growth is bound": {
			objects: pods(6000), pageSize: 10_000,
			requests: []string{"limit=50", "continue=101-50&limit=500", "continue=101-550&limit=5000", "continue=101-5550&limit=10000"},
		},
		"json": {
			objects: pods(700), form: "json-streaming",
			requests: []string{"limit=50", "continue=101-50&limit=500", "continue=101-550&limit=500"},
		},
		"a small PAGE_SIZE": {
			objects: pods(5), pageSize: 2,
			requests: []string{"limit=2", "continue=101-2&limit=2", "continue=101-4&limit=2"},
		},
		// 200 KB each: 10 objects are 2 MiB. The next three are small again.
		"fat objects": {
			objects:  append(fat(70, 200_000), named("z", "1"), named("z", "2"), named("z", "3")),
			requests: []string{"limit=50", "continue=101-50&limit=10", "continue=101-60&limit=10", "continue=101-70&limit=10"},
		},
		"larger than a page may be": {
			objects: fat(3, 3<<20), pageSize: 2,
			requests: []string{"limit=2", "continue=101-2&limit=1"},
		},
	})
}

func TestWalkFaults(t *testing.T) {
	const ms = time.Millisecond
	runWalkTests(t, map[string]walkTest{
		"500": {
			objects: pods(60), script: []answer{text(500, "")},
			requests: []string{"limit=50", "limit=25", "continue=102-25&limit=250"},
			logs:     []string{trying + `list pods: an error on the server ("not now") has prevented the request from succeeding`, again},
			pauses:   []time.Duration{200 * ms},
		},
		"503 backs off": {
			objects: pods(3), script: repeat(4, text(503, "")),
			requests: []string{"limit=50", "limit=25", "limit=12", "limit=6", "limit=3"},
			logs:     []string{trying + "list pods: the server is currently unable to handle the request", again},
			pauses:   []time.Duration{200 * ms, 400 * ms, 800 * ms, 1600 * ms},
		},
		"429 with Retry-After": {
			objects: pods(60), script: []answer{nil, text(429, "7")},
			requests: []string{"limit=50", "continue=101-50&limit=500", "continue=101-50&limit=250"},
			logs:     []string{trying + "list pods: the server has received too many requests and has asked us to try again later", again},
			pauses:   []time.Duration{0, 7 * time.Second},
		},
		"503 with Retry-After in a Status": {
			objects: pods(3),
			script: []answer{status("protobuf", metav1.Status{
				Code: 503, Reason: metav1.StatusReasonServiceUnavailable, Message: "etcd is away",
				Details: &metav1.StatusDetails{RetryAfterSeconds: 3},
			})},
			requests: []string{"limit=50", "limit=25"},
			logs:     []string{trying + "list pods: etcd is away", again},
			pauses:   []time.Duration{3 * time.Second},
		},
		"connection closed": {
			objects: pods(60), script: []answer{nil, disconnect, disconnect},
			requests: []string{"limit=50", "continue=101-50&limit=500", "continue=101-50&limit=250", "continue=101-50&limit=125"},
			logs:     []string{trying + "list pods: GET /api/v1/pods: connection closed", again},
		},
		"a new fault is news": {
			objects: pods(3), script: []answer{text(503, ""), text(503, ""), disconnect, disconnect, text(503, "")},
			requests: []string{"limit=50", "limit=25", "limit=12", "limit=6", "limit=3", "limit=1", "continue=106-1&limit=10"},
			logs: []string{
				trying + "list pods: the server is currently unable to handle the request",
				trying + "list pods: GET /api/v1/pods: connection closed",
				trying + "list pods: the server is currently unable to handle the request",
				again,
			},
		},
		"a page that is no list": {
			objects: pods(3), script: []answer{func(w http.ResponseWriter, _ *http.Request, _ []byte) {
				_, _ = w.Write([]byte(`{"kind":"Status","status":"Success"}`))
			}},
			requests: []string{"limit=50", "limit=25"},
			logs:     []string{trying + "list pods: decode the list: the response has no items", again},
		},
		"403 for a moment": {
			objects: pods(3), script: repeat(3, forbidden()),
			requests: []string{"limit=50", "limit=25", "limit=12", "limit=6"},
			logs:     []string{trying + `list pods: forbidden; grant the verb "list" on resource "pods" in API group "": pods is forbidden`, again},
		},
		"silent before the answer": {
			objects: pods(3), script: []answer{hang},
			requests: []string{"limit=50", "limit=25"},
			logs:     []string{trying + "list pods: the API server sent nothing for 1m0s", again},
		},
		"silent in a page": {
			objects: pods(60), script: []answer{hangAt("pod-0010")},
			requests: []string{"limit=50", "limit=25", "continue=102-25&limit=250"},
			logs:     []string{trying + "list pods: the API server sent nothing for 1m0s", again},
		},
	})
}

func TestWalkResumes(t *testing.T) {
	closed := trying + "list pods: decode the list after "
	unordered := []metav1.PartialObjectMetadata{named("s", "m"), named("s", "z"), named("s", "b"), named("s", "c")}
	late := []metav1.PartialObjectMetadata{named("s", "m"), named("s", "b"), named("s", "z"), named("s", "c")}
	runWalkTests(t, map[string]walkTest{
		"first page cut": {
			objects: pods(60), script: []answer{cutAt("pod-0020")},
			requests: []string{"limit=50", "limit=25", "continue=102-25&limit=250"},
			logs:     []string{closed + "20 objects: connection closed", again},
		},
		"cut three times, further each time": {
			objects: pods(600), script: []answer{nil, cutAt("pod-0100"), cutAt("pod-0200"), cutAt("pod-0170")},
			requests: []string{
				"limit=50", "continue=101-50&limit=500", "continue=101-50&limit=250", "continue=101-50&limit=125",
				"continue=101-50&limit=62", "continue=101-112&limit=500",
			},
			// Where it is cut is no news.
			logs: []string{closed + "50 objects: connection closed", again},
		},
		"json cut": {
			objects: pods(60), form: "json", script: []answer{cutAt("pod-0020")},
			requests: []string{"limit=50", "limit=25", "continue=102-25&limit=250"},
			logs:     []string{trying + "list pods: decode object 21 of the list: jsontext: read error: connection closed", again},
		},
		"closed after a whole page": {
			objects: pods(60), script: []answer{cutAfterList, cutAfterList},
			requests: []string{"limit=50", "continue=101-50&limit=500"},
		},
		"410 with a token, protobuf": {
			objects: pods(60), script: []answer{nil, gone("protobuf", "300-50")},
			requests: []string{"limit=50", "continue=101-50&limit=500", "continue=300-50&limit=250"},
			logs:     []string{trying + "list pods: too old", again},
		},
		"410 with a token, json": {
			objects: pods(60), script: []answer{nil, gone("json", "300-50")},
			requests: []string{"limit=50", "continue=101-50&limit=500", "continue=300-50&limit=250"},
			logs:     []string{trying + "list pods: too old", again},
		},
		"410 without a token": {
			objects: pods(600), script: []answer{nil, nil, gone("protobuf", "")},
			requests: []string{
				"limit=50", "continue=101-50&limit=500", "continue=101-550&limit=500",
				"limit=250", "continue=102-250&limit=500",
			},
			logs: []string{trying + "list pods: too old", again},
		},
		"410 in mid-page's second attempt": {
			objects: pods(60), script: []answer{nil, cutAt("pod-0055"), gone("protobuf", "300-50")},
			requests: []string{"limit=50", "continue=101-50&limit=500", "continue=101-50&limit=250", "continue=300-50&limit=125"},
			logs:     []string{closed + "5 objects: connection closed", trying + "list pods: too old", again},
		},
		// An unordered server's page is handed over again as far as it is not
		// known to have been.
		"unordered, seen before the cut": {
			objects: late, script: []answer{cutAt("\x0a\x01c")},
			requests: []string{"limit=50", "limit=25"},
			records:  []string{"pod s/m", "pod s/b", "pod s/z", "pod s/m", "pod s/b", "pod s/z", "pod s/c"},
			logs:     []string{closed + "3 objects: connection closed", again},
		},
		"unordered, seen after the cut": {
			objects: unordered, script: []answer{cutAt("\x0a\x01b")},
			requests: []string{"limit=50", "limit=25"},
			logs:     []string{closed + "2 objects: connection closed", again},
		},
	})
}

// TestWalkWithoutVersion has a server that does not say of which version its
// list is: what a cut page held is handed over again.
func TestWalkWithoutVersion(t *testing.T) {
	list := newList(metav1.ListMeta{}, pods(3)...)
	body := encode(t, "protobuf", list)
	test := walkTest{
		objects: pods(3),
		script: []answer{
			func(w http.ResponseWriter, r *http.Request, _ []byte) { cutAt("pod-0002")(w, r, body) },
		},
		requests: []string{"limit=50", "limit=25"},
		records:  slices.Concat(keys("pod", pods(2)), keys("pod", pods(3))),
		logs:     []string{trying + "list pods: decode the list after 2 objects: connection closed", again},
	}
	synctest.Test(t, test.run)
}

func TestWalkTroubleIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.api.objects[podsPath], b.api.script[podsPath] = pods(1), repeat(30, text(503, ""))
		b.backfill(t, podsKind())
		b.expectLogs(t, trying+"list pods: the server is currently unable to handle the request", again)
		for _, entry := range b.logs.AllEntries() {
			if entry.Data["kind"] != "pods" {
				t.Errorf("%q names the kind %v, want pods", entry.Message, entry.Data["kind"])
			}
		}
		if got := b.api.pause(29, 30); got < 30*time.Second || got > 45*time.Second {
			t.Errorf("the last pause is %s, want the longest, 30 s to half as much more", got)
		}
	})
}

// TestSinkBlocks has a destination that stops for much longer than a server
// may be silent.
func TestSinkBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.api.objects[podsPath] = fat(60, 4096)
		b.sink.put = func(_ context.Context, key string) error {
			if strings.HasSuffix(key, "0") {
				time.Sleep(10 * time.Minute)
			}
			return nil
		}
		b.backfill(t, podsKind())
		b.expectRequests(t, podsPath+"?limit=50", podsPath+"?continue=101-50&limit=500")
		b.expectRecords(t, keys("pod", pods(60)))
		b.expectLogs(t)
	})
}

// TestRefusals has one kind refused for good while another is read.
func TestRefusals(t *testing.T) {
	refuse := func(code int32, reason metav1.StatusReason, message string) answer {
		return status("protobuf", metav1.Status{Code: code, Reason: reason, Message: message})
	}
	tests := map[string]struct {
		answer answer
		want   string
	}{
		"403": {forbidden(), `list widgets.example.com: forbidden; grant the verb "list" on resource "widgets" in API group "example.com": pods is forbidden`},
		"401": {refuse(401, metav1.StatusReasonUnauthorized, "Unauthorized"), "list widgets.example.com: the API server does not accept the credentials: Unauthorized"},
		"404": {refuse(404, metav1.StatusReasonNotFound, "no such thing"), "list widgets.example.com: no such thing"},
		"405": {refuse(405, metav1.StatusReasonMethodNotAllowed, "not allowed"), "list widgets.example.com: not allowed"},
		"406": {refuse(406, metav1.StatusReasonNotAcceptable, "only x"), "list widgets.example.com: only x"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.api.objects[podsPath] = pods(3)
				b.api.script[widgetsPath] = repeat(1000, test.answer)
				began := time.Now()
				b.backfill(t, podsKind(), widgetsKind())
				if took := time.Since(began); took != finalAfter {
					t.Errorf("final after %s, want %s", took, finalAfter)
				}
				b.expectRecords(t, keys("pod", pods(3)))
				statuses := b.Status()
				refused := statuses[1]
				if !statuses[0].Synced || statuses[0].Err != nil || refused.Synced || !refused.Final || refused.Err == nil || refused.Err.Error() != test.want {
					t.Errorf("status %+v; want pods synced and widgets failed for good with %q", statuses, test.want)
				}
				b.expectLogs(t, trying+test.want)
			})
		})
	}
}

// TestFaultsAreNotFinal has faults that last longer than a refusal may, and
// refusals with faults between them: an API server that starts again.
func TestFaultsAreNotFinal(t *testing.T) {
	tests := map[string][]answer{
		"503 for long":            repeat(20, text(503, "")),
		"disconnected for long":   repeat(20, disconnect),
		"down, then 403, then up": append(repeat(12, disconnect), forbidden(), forbidden()),
		"403 now and then":        slices.Repeat([]answer{forbidden(), text(503, "9")}, 20),
	}
	for name, script := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.api.objects[podsPath], b.api.script[podsPath] = pods(3), script
				began := time.Now()
				b.backfill(t, podsKind())
				if took := time.Since(began); took <= finalAfter {
					t.Fatalf("the faults were over after %s, want them to last longer than %s", took, finalAfter)
				}
				b.expectRecords(t, keys("pod", pods(3)))
			})
		})
	}
}

// TestFinalAfter has a refusal that ends after it was called final: the kind
// is read all the same.
func TestFinalAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.options.FinalAfter = time.Second
		granted := make(chan struct{})
		b.api.objects[podsPath] = pods(3)
		b.api.script[podsPath] = repeat(1000, func(w http.ResponseWriter, r *http.Request, body []byte) {
			select {
			case <-granted:
				serve(w, r, body)
			default:
				forbidden()(w, r, body)
			}
		})
		stop := b.start(t, podsKind())
		defer stop()
		if err := b.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := b.Status()[0]; !s.Final || s.Synced {
			t.Errorf("status %+v, want a final error", s)
		}
		close(granted)
		time.Sleep(time.Hour)
		if s := b.Status()[0]; s.Final || !s.Synced || s.Err != nil {
			t.Errorf("status %+v, want synced without error", s)
		}
		b.expectRecords(t, keys("pod", pods(3)))
	})
}

// TestStop ends the context in each state that a list can be in. Run returns,
// and the bubble sees that nothing is left behind.
func TestStop(t *testing.T) {
	until := func(ctx context.Context, _ string) error {
		<-ctx.Done()
		return ctx.Err()
	}
	closed := func(context.Context, string) error { return errors.New("the sink is closed") }
	tests := map[string]struct {
		script  []answer
		put     func(context.Context, string) error
		records int
	}{
		"waiting for the answer": {script: []answer{hang}},
		"in a page":              {script: []answer{hangAt("pod-0002")}, records: 2},
		"backing off":            {script: repeat(1000, text(503, "3600"))},
		"refused":                {script: repeat(1000, forbidden())},
		"waiting for the sink":   {put: until},
		"sink closed":            {put: closed},
		"synced":                 {records: 60},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.api.objects[podsPath], b.api.script[podsPath] = pods(60), test.script
				b.sink.put = test.put
				stop := b.start(t, podsKind())
				synctest.Wait()
				asked := len(b.api.asked())
				stop()
				if len(b.api.asked()) != asked || asked == 0 {
					t.Errorf("%d requests before the stop, %d after", asked, len(b.api.asked()))
				}
				b.expectRecords(t, keys("pod", pods(test.records)))
				if s := b.Status()[0]; s.Synced != (name == "synced") {
					t.Errorf("status %+v", s)
				}
				// Only the server's faults are for the log.
				if logged := len(b.logs.AllEntries()) > 0; logged != (name == "backing off" || name == "refused") {
					t.Errorf("log %v", b.logs.AllEntries())
				}
			})
		})
	}
}

// TestRunWaitsForLists has a sink that takes its time to return after the
// end: Run must not return before.
func TestRunWaitsForLists(t *testing.T) {
	for _, kind := range []*Kind{podsKind(), widgetsKind()} {
		t.Run(kind.Resource, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				path, _ := location(kind, "")
				b.api.objects[path] = pods(3)
				returned := false
				b.sink.put = func(ctx context.Context, _ string) error {
					<-ctx.Done()
					time.Sleep(time.Minute)
					returned = true
					return ctx.Err()
				}
				stop := b.start(t, kind)
				synctest.Wait()
				stop()
				if !returned {
					t.Error("Run returned while a list was handing over")
				}
			})
		})
	}
}

// TestDebugLines has the lines about pages at debug level only.
func TestDebugLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.log.SetLevel(logrus.DebugLevel)
		b.api.objects[podsPath] = pods(60)
		b.backfill(t, podsKind())
		b.expectLogs(t, "debug: Read a page of the list", "debug: Read a page of the list")
	})
}
