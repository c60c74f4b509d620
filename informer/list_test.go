// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/config"
)

type objects = []metav1.PartialObjectMetadata

// listTest is one backfill of pods: what the server has and does, and all that
// must be seen of it.
type listTest struct {
	objects  objects
	form     string
	pageSize int
	script   []answer
	// requests are the limits, in order, each after the continue token if there is one.
	requests string
	// version is what the reflector is told, that of the first page; "" means 101.
	version string
	// records are in order; nil means each object once.
	records []string
	// errors are those that the log says; it says their end, too.
	errors []string
	// pauses are the least times before the second, third … request; their jitter
	// is less than half of them.
	pauses []time.Duration
}

func (test *listTest) run(t *testing.T, b *bench) {
	b.api.objects[podsPath], b.api.script[podsPath] = test.objects, test.script
	if test.form != "" {
		b.api.form = test.form
	}
	if test.pageSize != 0 {
		b.options.PageSize = test.pageSize
	}
	defer b.start(t, podsKind())()
	if err := b.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Hour) // nothing comes after a one-shot run's list

	var requests, logs []string
	for request := range strings.FieldsSeq(test.requests) {
		token, limit, ok := strings.Cut(request, "/")
		if request = "continue=" + token + "&limit=" + limit; !ok {
			request = "limit=" + token
		}
		requests = append(requests, podsPath+"?"+request)
	}
	for _, text := range test.errors {
		logs = append(logs, "warning: Cannot list: list pods: "+text)
	}
	if logs != nil {
		logs = append(logs, "info: Listing again")
	}
	if test.records == nil {
		test.records = records("pod", test.objects)
	}
	b.expectRequests(t, requests...)
	b.expectWatches(t)
	b.expectRecords(t, test.records)
	b.expectLogs(t, logs...)
	for i, least := range test.pauses {
		if got := b.api.times[i+1].Sub(b.api.times[i]); got < least || got > least*3/2 {
			t.Errorf("%s before request %d, want %s to half as much more", got, i+2, least)
		}
	}
	n := int64(len(test.records))
	b.expectStatus(t, Status{Resource: "pods", Read: n, Total: n, Synced: true})
	informer := b.sources[0].informer
	version, cached := informer.LastSyncResourceVersion(), informer.GetStore().ListKeys()
	if test.version == "" {
		test.version = "101"
	}
	if !informer.HasSynced() || version != test.version || len(cached) != 0 {
		t.Errorf("synced %t, version %q, cache %v; want true, %q and none", informer.HasSynced(), version, cached, test.version)
	}
}

func TestLists(t *testing.T) {
	const (
		cut         = "unexpected EOF"
		unavailable = "the server is currently unable to handle the request"
		ms          = time.Millisecond
	)
	text := func(code int, after string, n int) []answer { return repeat(n, text(code, after)) }
	noList := func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		_, _ = w.Write([]byte(`{"kind":"Status","status":"Success"}`))
	}
	zipped := func(w http.ResponseWriter, _ *http.Request, body []byte) { // as a proxy that was not asked to
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write(body)
		_ = z.Close()
	}
	unversioned := func(w http.ResponseWriter, r *http.Request, _ []byte) {
		cutAt("pod-0002")(w, r, encode(t, "protobuf", newList(metav1.ListMeta{}, pods(3)...)))
	}
	token, noToken := gone("protobuf", "300-50"), gone("protobuf", "")
	for name, test := range map[string]listTest{
		"no objects":        {objects: objects{}, requests: "50"},
		"growth is bound":   {objects: pods(6000), pageSize: 10_000, requests: "50 101-50/500 101-550/5000 101-5550/10000"},
		"json":              {objects: pods(700), form: "json", requests: "50 101-50/500 101-550/500"},
		"a small PAGE_SIZE": {objects: pods(5), pageSize: 2, requests: "2 101-2/2 101-4/2"},
		// 200 KB each: 10 objects are 2 MiB. The next three are small again.
		"fat objects":               {objects: append(fat(70, 200_000), named("z", "1"), named("z", "2"), named("z", "3")), requests: "50 101-50/10 101-60/10 101-70/10"},
		"larger than a page may be": {objects: fat(3, 3<<20), pageSize: 2, requests: "2 101-2/1"},
		"compressed":                {objects: pods(60), script: repeat(2, zipped), requests: "50 101-50/500"},

		"503 backs off": {
			objects: pods(3), script: text(503, "", 4), requests: "50 25 12 6 3", version: "105", errors: []string{unavailable},
			pauses: []time.Duration{200 * ms, 400 * ms, 800 * ms, 1600 * ms},
		},
		"429 with Retry-After": {
			objects: pods(60), script: append([]answer{nil}, text(429, "7", 1)...), requests: "50 101-50/500 101-50/250",
			errors: []string{"the server has received too many requests and has asked us to try again later"}, pauses: []time.Duration{0, 7 * time.Second},
		},
		"closed":         {objects: pods(60), script: []answer{nil, disconnect, disconnect}, requests: "50 101-50/500 101-50/250 101-50/125", errors: []string{"GET /api/v1/pods: EOF"}},
		"no list":        {objects: pods(3), script: []answer{noList}, requests: "50 25", version: "102", errors: []string{`decode the list: the response is of kind "Status", which is no list`}},
		"silent":         {objects: pods(3), script: []answer{hang}, requests: "50 25", version: "102", errors: []string{"the API server sent nothing for 1m0s"}},
		"silent in page": {objects: pods(60), script: []answer{hangAt("pod-0010")}, requests: "50 25 102-25/250", errors: []string{"the API server sent nothing for 1m0s"}},
		"403 for a moment": {
			objects: pods(3), script: repeat(3, forbidden()), requests: "50 25 12 6", version: "104",
			errors: []string{`pods is forbidden: grant the verb "list" on resource "pods" in API group ""`},
		},
		"without progress": {
			objects: pods(60), script: []answer{nil, sameToken("101-50", 50, 60), sameToken("101-50", 50, 60)},
			requests: "50 101-50/500 101-50/250 101-50/125", errors: []string{errNoProgress.Error()}, pauses: []time.Duration{0, 200 * ms, 400 * ms},
		},

		"first page cut": {objects: pods(60), script: []answer{cutAt("pod-0020")}, requests: "50 25 102-25/250", errors: []string{"decode the list after 20 objects: " + cut}},
		"cut three times, further each time": {
			objects: pods(600), script: []answer{nil, cutAt("pod-0100"), cutAt("pod-0200"), cutAt("pod-0170")},
			requests: "50 101-50/500 101-50/250 101-50/125 101-50/62 101-112/500",
			// Where it is cut is no news.
			errors: []string{"decode the list after 50 objects: " + cut},
		},
		"closed after a page":      {objects: pods(60), script: repeat(2, cutAt("")), requests: "50 101-50/500"},
		"410 with a token":         {objects: pods(60), script: []answer{nil, token}, requests: "50 101-50/500 300-50/250", errors: []string{"too old"}},
		"410 with a token in json": {objects: pods(60), script: []answer{nil, gone("json", "300-50")}, requests: "50 101-50/500 300-50/250", errors: []string{"too old"}},
		"410 without a token":      {objects: pods(600), script: []answer{nil, nil, noToken}, requests: "50 101-50/500 101-550/500 250 102-250/500", errors: []string{"too old"}},
		"410 in a second attempt": {
			objects: pods(60), script: []answer{nil, cutAt("pod-0055"), token}, requests: "50 101-50/500 101-50/250 300-50/125",
			errors: []string{"decode the list after 5 objects: " + cut, "too old"},
		},
		// An unordered server's page is handed over again as far as it is not known
		// to have been.
		"unordered, seen before the cut": {
			objects: objects{named("s", "m"), podB, named("s", "z"), podC}, script: []answer{cutAt("\x0a\x01c")}, requests: "50 25",
			records: []string{"pod s/m m", "pod shop/b b", "pod s/z z", "pod s/m m", "pod shop/b b", "pod s/z z", "pod shop/c c"},
			errors:  []string{"decode the list after 3 objects: " + cut},
		},
		"unordered, seen after the cut": {
			objects: objects{named("s", "m"), named("s", "z"), named("s", "b"), named("s", "c")}, script: []answer{cutAt("\x0a\x01b")}, requests: "50 25",
			errors: []string{"decode the list after 2 objects: " + cut},
		},
		"without a version": {
			objects: pods(3), script: []answer{unversioned}, requests: "50 25", version: "102",
			records: slices.Concat(records("pod", pods(2)), records("pod", pods(3))), errors: []string{"decode the list after 2 objects: " + cut},
		},
	} {
		subtest(t, name, once, test.run)
	}
}

// sameToken serves some pods, and says that the list goes on at a token.
func sameToken(token string, from, to int) answer {
	return func(w http.ResponseWriter, r *http.Request, _ []byte) {
		var b strings.Builder
		if err := serializers["json"].Encode(newList(metav1.ListMeta{ResourceVersion: "101", Continue: token}, pods(to)[from:]...), &b); err != nil {
			panic(err)
		}
		serve(w, r, []byte(b.String()))
	}
}

// TestSinkBlocks has a destination that stops for much longer than a server may
// be silent, in a list and in a watch that then ends: nothing is lost or read again.
func TestSinkBlocks(t *testing.T) {
	inBubble(t, config.ChangesWatch, func(t *testing.T, b *bench) {
		b.api.objects[podsPath] = fat(60, 4096)
		b.api.watches[podsPath] = []answer{feedAndEnd(added(t, podA), added(t, podB), added(t, podC))}
		b.sink.room = func(_ context.Context, name string) error {
			if len(name) == 1 || strings.HasSuffix(name, "0") {
				time.Sleep(10 * time.Minute)
			}
			return nil
		}
		defer b.start(t, podsKind())()
		time.Sleep(2 * time.Hour)
		b.expectRequests(t, podsList, podsPath+"?continue=101-50&limit=500")
		b.expectRecords(t, records("pod", append(pods(60), podA, podB, podC)))
		b.expectLogs(t, "info: Listed")
	})
}

// TestFinal has one kind fail in a one-shot run, while another is read. Faults of
// the way to an API server, and of one that starts, end; others are final.
func TestFinal(t *testing.T) {
	for name, test := range map[string]struct {
		script []answer
		// after is when the failure is final, 0 for never, and want why.
		after time.Duration
		want  string
	}{
		"401":           {repeat(1000, refusal(401, metav1.StatusReasonUnauthorized, "Unauthorized")), 30 * time.Second, "Unauthorized"},
		"403":           {repeat(1000, forbidden()), 30 * time.Second, "pods is forbidden"},
		"404":           {repeat(1000, refusal(404, metav1.StatusReasonNotFound, "no such thing")), 30 * time.Second, "no such thing"},
		"405":           {repeat(1000, refusal(405, metav1.StatusReasonMethodNotAllowed, "not allowed")), 30 * time.Second, "not allowed"},
		"406":           {repeat(1000, refusal(406, metav1.StatusReasonNotAcceptable, "only x")), 30 * time.Second, "only x"},
		"500":           {repeat(1000, refusal(500, metav1.StatusReasonInternalError, "conversion failed")), 5 * time.Minute, "conversion failed"},
		"503":           {repeat(1000, text(503, "3600")), 5 * time.Minute, "the server is currently unable to handle the request"},
		"no progress":   {repeat(1000, sameToken("101-0", 0, 0)), 5 * time.Minute, errNoProgress.Error()},
		"403, then 500": {repeat(1000, firstFor(20*time.Second, forbidden(), text(500, ""))), 5*time.Minute + 20*time.Second, `an error on the server ("not now") has prevented the request from succeeding`},

		"503 for four minutes":    {script: repeat(100, firstFor(4*time.Minute, text(503, ""), serve))},
		"disconnected for long":   {script: repeat(60, disconnect)},
		"429 for long":            {script: repeat(60, text(429, "30"))},
		"down, then 403, then up": {script: append(repeat(12, disconnect), forbidden(), forbidden())},
		"403 now and then":        {script: slices.Repeat([]answer{forbidden(), text(503, "9")}, 60)},
	} {
		subtest(t, name, once, func(t *testing.T, b *bench) {
			b.api.objects[podsPath], b.api.objects[widgetsPath] = pods(3), pods(2)
			b.api.script[widgetsPath] = test.script
			began := time.Now()
			b.backfill(t, podsKind(), widgetsKind())
			if test.after == 0 {
				b.expectSorted(t, append(records("pod", pods(3)), records("widget.example.com", pods(2))...)...)
				b.expectStatus(t, Status{Resource: "pods", Read: 3, Total: 3, Synced: true},
					Status{Resource: "widgets.example.com", Read: 2, Total: 2, Synced: true})
				return
			}
			if took := time.Since(began); took < test.after || took > test.after+test.after/2 {
				t.Errorf("final after %s, want %s and what a backoff adds", took, test.after)
			}
			b.expectRecords(t, records("pod", pods(3)))
			s, want := b.Status(), "list widgets.example.com: "+test.want
			if !s[0].Synced || s[0].Err != nil || s[1].Synced || !s[1].Final || fmt.Sprint(s[1].Err) != want {
				t.Errorf("status %+v; want pods synced and widgets failed for good with %q", s, want)
			}
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

// TestStops ends the context in each state that a list or a watch can be in. Run
// returns, and the bubble sees that nothing is left behind.
func TestStops(t *testing.T) {
	until := func(ctx context.Context, _ string) error {
		<-ctx.Done()
		time.Sleep(time.Minute) // Run must wait for it
		return ctx.Err()
	}
	closed := func(context.Context, string) error { return errors.New("the sink is closed") }
	event := added(t, podA)
	for name, test := range map[string]struct {
		script []answer
		// watch answers the watch of a daemon, whose list is empty.
		watch   answer
		room    func(context.Context, string) error
		records int
		// logs says that there is something to log: only faults of the server.
		logs  bool
		after time.Duration
	}{
		"waiting for the answer": {script: []answer{hang}},
		"in a page":              {script: []answer{hangAt("pod-0002")}, records: 2},
		"backing off":            {script: repeat(1000, text(503, "3600")), logs: true},
		"refused":                {script: repeat(1000, forbidden()), logs: true},
		"listed, no room":        {room: until, after: time.Minute},
		"listed, sink closed":    {room: closed},
		"synced":                 {records: 60},
		"connecting":             {watch: hang},
		"waiting to watch":       {watch: text(503, "3600"), logs: true},
		"waiting for an event":   {watch: feed()},
		"in an event":            {watch: feed(event[:9])},
		"watched, no room":       {watch: feed(event, event), room: until, after: time.Minute},
		"watched, sink closed":   {watch: feed(event), room: closed},
		"waiting to relist":      {watch: gone("protobuf", "")},
	} {
		for _, kind := range []*Kind{podsKind(), widgetsKind()} {
			subtest(t, name+", "+kind.Resource, once, func(t *testing.T, b *bench) {
				path, _ := location(kind, Scope{})
				b.api.objects[path], b.api.script[path], b.sink.room = pods(60), test.script, test.room
				if test.watch != nil {
					b.options.Once, b.options.Changes = false, config.ChangesWatch
					b.api.objects[path], b.api.watches[path] = nil, []answer{test.watch}
				}
				stop := b.start(t, kind)
				synctest.Wait()
				lists, watches, ended := len(b.api.asked()), len(b.api.askedToWatch()), time.Now()
				stop()
				if took := time.Since(ended); took != test.after {
					t.Errorf("the end took %s, want %s", took, test.after)
				}
				if lists == 0 || len(b.api.asked()) != lists || (watches == 1) != (test.watch != nil) || len(b.api.askedToWatch()) != watches {
					t.Errorf("%d lists and %d watches before the end, %d and %d after", lists, watches, len(b.api.asked()), len(b.api.askedToWatch()))
				}
				b.expectRecords(t, records(kind.Type, pods(test.records)))
				warned := slices.ContainsFunc(b.logs.AllEntries(), func(e *logrus.Entry) bool { return e.Level < logrus.InfoLevel })
				if warned != test.logs {
					t.Errorf("log %v", b.logs.AllEntries())
				}
			})
		}
	}
}
