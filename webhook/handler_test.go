// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	crlog "sigs.k8s.io/controller-runtime/pkg/log"
)

func TestMain(m *testing.M) {
	// It complains after 30 s where nobody has said where to log to.
	crlog.SetLogger(logr.Discard())
	goleak.VerifyTestMain(m)
}

// fakeTarget has chosen pods, namespaces and deployments, and writes down what it
// is given.
type fakeTarget struct {
	mu      sync.Mutex
	shown   []string
	outcome Outcome
}

func (f *fakeTarget) Review(c *Change) (kind string, outcome Outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	kinds := map[string]string{"/pods": "pods", "/namespaces": "namespaces", "apps/deployments": "deployments.apps"}
	kind = kinds[c.Group+"/"+c.Resource]
	if kind == "" {
		return "", NotChosen
	}
	o := c.Object
	text := fmt.Sprintf("%s/%s %s/%s %s %s", c.Group, c.Resource, o.Namespace, o.Name, o.Labels, o.Annotations)
	for _, owner := range o.Owners {
		text += fmt.Sprintf(" of %s %s %t", owner.Kind, owner.Name, owner.IsController)
	}
	if c.Deleted {
		text += " deleted"
	}
	f.shown = append(f.shown, text)
	return kind, f.outcome
}

// take returns what was shown since it was called last.
func (f *fakeTarget) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	shown := f.shown
	f.shown = nil
	return shown
}

type handlerBench struct {
	*Handler
	target   *fakeTarget
	registry *prometheus.Registry
}

func newBench() *handlerBench {
	b := &handlerBench{target: &fakeTarget{outcome: Sent}, registry: prometheus.NewRegistry()}
	b.Handler = NewHandler("/validate", b.target, true, b.registry)
	return b
}

func post(body io.Reader) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/validate?timeout=1s", body)
	r.Header.Set("Content-Type", "Application/JSON; charset=utf-8")
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
	showA = "/pods shop/web [{a b}] [{c d}]"
	showB = "/pods shop/web [{a b2}] []"
)

// TestReviews says of each review that is answered what becomes of it.
func TestReviews(t *testing.T) {
	kilo := strings.Repeat("x", 1000)
	for _, test := range []struct {
		name, review string
		// want is the answer, allowed where "".
		want  string
		shows string
		count string
	}{
		{name: "create", review: short(pods + `,"operation":"CREATE","object":` + web + `,"oldObject":null`), shows: showA, count: `pods CREATE sent`},
		{name: "update", review: short(pods + `,"operation":"UPDATE","object":` + web2 + `,"oldObject":` + web), shows: showB, count: `pods UPDATE sent`},
		{name: "delete", review: short(pods + `,"operation":"DELETE","object":null,"oldObject":` + web), shows: showA + " deleted", count: `pods DELETE sent`},
		{name: "objects before the operation", review: short(`"oldObject":` + web + `,"object":` + web2 + `,"operation":"DELETE",` + pods), shows: showA + " deleted", count: `pods DELETE sent`},
		{name: "another kind", review: short(`"resource":{"group":"apps","resource":"deployments"},"operation":"CREATE","object":{"metadata":{"name":"d"}}`), shows: "apps/deployments /d [] []", count: `deployments.apps CREATE sent`},
		{name: "not chosen", review: short(`"resource":{"group":"evil.example.com","resource":"pods"},"operation":"CREATE","object":` + web), count: `other CREATE not_chosen`},
		{name: "dry run", review: short(pods + `,"operation":"CREATE","dryRun":true,"object":` + web), count: `other CREATE dry_run`},
		{name: "connect", review: short(pods + `,"operation":"CONNECT","object":` + web), count: `other CONNECT connect`},
		{name: "subresource", review: short(pods + `,"subResource":"status","operation":"UPDATE","object":` + web), count: `other UPDATE subresource`},
		{name: "generateName", review: short(pods + `,"operation":"CREATE","object":{"metadata":{"generateName":"web-"}}`), count: `other CREATE unnamed`},
		{name: "identity of the request", review: short(pods + `,"operation":"CREATE","name":"web","namespace":"shop","object":{"metadata":{"labels":{"a":"b"}}}`), shows: "/pods shop/web [{a b}] []", count: `pods CREATE sent`},
		{name: "namespace of the request", review: short(pods + `,"operation":"DELETE","name":"x","namespace":"shop","oldObject":{"metadata":{"name":"web"}}`), shows: "/pods shop/web [] [] deleted", count: `pods DELETE sent`},
		{name: "identity of the object", review: short(pods + `,"operation":"CREATE","name":"x","namespace":"y","object":` + web2), shows: showB, count: `pods CREATE sent`},
		{name: "a Namespace", review: short(`"resource":{"resource":"namespaces"},"operation":"UPDATE","name":"shop","namespace":"shop","object":{"metadata":{"name":"shop"}}`), shows: "/namespaces /shop [] []", count: `namespaces UPDATE sent`},
		{name: "sorted", review: short(pods + `,"operation":"CREATE","object":{"metadata":{"name":"a","labels":{"c":"1","a":"2","b":"3","":"4"},"annotations":{"z":"","y/x":"\u003c"}}}`), shows: "/pods /a [{ 4} {a 2} {b 3} {c 1}] [{y/x <} {z }]", count: `pods CREATE sent`},
		{name: "owners", review: short(pods + `,"operation":"CREATE","object":{"metadata":{"name":"a","ownerReferences":[{"kind":"Job","name":"j","controller":true,"uid":"1"},{"kind":"Node"}]}}`), shows: "/pods /a [] [] of Job j true of Node  false", count: `pods CREATE sent`},
		{name: "owners that are none", review: short(pods + `,"operation":"CREATE","object":{"metadata":{"name":"a","ownerReferences":[{"kind":"Job"},7]}}`), shows: "/pods /a [] []", count: `pods CREATE sent`},
		{name: "too many owners", review: short(pods + `,"operation":"CREATE","object":{"metadata":{"name":"a","ownerReferences":[{}` + strings.Repeat(",{}", 25000) + `]}}`), shows: "/pods /a [] []", count: `pods CREATE sent`},
		{name: "no object", review: short(pods + `,"operation":"UPDATE","oldObject":` + web), count: `other UPDATE unnamed`},
		{name: "delete without old object", review: short(pods + `,"operation":"DELETE","object":` + web), count: `other DELETE unnamed`},
		{name: "a made up operation", review: short(pods + `,"operation":"` + kilo + `","object":` + web), shows: showA, count: `pods other sent`},
		{name: "nested deeply", review: short(`"operation":"CREATE",` + pods + `,"object":{"spec":` + nested(9000) + `,"metadata":{"name":"a"}}`), shows: "/pods /a [] []", count: `pods CREATE sent`},
		{name: "nothing else", review: `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u1"}}`, count: `other other unnamed`},
		{
			name: "v1beta1", review: strings.Replace(short(pods+`,"operation":"CREATE","object":`+web), "io/v1", "io/v1beta1", 1), shows: showA, count: `pods CREATE sent`,
			want: `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1","response":{"uid":"u1","allowed":true}}`,
		},
		{
			name: "a uid of all kinds", review: strings.Replace(short(pods+`,"operation":"CREATE","dryRun":true`), "u1", `\"\\\u0007<é`+"\xff", 1), count: `other CREATE dry_run`,
			want: strings.Replace(allowed, "u1", `\"\\\u0007\u003cé`+"\ufffd", 1),
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
			if got := strings.Join(b.target.take(), "; "); got != test.shows {
				t.Errorf("shows %q, want %q", got, test.shows)
			}
			b.expectCounts(t, test.count)
		})
	}
}

// expectCounts compares the reviews that were counted, once each.
func (b *handlerBench) expectCounts(t *testing.T, want ...string) {
	t.Helper()
	problems, lintErr := testutil.GatherAndLint(b.registry)
	families, err := b.registry.Gather()
	if len(problems) > 0 || lintErr != nil || err != nil {
		t.Fatal(problems, lintErr, err)
	}
	var got []string
	for _, family := range families {
		switch family.GetName() {
		case "labelstream_webhook_reviews_total":
			for _, m := range family.GetMetric() {
				text := fmt.Sprintf("%s %s %s", m.GetLabel()[2].GetValue(), m.GetLabel()[0].GetValue(), m.GetLabel()[1].GetValue())
				got = append(got, slices.Repeat([]string{text}, int(m.GetCounter().GetValue()))...)
			}
		case "labelstream_webhook_in_flight", "labelstream_webhook_buffered_bytes":
			if v := family.GetMetric()[0].GetGauge().GetValue(); v != 0 {
				t.Errorf("%s is %v at the end", family.GetName(), v)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
}

// unread is a body that must not be read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

// TestRequests says what is answered for a request's headers, its size by what is
// free, and what it holds. Only what is allowed becomes a record.
func TestRequests(t *testing.T) {
	good := short(pods + `,"operation":"UPDATE","object":` + web)
	request := func(method, path, contentType, body string) *http.Request {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", contentType)
		return r
	}
	json := func(body string) *http.Request { return request("POST", "/validate", "application/json", body) }
	sized := func(size int64, body io.Reader) *http.Request {
		r := post(body)
		r.ContentLength = size
		return r
	}
	spaced := func(size int) *http.Request { return json(good + strings.Repeat(" ", size-len(good))) }
	encoded := json(good)
	encoded.Header.Set("Content-Encoding", "gzip")
	const (
		notFound, noType, noRoom = "not found\n", "want Content-Type: application/json, not encoded\n", "no room beside other reviews\n"
		noReview, noRequest      = "this is no AdmissionReview of admission.k8s.io/v1 or v1beta1 in JSON\n", "the AdmissionReview has no request with a uid\n"
		labels                   = 4 * 48 // what a label and an annotation take at most
	)
	for _, test := range []struct {
		name    string
		request *http.Request
		code    int
		text    string
		// held is what other reviews take.
		held int64
	}{
		{"another path", request("POST", "/", "application/json", good), 404, notFound, 0},
		{"the beginning of the path", request("POST", "/validat", "application/json", good), 404, notFound, 0},
		{"more than the path", request("POST", "/validate/", "application/json", good), 404, notFound, 0},
		{"GET", request("GET", "/validate", "application/json", ""), 405, "want POST\n", 0},
		{"no type", request("POST", "/validate", "", good), 415, noType, 0},
		{"another type", request("POST", "/validate", "application/yaml", good), 415, noType, 0},
		{"encoded", encoded, 415, noType, 0},

		{"the largest", spaced(maxBodyBytes), 200, allowed, 0},
		{"a byte too large", sized(maxBodyBytes+1, unread{t}), 413, "want at most 7 MiB\n", 0},
		{"not announced", sized(-1, unread{t}), 411, "want a Content-Length\n", 0},
		{"just room", spaced(1000), 200, allowed, maxBufferedBytes - 2000 - labels},
		{"no room for the labels", spaced(1000), 503, noRoom, maxBufferedBytes - 2000 - labels + 1},
		{"no room for the body", sized(1000, unread{t}), 503, noRoom, maxBufferedBytes - 1999},
		{"more labels than there ever is room for", json(short(pods + `,"operation":"CREATE","object":{"metadata":{"name":"a","labels":{` +
			strings.Repeat(`"":"",`, 300_000) + `"":""}}}`)), 503, noRoom, 0},
		{"cut off", sized(2000, io.MultiReader(strings.NewReader(good), iotest.ErrReader(io.ErrClosedPipe))), 400, "the review was cut off\n", 0},

		{"empty", json(""), 400, noReview, 0},
		{"no JSON", json("a=b"), 400, noReview, 0},
		{"half of it", json(good[:len(good)-1]), 400, noReview, 0},
		{"more after it", json(good + "{}"), 400, noReview, 0},
		{"no kind", json(strings.Replace(good, "kind", "kinds", 1)), 400, noReview, 0},
		{"another version", json(strings.Replace(good, "io/v1", "io/v2", 1)), 400, noReview, 0},
		{"an array for the request", json(strings.Replace(good, `"request":{"uid":"u1"`, `"request":[],"x":{"uid":"u1"`, 1)), 400, noRequest, 0},
		{"empty uid", json(strings.Replace(good, "u1", "", 1)), 400, noRequest, 0},
		{"a long uid", json(strings.Replace(good, "u1", strings.Repeat("u", 254), 1)), 400, noRequest, 0},
		{"nested too deeply", json(short(pods + `,"operation":"CREATE","object":` + web + `,"x":` + nested(10_000))), 400, noReview, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench()
			b.buffered.Store(test.held)
			r := b.serve(test.request)
			if got := bodyOf(t, r); r.StatusCode != test.code || got != test.text {
				t.Errorf("answered %d %q, want %d %q", r.StatusCode, got, test.code, test.text)
			}
			b.buffered.Add(-test.held)
			if test.code == 200 {
				b.expectCounts(t, "pods UPDATE sent")
				return
			}
			b.expectCounts(t)
			if got := b.target.take(); got != nil {
				t.Errorf("it shows %q", got)
			}
			if got := testutil.ToFloat64(b.metrics.rejected.WithLabelValues(fmt.Sprint(test.code))); got != 1 {
				t.Errorf("counted %v, want 1", got)
			}
		})
	}
}

// nested are arrays in each other.
func nested(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }

// podReview is a review as an API server sends it, of a pod of 4 KB; of an
// update it has the pod twice.
func podReview(operation string) []byte {
	const container = `{"name":"c","image":"registry.example.com/shop/web@sha256:4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1",` +
		`"ports":[{"containerPort":8080,"protocol":"TCP"}],"resources":{"limits":{"cpu":"500m","memory":"128Mi"}},"terminationMessagePath":"/dev/termination-log"}`
	pod := `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web-1","generateName":"web-","namespace":"shop",` +
		`"uid":"f0b4","labels":{"app":"web","team":"shop","pod-template-hash":"7d4b9c"},` +
		`"annotations":{"example.com/checksum":"93f5\u003c","example.com/owner":"shop@example.com"},` +
		`"managedFields":[{"manager":"kube-controller-manager","fieldsV1":{"f:metadata":{"f:labels":{".":{},"f:app":{}}}}}]},` +
		`"spec":{"containers":[` + strings.Repeat(container+",", 11) + container + `]},"status":{"phase":"Pending"}}`
	oldPod := "null"
	if operation == "UPDATE" {
		oldPod = pod
	}
	return fmt.Appendf(nil, `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{`+
		`"uid":"705ab4f5-6393-11e8-b7cc-42010a800002","kind":{"group":"","version":"v1","kind":"Pod"},`+
		`"resource":{"group":"","version":"v1","resource":"pods"},"name":"web-1","namespace":"shop","operation":%q,`+
		`"userInfo":{"username":"system:serviceaccount:kube-system:replicaset-controller","groups":["system:authenticated"]},`+
		`"object":%s,"oldObject":%s,"dryRun":false,"options":{"kind":"CreateOptions","apiVersion":"meta.k8s.io/v1"}}}`, operation, pod, oldPod)
}

// BenchmarkHandler is one review of a 4 KB pod without the connection.
func BenchmarkHandler(b *testing.B) {
	for _, operation := range []string{"CREATE", "UPDATE"} {
		b.Run(operation, func(b *testing.B) {
			h := NewHandler("/validate", discard{}, false, prometheus.NewRegistry())
			text := podReview(operation)
			reader := bytes.NewReader(text)
			r, w := post(reader), discard{header: make(http.Header)}
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				reader.Reset(text)
				h.ServeHTTP(w, r)
			}
		})
	}
}

// discard is a target and an answer that cost nothing.
type discard struct{ header http.Header }

func (discard) Review(*Change) (string, Outcome) { return "pods", Unchanged }
func (d discard) Header() http.Header            { return d.header }
func (discard) Write(p []byte) (int, error)      { return len(p), nil }
func (discard) WriteHeader(int)                  {}
