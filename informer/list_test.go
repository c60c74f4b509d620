package informer

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/config"
)

const (
	cannot = "warning: Cannot list: list pods: "
	again  = "info: Listing again"
	closed = cannot + "decode the list after "
)

// listTest is one backfill of pods: what the server has and does, and all that
// must be seen of it.
type listTest struct {
	objects  []metav1.PartialObjectMetadata
	form     string
	pageSize int
	script   []answer
	// requests are the queries, in order.
	requests []string
	// records are in order; nil means each object once.
	records []string
	logs    []string
	// pauses are the least times before the second, third … request; their jitter
	// is less than half of them.
	pauses []time.Duration
}

func (test *listTest) run(t *testing.T) {
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
		test.records = records("pod", test.objects)
	}
	b.expectRecords(t, test.records)
	b.expectLogs(t, test.logs...)
	for i, least := range test.pauses {
		if got := b.api.pause(i, i+1); got < least || got > least*3/2 {
			t.Errorf("%s before request %d, want %s to half as much more", got, i+2, least)
		}
	}
	n := int64(len(test.records))
	b.expectStatus(t, Status{Resource: "pods", Read: n, Total: n, Synced: true})
}

func runListTests(t *testing.T, tests map[string]listTest) {
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test.run) })
	}
}

func TestPages(t *testing.T) {
	runListTests(t, map[string]listTest{
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
		"compressed by a proxy": {
			objects: pods(60), script: []answer{zipped, zipped},
			requests: []string{"limit=50", "continue=101-50&limit=500"},
		},
	})
}

// zipped answers as a proxy that compresses what nobody wants compressed.
func zipped(w http.ResponseWriter, _ *http.Request, body []byte) {
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	_, _ = z.Write(body)
	_ = z.Close()
}

func TestListFaults(t *testing.T) {
	const ms = time.Millisecond
	runListTests(t, map[string]listTest{
		"500": {
			objects: pods(60), script: []answer{text(500, "")},
			requests: []string{"limit=50", "limit=25", "continue=102-25&limit=250"},
			logs:     []string{cannot + `an error on the server ("not now") has prevented the request from succeeding`, again},
			pauses:   []time.Duration{200 * ms},
		},
		"503 backs off": {
			objects: pods(3), script: repeat(4, text(503, "")),
			requests: []string{"limit=50", "limit=25", "limit=12", "limit=6", "limit=3"},
			logs:     []string{cannot + "the server is currently unable to handle the request", again},
			pauses:   []time.Duration{200 * ms, 400 * ms, 800 * ms, 1600 * ms},
		},
		"429 with Retry-After": {
			objects: pods(60), script: []answer{nil, text(429, "7")},
			requests: []string{"limit=50", "continue=101-50&limit=500", "continue=101-50&limit=250"},
			logs:     []string{cannot + "the server has received too many requests and has asked us to try again later", again},
			pauses:   []time.Duration{0, 7 * time.Second},
		},
		"connection closed": {
			objects: pods(60), script: []answer{nil, disconnect, disconnect},
			requests: []string{"limit=50", "continue=101-50&limit=500", "continue=101-50&limit=250", "continue=101-50&limit=125"},
			logs:     []string{cannot + "GET /api/v1/pods: connection closed", again},
		},
		"a page that is no list": {
			objects: pods(3), script: []answer{func(w http.ResponseWriter, _ *http.Request, _ []byte) {
				_, _ = w.Write([]byte(`{"kind":"Status","status":"Success"}`))
			}},
			requests: []string{"limit=50", "limit=25"},
			logs:     []string{cannot + "decode the list: the response is of kind \"Status\", which is no list", again},
		},
		"403 for a moment": {
			objects: pods(3), script: repeat(3, forbidden()),
			requests: []string{"limit=50", "limit=25", "limit=12", "limit=6"},
			logs:     []string{cannot + `pods is forbidden: grant the verb "list" on resource "pods" in API group ""`, again},
		},
		"silent before the answer": {
			objects: pods(3), script: []answer{hang},
			requests: []string{"limit=50", "limit=25"},
			logs:     []string{cannot + "the API server sent nothing for 1m0s", again},
		},
		"silent in a page": {
			objects: pods(60), script: []answer{hangAt("pod-0010")},
			requests: []string{"limit=50", "limit=25", "continue=102-25&limit=250"},
			logs:     []string{cannot + "the API server sent nothing for 1m0s", again},
		},
		"a page without progress": {
			objects: pods(60), script: []answer{nil, sameToken("101-50", 50, 60), sameToken("101-50", 50, 60)},
			requests: []string{"limit=50", "continue=101-50&limit=500", "continue=101-50&limit=250", "continue=101-50&limit=125"},
			logs:     []string{cannot + errNoProgress.Error(), again},
			pauses:   []time.Duration{0, 200 * ms, 400 * ms},
		},
	})
}

// sameToken serves some pods, and says that the list goes on at a token.
func sameToken(token string, from, to int) answer {
	return func(w http.ResponseWriter, r *http.Request, _ []byte) {
		list := newList(metav1.ListMeta{ResourceVersion: "101", Continue: token}, pods(to)[from:]...)
		var b strings.Builder
		if err := serializers["json"].Encode(list, &b); err != nil {
			panic(err)
		}
		serve(w, r, []byte(b.String()))
	}
}

func TestListResumes(t *testing.T) {
	unordered := []metav1.PartialObjectMetadata{named("s", "m"), named("s", "z"), named("s", "b"), named("s", "c")}
	late := []metav1.PartialObjectMetadata{named("s", "m"), named("s", "b"), named("s", "z"), named("s", "c")}
	// A server that does not say of which version its list is.
	unversioned := encode(t, "protobuf", newList(metav1.ListMeta{}, pods(3)...))
	runListTests(t, map[string]listTest{
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
		"closed after a whole page": {
			objects: pods(60), script: []answer{cutAfterList, cutAfterList},
			requests: []string{"limit=50", "continue=101-50&limit=500"},
		},
		"410 with a token, protobuf": {
			objects: pods(60), script: []answer{nil, gone("protobuf", "300-50")},
			requests: []string{"limit=50", "continue=101-50&limit=500", "continue=300-50&limit=250"},
			logs:     []string{cannot + "too old", again},
		},
		"410 with a token, json": {
			objects: pods(60), script: []answer{nil, gone("json", "300-50")},
			requests: []string{"limit=50", "continue=101-50&limit=500", "continue=300-50&limit=250"},
			logs:     []string{cannot + "too old", again},
		},
		"410 without a token": {
			objects: pods(600), script: []answer{nil, nil, gone("protobuf", "")},
			requests: []string{
				"limit=50", "continue=101-50&limit=500", "continue=101-550&limit=500",
				"limit=250", "continue=102-250&limit=500",
			},
			logs: []string{cannot + "too old", again},
		},
		"410 in mid-page's second attempt": {
			objects: pods(60), script: []answer{nil, cutAt("pod-0055"), gone("protobuf", "300-50")},
			requests: []string{"limit=50", "continue=101-50&limit=500", "continue=101-50&limit=250", "continue=300-50&limit=125"},
			logs:     []string{closed + "5 objects: connection closed", cannot + "too old", again},
		},
		// An unordered server's page is handed over again as far as it is not known
		// to have been.
		"unordered, seen before the cut": {
			objects: late, script: []answer{cutAt("\x0a\x01c")},
			requests: []string{"limit=50", "limit=25"},
			records:  []string{"pod s/m m", "pod s/b b", "pod s/z z", "pod s/m m", "pod s/b b", "pod s/z z", "pod s/c c"},
			logs:     []string{closed + "3 objects: connection closed", again},
		},
		"unordered, seen after the cut": {
			objects: unordered, script: []answer{cutAt("\x0a\x01b")},
			requests: []string{"limit=50", "limit=25"},
			logs:     []string{closed + "2 objects: connection closed", again},
		},
		"without a version": {
			objects: pods(3), script: []answer{func(w http.ResponseWriter, r *http.Request, _ []byte) { cutAt("pod-0002")(w, r, unversioned) }},
			requests: []string{"limit=50", "limit=25"},
			records:  slices.Concat(records("pod", pods(2)), records("pod", pods(3))),
			logs:     []string{closed + "2 objects: connection closed", again},
		},
	})
}

// TestListVersion has the reflector given an empty list of the first page's
// version, whatever came after.
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
				b.options.Changes, b.options.ResyncInterval = config.ChangesWatch, time.Minute
				b.api.objects[widgetsPath], b.api.script[widgetsPath] = pods(60), script
				stop := b.start(t, widgetsKind())
				defer stop()
				time.Sleep(time.Minute)
				informer := b.sources[0].informer
				if !informer.HasSynced() || informer.LastSyncResourceVersion() != "101" || len(informer.GetStore().ListKeys()) != 0 {
					t.Errorf("synced %t, version %q, cache of %d; want true, 101 and 0",
						informer.HasSynced(), informer.LastSyncResourceVersion(), len(informer.GetStore().ListKeys()))
				}
				b.expectRecords(t, records("widget.example.com", pods(60)))
				asked := len(b.api.asked())
				time.Sleep(time.Hour)
				b.expectWatches(t)
				if n := len(b.api.asked()); n != asked {
					t.Errorf("%d requests after a one-shot run's list", n-asked)
				}
			})
		})
	}
}

// TestSinkBlocks has a destination that stops for much longer than a server may
// be silent.
func TestSinkBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.api.objects[podsPath] = fat(60, 4096)
		b.sink.room = func(_ context.Context, name string) error {
			if strings.HasSuffix(name, "0") {
				time.Sleep(10 * time.Minute)
			}
			return nil
		}
		b.backfill(t, podsKind())
		b.expectRequests(t, podsPath+"?limit=50", podsPath+"?continue=101-50&limit=500")
		b.expectRecords(t, records("pod", pods(60)))
		b.expectLogs(t)
	})
}

// TestFinal has one kind fail for good in a one-shot run, while another is read.
func TestFinal(t *testing.T) {
	refuse := func(code int32, reason metav1.StatusReason, message string) answer {
		return status("protobuf", metav1.Status{Code: code, Reason: reason, Message: message})
	}
	tests := map[string]struct {
		answer answer
		after  time.Duration
		want   string
	}{
		"401":           {refuse(401, metav1.StatusReasonUnauthorized, "Unauthorized"), 30 * time.Second, "Unauthorized"},
		"403":           {forbidden(), 30 * time.Second, "pods is forbidden"},
		"404":           {refuse(404, metav1.StatusReasonNotFound, "no such thing"), 30 * time.Second, "no such thing"},
		"405":           {refuse(405, metav1.StatusReasonMethodNotAllowed, "not allowed"), 30 * time.Second, "not allowed"},
		"406":           {refuse(406, metav1.StatusReasonNotAcceptable, "only x"), 30 * time.Second, "only x"},
		"500":           {refuse(500, metav1.StatusReasonInternalError, "conversion webhook failed"), 5 * time.Minute, "conversion webhook failed"},
		"503":           {text(503, "3600"), 5 * time.Minute, "the server is currently unable to handle the request"},
		"no progress":   {sameToken("101-0", 0, 0), 5 * time.Minute, errNoProgress.Error()},
		"403, then 500": {firstFor(20*time.Second, forbidden(), text(500, "")), 5*time.Minute + 20*time.Second, `an error on the server ("not now") has prevented the request from succeeding`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.api.objects[podsPath] = pods(3)
				b.api.script[widgetsPath] = repeat(1000, test.answer)
				began := time.Now()
				b.backfill(t, podsKind(), widgetsKind())
				if took := time.Since(began); took < test.after || took > test.after+test.after/2 {
					t.Errorf("final after %s, want %s and what a backoff adds", took, test.after)
				}
				b.expectRecords(t, records("pod", pods(3)))
				s := b.Status()
				want := "list widgets.example.com: " + test.want
				if !s[0].Synced || s[0].Err != nil || s[1].Synced || !s[1].Final || s[1].Err == nil || s[1].Err.Error() != want {
					t.Errorf("status %+v; want pods synced and widgets failed for good with %q", s, want)
				}
			})
		})
	}
}

// firstFor answers one way for a while, and then another.
func firstFor(d time.Duration, first, then answer) answer {
	var until time.Time
	return func(w http.ResponseWriter, r *http.Request, body []byte) {
		if until.IsZero() {
			until = time.Now().Add(d)
		}
		if time.Now().Before(until) {
			first(w, r, body)
		} else {
			then(w, r, body)
		}
	}
}

// TestNotFinal has faults that end: of the way to an API server, and of one that
// starts.
func TestNotFinal(t *testing.T) {
	tests := map[string][]answer{
		"503 for four minutes":    {firstFor(4*time.Minute, text(503, ""), serve)},
		"disconnected for long":   repeat(60, disconnect),
		"429 for long":            repeat(60, text(429, "30")),
		"down, then 403, then up": append(repeat(12, disconnect), forbidden(), forbidden()),
		"403 now and then":        slices.Repeat([]answer{forbidden(), text(503, "9")}, 60),
	}
	for name, script := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.api.objects[podsPath], b.api.script[podsPath] = pods(3), script
				if len(script) == 1 {
					b.api.script[podsPath] = repeat(100, script[0])
				}
				b.backfill(t, podsKind())
				b.expectRecords(t, records("pod", pods(3)))
				if s := b.Status()[0]; !s.Synced || s.Final || s.Err != nil || s.Took <= 30*time.Second {
					t.Errorf("status %+v, want synced after long", s)
				}
			})
		})
	}
}

// TestListStops ends the context in each state that a list can be in. Run
// returns, and the bubble sees that nothing is left behind.
func TestListStops(t *testing.T) {
	until := func(ctx context.Context, _ string) error {
		<-ctx.Done()
		time.Sleep(time.Minute) // Run must wait for it
		return ctx.Err()
	}
	tests := map[string]struct {
		script  []answer
		room    func(context.Context, string) error
		records int
	}{
		"waiting for the answer": {script: []answer{hang}},
		"in a page":              {script: []answer{hangAt("pod-0002")}, records: 2},
		"backing off":            {script: repeat(1000, text(503, "3600"))},
		"refused":                {script: repeat(1000, forbidden())},
		"waiting for the sink":   {room: until},
		"sink closed":            {room: func(context.Context, string) error { return errors.New("the sink is closed") }},
		"synced":                 {records: 60},
	}
	for name, test := range tests {
		for _, kind := range []*Kind{podsKind(), widgetsKind()} {
			t.Run(name+", "+kind.Resource, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t)
					path, _ := location(kind, Scope{})
					b.api.objects[path], b.api.script[path] = pods(60), test.script
					b.sink.room = test.room
					stop := b.start(t, kind)
					synctest.Wait()
					asked, ended := len(b.api.asked()), time.Now()
					stop()
					if len(b.api.asked()) != asked || asked == 0 {
						t.Errorf("%d requests before the stop, %d after", asked, len(b.api.asked()))
					}
					if waited := time.Since(ended) == time.Minute; waited != (name == "waiting for the sink") {
						t.Errorf("the end took %s", time.Since(ended))
					}
					b.expectRecords(t, records(kind.Type, pods(test.records)))
					// Only the server's faults are for the log.
					if logged := len(b.logs.AllEntries()) > 0; logged != (name == "backing off" || name == "refused") {
						t.Errorf("log %v", b.logs.AllEntries())
					}
				})
			})
		}
	}
}

// TestWithoutQuery keeps tokens out of errors.
func TestWithoutQuery(t *testing.T) {
	if err := withoutQuery(io.EOF); err != io.EOF {
		t.Errorf("error %v, want it as it was", err)
	}
}
