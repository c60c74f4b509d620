package webhook

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// fakeTarget has chosen pods and deployments, and writes down what it is given.
type fakeTarget struct {
	mu      sync.Mutex
	took    []string
	healed  []string
	outcome Outcome
}

func (f *fakeTarget) Take(c *Change) (kind string, outcome Outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if kind = f.Kind(c.Group, c.Resource); kind == "" {
		return "", NotChosen
	}
	o := plainOf(c.Object)
	text := fmt.Sprintf("%s/%s %s/%s %v %v", c.Group, c.Resource, o.Namespace, o.Name, o.Labels, o.Annotations)
	if c.Deleted {
		text += " deleted"
	}
	f.took = append(f.took, text)
	return kind, f.outcome
}

func (f *fakeTarget) Heal(group, resource []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.healed = append(f.healed, string(group)+"/"+string(resource))
}

func (f *fakeTarget) Kind(group, resource []byte) string {
	switch string(group) + "/" + string(resource) {
	case "/pods":
		return "pods"
	case "apps/deployments":
		return "deployments.apps"
	}
	return ""
}

func (f *fakeTarget) taken() (took, healed []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	took, healed = slices.Clone(f.took), slices.Clone(f.healed)
	f.took, f.healed = nil, nil
	return took, healed
}

type handlerBench struct {
	*Handler
	target   *fakeTarget
	registry *prometheus.Registry
}

func newBench() *handlerBench {
	b := &handlerBench{target: &fakeTarget{outcome: Sent}, registry: prometheus.NewRegistry()}
	b.Handler = NewHandler("/validate", 0, b.target, b.registry)
	return b
}

func post(body io.Reader) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/validate?timeout=1s", body)
	r.Header.Set("Content-Type", "application/json")
	return r
}

func (b *handlerBench) serve(r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	return w.Result()
}

func bodyOf(t *testing.T, r *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const allowed = `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":"u1","allowed":true}}`

// short is a review with these fields of its request beside the uid.
func short(fields string) string {
	return `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u1",` + fields + `}}`
}

const (
	pods  = `"resource":{"group":"","version":"v1","resource":"pods"}`
	web   = `{"metadata":{"name":"web","namespace":"shop","labels":{"a":"b"},"annotations":{"c":"d"}}}`
	web2  = `{"metadata":{"name":"web","namespace":"shop","labels":{"a":"b2"}}}`
	tookA = "/pods shop/web map[a:b] map[c:d]"
	tookB = "/pods shop/web map[a:b2] map[]"
)

// TestReviews says of each review that is answered what becomes of it.
func TestReviews(t *testing.T) {
	kilo := strings.Repeat("x", 1000)
	for _, test := range []struct {
		name, review string
		// want is the answer, allowed where "".
		want  string
		took  string
		count string
	}{
		{name: "create", review: short(pods + `,"operation":"CREATE","object":` + web + `,"oldObject":null`), took: tookA, count: `pods CREATE sent`},
		{name: "update", review: short(pods + `,"operation":"UPDATE","object":` + web2 + `,"oldObject":` + web), took: tookB, count: `pods UPDATE sent`},
		{name: "delete", review: short(pods + `,"operation":"DELETE","object":null,"oldObject":` + web), took: tookA + " deleted", count: `pods DELETE sent`},
		{name: "delete of a collection's item", review: short(pods + `,"operation":"DELETE","name":"","oldObject":` + web), took: tookA + " deleted", count: `pods DELETE sent`},
		{name: "objects before the operation", review: short(`"oldObject":` + web + `,"object":` + web2 + `,"operation":"DELETE",` + pods), took: tookA + " deleted", count: `pods DELETE sent`},
		{name: "another kind", review: short(`"resource":{"group":"apps","resource":"deployments"},"operation":"CREATE","object":{"metadata":{"name":"d"}}`), took: "apps/deployments /d map[] map[]", count: `deployments.apps CREATE sent`},
		{name: "not chosen", review: short(`"resource":{"group":"evil.example.com","resource":"pods"},"operation":"CREATE","object":` + web), count: `other CREATE not_chosen`},
		{name: "no resource", review: short(`"operation":"CREATE","object":` + web), count: `other CREATE not_chosen`},
		{name: "dry run", review: short(pods + `,"operation":"CREATE","dryRun":true,"object":` + web), count: `pods CREATE dry_run`},
		{name: "connect", review: short(pods + `,"operation":"CONNECT","object":` + web), count: `pods CONNECT connect`},
		{name: "subresource", review: short(pods + `,"subResource":"status","operation":"UPDATE","object":` + web), count: `pods UPDATE subresource`},
		{name: "generateName", review: short(pods + `,"operation":"CREATE","object":{"metadata":{"generateName":"web-"}}`), count: `pods CREATE unnamed`},
		{name: "null object", review: short(pods + `,"operation":"CREATE","object":null`), count: `pods CREATE unnamed`},
		{name: "no object", review: short(pods + `,"operation":"UPDATE","oldObject":` + web), count: `pods UPDATE unnamed`},
		{name: "delete without old object", review: short(pods + `,"operation":"DELETE","object":` + web), count: `pods DELETE unnamed`},
		{name: "an array for the object", review: short(pods + `,"operation":"CREATE","object":[` + web + `]`), count: `pods CREATE unnamed`},
		{name: "a number for a name", review: short(pods + `,"operation":"CREATE","object":{"metadata":{"name":1}}`), count: `pods CREATE unnamed`},
		{name: "an array for the labels", review: short(pods + `,"operation":"CREATE","object":{"metadata":{"name":"a","labels":["b"]}}`), took: "/pods /a map[] map[]", count: `pods CREATE sent`},
		{name: "a made up operation", review: short(pods + `,"operation":"` + kilo + `","object":` + web), took: tookA, count: `pods other sent`},
		{name: "nested deeply", review: short(`"operation":"CREATE",` + pods + `,"object":{"spec":` + nested(9000, 0) + `,"metadata":{"name":"a"}}`), took: "/pods /a map[] map[]", count: `pods CREATE sent`},
		{name: "huge numbers", review: short(`"operation":"CREATE",` + pods + `,"object":{"metadata":{"generation":1e99999,"name":"a"},"spec":` + strings.Repeat("9", 9999) + `}`), took: "/pods /a map[] map[]", count: `pods CREATE sent`},
		{name: "nothing else", review: `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u1"}}`, count: `other other unnamed`},
		{
			name: "v1beta1", review: strings.Replace(short(pods+`,"operation":"CREATE","object":`+web), "io/v1", "io/v1beta1", 1), took: tookA, count: `pods CREATE sent`,
			want: `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1","response":{"uid":"u1","allowed":true}}`,
		},
		{
			name: "a uid of all kinds", review: strings.Replace(short(pods+`,"operation":"CREATE","dryRun":true`), "u1", `\"\\\u0007<é`+"\xff", 1), count: `pods CREATE dry_run`,
			want: strings.Replace(allowed, "u1", `\"\\\u0007<é`+"\ufffd", 1),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench()
			r := b.serve(post(strings.NewReader(test.review)))
			if test.want == "" {
				test.want = allowed
			}
			if got := bodyOf(t, r); r.StatusCode != 200 || got != test.want || r.Header.Get("Content-Type") != "application/json" {
				t.Errorf("answered %d %q %q, want 200 %q", r.StatusCode, r.Header, got, test.want)
			}
			took, healed := b.target.taken()
			if got := strings.Join(took, "; "); got != test.took || healed != nil {
				t.Errorf("took %q, healed %q, want %q", got, healed, test.took)
			}
			b.expectCounts(t, test.count)
		})
	}
}

// expectCounts compares the reviews that were counted, once each.
func (b *handlerBench) expectCounts(t *testing.T, want ...string) {
	t.Helper()
	families, err := b.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, family := range families {
		switch family.GetName() {
		case "labelstream_webhook_reviews_total":
			for _, m := range family.GetMetric() {
				text := fmt.Sprintf("%s %s %s", m.GetLabel()[0].GetValue(), m.GetLabel()[1].GetValue(), m.GetLabel()[2].GetValue())
				got = append(got, slices.Repeat([]string{text}, int(m.GetCounter().GetValue()))...)
			}
		case "labelstream_webhook_in_flight", "labelstream_webhook_held_bytes":
			if v := family.GetMetric()[0].GetGauge().GetValue(); v != 0 {
				t.Errorf("%s is %v at the end", family.GetName(), v)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
}

// TestBadInput has each kind of it answered by an error, never a record.
func TestBadInput(t *testing.T) {
	good := short(pods + `,"operation":"CREATE","object":` + web)
	request := func(method, path, contentType, body string) *http.Request {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		if contentType != "" {
			r.Header.Set("Content-Type", contentType)
		}
		return r
	}
	json := func(body string) *http.Request { return request("POST", "/validate", "application/json", body) }
	encoded := json(good)
	encoded.Header.Set("Content-Encoding", "gzip")
	const noReview, noRequest = "this is no AdmissionReview of admission.k8s.io/v1 or v1beta1 in JSON\n", "the AdmissionReview has no request with a uid, or was cut off\n"
	for _, test := range []struct {
		name    string
		request *http.Request
		code    int
		text    string
	}{
		{"another path", request("POST", "/", "application/json", good), 404, "not found\n"},
		{"the beginning of the path", request("POST", "/validat", "application/json", good), 404, "not found\n"},
		{"more than the path", request("POST", "/validate/", "application/json", good), 404, "not found\n"},
		{"GET of another path", request("GET", "/metrics", "", ""), 404, "not found\n"},
		{"GET", request("GET", "/validate", "application/json", ""), 405, "want POST\n"},
		{"PUT", request("PUT", "/validate", "application/json", good), 405, "want POST\n"},
		{"no type", request("POST", "/validate", "", good), 415, "want Content-Type: application/json, not encoded\n"},
		{"another type", request("POST", "/validate", "application/yaml", good), 415, "want Content-Type: application/json, not encoded\n"},
		{"a longer type", request("POST", "/validate", "application/jsonx", good), 415, "want Content-Type: application/json, not encoded\n"},
		{"encoded", encoded, 415, "want Content-Type: application/json, not encoded\n"},
		{"empty", json(""), 400, noReview},
		{"no JSON", json("a=b"), 400, noReview},
		{"cut off", json(good[:len(good)-1]), 400, noReview},
		{"more after it", json(good + "{}"), 400, noReview},
		{"an array", json("[" + good + "]"), 400, noReview},
		{"null", json("null"), 400, noReview},
		{"no kind", json(strings.Replace(good, "kind", "kinds", 1)), 400, noReview},
		{"another version", json(strings.Replace(good, "io/v1", "io/v2", 1)), 400, noReview},
		{"no request", json(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}`), 400, noRequest},
		{"null request", json(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":null}`), 400, noRequest},
		{"an array for the request", json(strings.Replace(good, `"request":{"uid":"u1"`, `"request":[],"x":{"uid":"u1"`, 1)), 400, noRequest},
		{"no uid", json(strings.Replace(good, "uid", "gid", 1)), 400, noRequest},
		{"empty uid", json(strings.Replace(good, "u1", "", 1)), 400, noRequest},
		{"a number for the uid", json(strings.Replace(good, `"u1"`, "1", 1)), 400, noRequest},
		{"a long uid", json(strings.Replace(good, "u1", strings.Repeat("u", 254), 1)), 400, noRequest},
		{"nested too deeply", json(short(pods + `,"operation":"CREATE","object":` + web + `,"x":` + nested(maxDepth-1, 0))), 400, noReview},
		{"too large, and nothing", json(strings.Repeat(" ", maxBodyBytes+1)), 413, noReview},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench()
			r := b.serve(test.request)
			if got := bodyOf(t, r); r.StatusCode != test.code || got != test.text {
				t.Errorf("answered %d %q, want %d %q", r.StatusCode, got, test.code, test.text)
			}
			if took, healed := b.target.taken(); took != nil || healed != nil {
				t.Errorf("took %q, healed %q of bad input", took, healed)
			}
			b.expectCounts(t)
			if got := testutil.ToFloat64(b.metrics.refused.WithLabelValues(fmt.Sprint(test.code))); got != 1 {
				t.Errorf("counted %v, want 1", got)
			}
		})
	}
}

func TestContentTypes(t *testing.T) {
	for _, text := range []string{"application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"} {
		b := newBench()
		r := post(strings.NewReader(short(pods + `,"operation":"CREATE","object":` + web)))
		r.Header.Set("Content-Type", text)
		if got := b.serve(r).StatusCode; got != 200 {
			t.Errorf("%s: %d, want 200", text, got)
		}
	}
}

// TestTooLarge has a review that is larger than any can be allowed by its
// beginning, and its kind listed again; the largest is taken.
func TestTooLarge(t *testing.T) {
	text := short(pods + `,"operation":"UPDATE","object":` + web)
	for _, test := range []struct {
		size         int
		count        string
		took, healed []string
	}{
		{size: maxBodyBytes, count: "pods UPDATE sent", took: []string{tookA}},
		{size: maxBodyBytes + 1, count: "pods UPDATE too_large", healed: []string{"/pods"}},
		{size: 3 * maxBodyBytes, count: "pods UPDATE too_large", healed: []string{"/pods"}},
	} {
		b := newBench()
		r := b.serve(post(strings.NewReader(text + strings.Repeat(" ", test.size-len(text)))))
		if got := bodyOf(t, r); r.StatusCode != 200 || got != allowed {
			t.Errorf("%d bytes: %d %q, want 200 %q", test.size, r.StatusCode, got, allowed)
		}
		took, healed := b.target.taken()
		if diff := cmp.Diff([][]string{test.took, test.healed}, [][]string{took, healed}); diff != "" {
			t.Errorf("%d bytes: took, healed (-want +got):\n%s", test.size, diff)
		}
		b.expectCounts(t, test.count)
	}
}

// TestTooManyTags has objects with more tags than are taken: they are allowed,
// and their kind is listed again. Nothing of them is kept.
func TestTooManyTags(t *testing.T) {
	tagged := func(labels, annotations int) string {
		many := func(n int) string { return "{" + strings.TrimSuffix(strings.Repeat(`"":"",`, n), ",") + "}" }
		return `{"metadata":{"name":"a","labels":` + many(labels) + `,"annotations":` + many(annotations) + `}}`
	}
	most := (maxBodyBytes - 1000) / len(`"":"",`)
	took := []string{"/pods /a map[:] map[:]"}
	for name, test := range map[string]struct {
		fields       string
		code         int
		count        []string
		took, healed []string
	}{
		"as many as are taken":      {`"object":` + tagged(maxTags, maxTags), 200, []string{"pods CREATE sent"}, took, nil},
		"a label more":              {`"object":` + tagged(maxTags+1, 1), 200, []string{"pods CREATE too_large"}, nil, []string{"/pods"}},
		"an annotation more":        {`"object":` + tagged(1, maxTags+1), 200, []string{"pods CREATE too_large"}, nil, []string{"/pods"}},
		"as many as a review has":   {`"object":` + tagged(most, 1), 200, []string{"pods CREATE too_large"}, nil, []string{"/pods"}},
		"of an object that follows": {`"oldObject":` + tagged(1, 1) + `,"object":` + tagged(1, maxTags+1), 200, []string{"pods CREATE too_large"}, nil, []string{"/pods"}},
		"and no JSON":               {`"object":` + tagged(maxTags+1, 1) + `}`, 400, nil, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench()
			if r := b.serve(post(strings.NewReader(short(pods + `,"operation":"CREATE",` + test.fields)))); r.StatusCode != test.code {
				t.Errorf("answered %d, want %d", r.StatusCode, test.code)
			}
			took, healed := b.target.taken()
			if diff := cmp.Diff([][]string{test.took, test.healed}, [][]string{took, healed}); diff != "" {
				t.Errorf("took, healed (-want +got):\n%s", diff)
			}
			b.expectCounts(t, test.count...)
			if r, ok := b.readers.Get().(*reader); ok && r.review.large() {
				t.Error("the memory of a large review is kept")
			}
		})
	}
	var s scanner
	var v review
	if err := v.parse(&s, []byte(short(pods+`,"operation":"CREATE","object":`+tagged(most, most/1000)))); err != nil {
		t.Fatal(err)
	}
	if got := cap(v.object.Labels); got > 2*maxTags {
		t.Errorf("one review has %d tags in memory, want at most %d", got, 2*maxTags)
	}
}

// TestLargeStringsAreNotKept has a review of escapes only.
func TestLargeStringsAreNotKept(t *testing.T) {
	b := newBench()
	text := short(pods + `,"operation":"CREATE","object":{"metadata":{"name":"a","annotations":{"a":"` + strings.Repeat(`\n`, 1<<20) + `"}}}`)
	if r := b.serve(post(strings.NewReader(text))); r.StatusCode != 200 {
		t.Errorf("answered %d, want 200", r.StatusCode)
	}
	if r := b.readers.Get().(*reader); cap(r.scanner.unquoted) > keptBytes {
		t.Errorf("%d bytes of a review's strings are kept", cap(r.scanner.unquoted))
	}
}

// TestBudget has others hold all memory: a small review is taken all the same,
// a larger one allowed unread.
func TestBudget(t *testing.T) {
	b := newBench()
	var held []body
	for size := len(bufferSizes) - 1; size > 0; size-- {
		for buffer := b.buffers.take(size); buffer != nil; buffer = b.buffers.take(size) {
			held = append(held, body{buffers: &b.buffers, size: size, buffer: buffer})
		}
	}
	if got := b.buffers.held.Load(); got > maxHeldBytes || got <= maxHeldBytes-int64(bufferSizes[1]) {
		t.Errorf("%d bytes are held, want all of %d", got, maxHeldBytes)
	}
	review := short(pods + `,"operation":"UPDATE","object":` + web)
	large := review + strings.Repeat(" ", 9000)
	unknown := strings.Repeat(" ", 9000) + review
	for _, text := range []string{review, large, large} {
		if r := b.serve(post(strings.NewReader(text))); bodyOf(t, r) != allowed {
			t.Errorf("a review of %d bytes was not allowed: %d", len(text), r.StatusCode)
		}
	}
	if r := b.serve(post(strings.NewReader(unknown))); r.StatusCode != 503 {
		t.Errorf("a review whose beginning says nothing: %d, want 503", r.StatusCode)
	}
	took, healed := b.target.taken()
	if diff := cmp.Diff([][]string{{tookA}, {"/pods", "/pods"}}, [][]string{took, healed}); diff != "" {
		t.Errorf("took, healed (-want +got):\n%s", diff)
	}
	for i := range held {
		held[i].release()
	}
	if r := b.serve(post(strings.NewReader(large))); r.StatusCode != 200 {
		t.Errorf("with the memory free again: %d", r.StatusCode)
	}
	b.expectCounts(t, "pods UPDATE over_budget", "pods UPDATE over_budget", "pods UPDATE sent", "pods UPDATE sent")
}

// TestCutOff has the connection break: what had come says which kind to list
// again.
func TestCutOff(t *testing.T) {
	b := newBench()
	text := short(pods + `,"operation":"UPDATE","object":` + web)
	r := b.serve(post(io.MultiReader(strings.NewReader(text[:len(text)-2]), failingReader{})))
	if got := bodyOf(t, r); r.StatusCode != 200 || got != allowed {
		t.Errorf("answered %d %q", r.StatusCode, got)
	}
	r = b.serve(post(io.MultiReader(strings.NewReader(text[:90]), failingReader{})))
	if r.StatusCode != 400 {
		t.Errorf("answered %d, want 400", r.StatusCode)
	}
	if took, healed := b.target.taken(); took != nil || !slices.Equal(healed, []string{"/pods"}) {
		t.Errorf("took %q, healed %q", took, healed)
	}
	b.expectCounts(t, "pods UPDATE cut_off")
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// TestSlowBodies reads a body whose bytes come one by one.
func TestSlowBodies(t *testing.T) {
	b := newBench()
	text := podReview("UPDATE")
	r := b.serve(post(byteReader{bytes.NewReader(text)}))
	if r.StatusCode != 200 {
		t.Errorf("answered %d", r.StatusCode)
	}
	b.expectCounts(t, "pods UPDATE sent")
}

type byteReader struct{ io.Reader }

func (r byteReader) Read(p []byte) (int, error) { return r.Reader.Read(p[:1]) }

// TestReconnect has one in three answers end its connection.
func TestReconnect(t *testing.T) {
	b := newBench()
	b.reconnect = 3
	var got []string
	for range 7 {
		r := b.serve(post(strings.NewReader(short(pods))))
		got = append(got, r.Header.Get("Connection"))
	}
	if want := []string{"", "", "close", "", "", "close", ""}; !slices.Equal(got, want) {
		t.Errorf("Connection: %q, want %q", got, want)
	}
}

// TestAtOnce has many reviews at a time, each of which is taken for what it is.
func TestAtOnce(t *testing.T) {
	b := newBench()
	var running sync.WaitGroup
	for i := range 200 {
		running.Go(func() {
			text := strings.Repeat(" ", i*300) + strings.ReplaceAll(short(pods+`,"operation":"CREATE","object":{"metadata":{"name":"pNAME"}}`), "NAME", fmt.Sprint(i))
			if r := b.serve(post(strings.NewReader(text))); r.StatusCode != 200 {
				t.Errorf("answered %d", r.StatusCode)
			}
		})
	}
	running.Wait()
	took, _ := b.target.taken()
	var want []string
	for i := range 200 {
		want = append(want, fmt.Sprintf("/pods /p%d map[] map[]", i))
	}
	slices.Sort(want)
	slices.Sort(took)
	if diff := cmp.Diff(want, took); diff != "" {
		t.Errorf("took (-want +got):\n%s", diff)
	}
}

// FuzzHandler never panics, allows or refuses, and takes nothing that
// encoding/json reads in another way.
func FuzzHandler(f *testing.F) {
	f.Add([]byte(short(pods + `,"operation":"CREATE","object":` + web)))
	f.Add(podReview("UPDATE"))
	f.Fuzz(func(t *testing.T, text []byte) {
		b := newBench()
		r := b.serve(post(bytes.NewReader(text)))
		took, _ := b.target.taken()
		p, ok := decoded(text)
		ok = ok && p.Kind == "AdmissionReview" && (p.APIVersion == "admission.k8s.io/v1" || p.APIVersion == "admission.k8s.io/v1beta1") &&
			p.UID != "" && len(p.UID) <= maxUIDBytes
		if (r.StatusCode == 200) != ok || !ok && (took != nil || r.StatusCode != 400) {
			t.Errorf("%q: answered %d, took %q", text, r.StatusCode, took)
		}
		if len(took) > 0 && (p.DryRun || p.Subresource != "" || p.Operation == "CONNECT") {
			t.Errorf("%q: took %q", text, took)
		}
	})
}

// BenchmarkReview is one review of a 4 KB pod without the connection.
func BenchmarkReview(b *testing.B) {
	h := newBench()
	h.Handler.target = discard{}
	text := podReview("CREATE")
	reader := bytes.NewReader(text)
	r := post(reader)
	w := &nullWriter{header: make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(text)
		h.ServeHTTP(w, r)
	}
}

type discard struct{}

func (discard) Take(*Change) (string, Outcome) { return "pods", Known }
func (discard) Heal([]byte, []byte)            {}
func (discard) Kind([]byte, []byte) string     { return "pods" }

type nullWriter struct{ header http.Header }

func (w *nullWriter) Header() http.Header         { return w.header }
func (w *nullWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *nullWriter) WriteHeader(int)             {}
