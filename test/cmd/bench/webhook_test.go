package main

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeReview is what the tests read of a review.
type fakeReview struct {
	Kind, APIVersion string
	Request          struct {
		UID, Name, Namespace, Operation string
		Object                          json.RawMessage
	}
}

type fakeMetadata struct {
	Name, Namespace string
	Labels          map[string]string
}

func (r *fakeReview) pod() fakeMetadata {
	var pod struct{ Metadata fakeMetadata }
	if err := json.Unmarshal(r.Request.Object, &pod); err != nil {
		panic(err)
	}
	return pod.Metadata
}

func TestReviewTemplate(t *testing.T) {
	template := newReviewTemplate()
	text := slices.Clone(template.text)
	template.fill(text, 1, 1)
	template.fill(text, 1234, 56789)
	var review fakeReview
	if err := json.Unmarshal(text, &review); err != nil {
		t.Fatal(err)
	}
	request, metadata := review.Request, review.pod()
	got := []string{review.Kind, review.APIVersion, request.UID, request.Operation, request.Namespace, request.Name,
		metadata.Namespace, metadata.Name, metadata.Labels["example.com/release"]}
	want := []string{"AdmissionReview", "admission.k8s.io/v1", "705ab4f5-6393-4e8a-b7cc-000000056789", "CREATE", "shop", "web-7d4b9c6f58-01234",
		"shop", "web-7d4b9c6f58-01234", "000000056789"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("review (-want +got):\n%s", diff)
	}
	if uid := string(template.uidOf(text)); uid != request.UID {
		t.Errorf("the uid is %q, want %q", uid, request.UID)
	}
	if n := len(request.Object); n < 4000 || n > 4200 {
		t.Errorf("the pod has %d bytes", n)
	}
}

// fakeWebhook answers reviews and remembers which they were.
type fakeWebhook struct {
	*httptest.Server
	trusted *x509.CertPool
	// format of the answer, which is given the uid, and its status.
	format string
	status int
	// refused is the name of a pod whose reviews are not answered so.
	refused string
	// reconnect ends the connection with each answer.
	reconnect   bool
	connections atomic.Int64

	mu      sync.Mutex
	reviews map[string]string // the label's value by uid
	names   map[string]int
}

func newFakeWebhook(t *testing.T) *fakeWebhook {
	f := &fakeWebhook{
		format: `{"response":{"uid":%q,"allowed":true}}`, status: http.StatusOK, trusted: x509.NewCertPool(),
		reviews: map[string]string{}, names: map[string]int{},
	}
	f.Server = httptest.NewUnstartedServer(f)
	// Clients leave in the middle of handshakes.
	f.Config.ErrorLog = log.New(io.Discard, "", 0)
	f.StartTLS()
	t.Cleanup(f.Close)
	f.trusted.AddCert(f.Certificate())
	return f
}

func (f *fakeWebhook) client() *reviewServer {
	return &reviewServer{address: f.Listener.Addr().String(), trusted: f.trusted, repeats: true}
}

func (f *fakeWebhook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var review fakeReview
	if err != nil || json.Unmarshal(body, &review) != nil ||
		r.Method+r.URL.String()+r.Header.Get("Content-Type") != "POST/validate?timeout=1sapplication/json" || r.Proto != "HTTP/1.1" {
		http.Error(w, "no review as kube-apiserver sends it", http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	pod := review.pod()
	f.reviews[review.Request.UID] = pod.Labels["example.com/release"]
	f.names[pod.Name]++
	f.mu.Unlock()
	if pod.Name == f.refused {
		http.Error(w, "no", http.StatusBadRequest)
		return
	}
	if f.reconnect {
		w.Header().Set("Connection", "close")
		f.connections.Add(1)
	}
	w.WriteHeader(f.status)
	fmt.Fprintf(w, f.format, review.Request.UID)
}

// check wants as many different reviews as the load has begun.
func (f *fakeWebhook) check(t *testing.T, l *load) {
	t.Helper()
	want := int(l.reviews.Load())
	values := map[string]bool{}
	for _, value := range f.reviews {
		values[value] = true
	}
	if want == 0 || len(f.reviews) != want || len(values) != want {
		t.Errorf("%d different reviews with %d different values have come, %d were begun", len(f.reviews), len(values), want)
	}
}

func TestLoads(t *testing.T) {
	template := newReviewTemplate()
	const reviews, interval = 200, 100 * time.Microsecond
	t.Run("flat out", func(t *testing.T) {
		f := newFakeWebhook(t)
		l := newLoad(f.client(), template)
		defer l.close()
		for range 2 {
			if err := l.flatOut(t.Context(), 50*time.Millisecond); err != nil {
				t.Fatal(err)
			}
		}
		f.check(t, l)
	})
	t.Run("paced, each over a new connection", func(t *testing.T) {
		f := newFakeWebhook(t)
		f.reconnect = true
		l := newLoad(f.client(), template)
		defer l.close()
		took, err := l.paced(t.Context(), reviews, interval)
		if err != nil || len(took) != reviews || slices.Min(took) <= 0 || f.connections.Load() != reviews {
			t.Errorf("%d times over %d connections, error %v", len(took), f.connections.Load(), err)
		}
		f.check(t, l)
	})
	t.Run("beside slow ones", func(t *testing.T) {
		f := newFakeWebhook(t)
		l := newLoad(f.client(), template)
		defer l.close()
		slow, err := l.slowly(t.Context(), 3)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.paced(t.Context(), reviews, interval); err != nil {
			t.Fatal(err)
		}
		// They are held open until they are told to end.
		if f.mu.Lock(); len(f.reviews) != reviews {
			t.Errorf("%d reviews have ended, want %d", len(f.reviews), reviews)
		}
		f.mu.Unlock()
		if err := slow.end(); err != nil {
			t.Fatal(err)
		}
		f.check(t, l)
		for i := range 3 {
			if name := fmt.Sprintf("web-7d4b9c6f58-%05d", reviewedPods+i); f.names[name] != 1 {
				t.Errorf("%d slow reviews of %s have come, want 1", f.names[name], name)
			}
		}
	})
}

// TestLoadsFail wants an error of every load for the first review that is not
// answered as it should be.
func TestLoadsFail(t *testing.T) {
	template := newReviewTemplate()
	for name, test := range map[string]struct {
		change func(*fakeWebhook)
		want   string
	}{
		"denied":         {func(f *fakeWebhook) { f.format = `{"response":{"uid":%q,"allowed":false}}` }, `was answered 200 OK`},
		"another uid":    {func(f *fakeWebhook) { f.format = `{"response":{"uid":"x%.3s","allowed":true}}` }, `was answered 200 OK`},
		"error":          {func(f *fakeWebhook) { f.status = http.StatusServiceUnavailable }, `was answered 503 Service Unavailable`},
		"endless answer": {func(f *fakeWebhook) { f.format += strings.Repeat(" ", 1000) }, "512 bytes"},
		"gone":           {func(f *fakeWebhook) { f.Close() }, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeWebhook(t)
			test.change(f)
			l := newLoad(f.client(), template)
			defer l.close()
			checkError(t, "flat out", l.flatOut(t.Context(), time.Second), test.want)
			_, err := l.paced(t.Context(), 100, time.Microsecond)
			checkError(t, "paced", err, test.want)
			slow, err := l.slowly(t.Context(), 2)
			if err == nil {
				err = slow.end()
			}
			checkError(t, "slow", err, test.want)
		})
	}
}

// TestBareServersNeedNoUID has the same answer to all.
func TestBareServersNeedNoUID(t *testing.T) {
	f := newFakeWebhook(t)
	f.format = `{"response":{"uid":"0%.0s","allowed":true}}`
	server := f.client()
	server.repeats = false
	l := newLoad(server, newReviewTemplate())
	defer l.close()
	if err := l.flatOut(t.Context(), 10*time.Millisecond); err != nil {
		t.Error(err)
	}
}

// TestLoadsAreMeasured has this process be the server, too.
func TestLoadsAreMeasured(t *testing.T) {
	template := newReviewTemplate()
	f := newFakeWebhook(t)
	l := newLoad(f.client(), template)
	defer l.close()
	l.slow = 3
	const duration = 200 * time.Millisecond
	for which := range loadCount {
		before := l.reviews.Load()
		s := &turns{load: l, pid: os.Getpid()}
		if err := takeTurns(t.Context(), which, duration, s); err != nil {
			t.Fatal(err)
		}
		u := s.usage()
		if u.Reviews <= 0 || int64(u.Reviews) > l.reviews.Load()-before || u.Wall <= 0 || u.CPU <= 0 || u.PeakRSS <= 0 {
			t.Errorf("load %d: %+v", which, u)
		}
		if timed := u.P50 > 0; timed != (which != loadFlatOut) {
			t.Errorf("load %d: %+v", which, u)
		}
		if paced := int(duration / webhookInterval); which == loadPaced && u.Reviews != paced {
			t.Errorf("load %d: %d reviews, want %d", which, u.Reviews, paced)
		}
	}
	f.check(t, l)
}

// TestTurnsAddUp has two servers in turn, the last of which is shorter.
func TestTurnsAddUp(t *testing.T) {
	l := newLoad(newFakeWebhook(t).client(), newReviewTemplate())
	defer l.close()
	a, b := &turns{load: l, pid: os.Getpid()}, &turns{load: l, pid: os.Getpid()}
	const duration = turnTime + 100*time.Millisecond
	if err := takeTurns(t.Context(), loadPaced, duration, a, b); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*turns{a, b} {
		if u := s.usage(); u.Reviews != int(duration/webhookInterval) || len(s.took) != u.Reviews || u.Wall < duration-10*webhookInterval || u.P50 <= 0 {
			t.Errorf("%d reviews took %v, of %d it is known how long: %+v", u.Reviews, u.Wall, len(s.took), u)
		}
	}
}

// TestSlowReviewsThatFail are an error of the load they were part of.
func TestSlowReviewsThatFail(t *testing.T) {
	f := newFakeWebhook(t)
	l := newLoad(f.client(), newReviewTemplate())
	defer l.close()
	l.slow, f.refused = 1, fmt.Sprintf("web-7d4b9c6f58-%05d", reviewedPods)
	err := takeTurns(t.Context(), loadBesideSlow, 50*time.Millisecond, &turns{load: l, pid: os.Getpid()})
	checkError(t, "beside slow ones", err, "was answered 400 Bad Request")
}

func TestPercentiles(t *testing.T) {
	var took []time.Duration
	for i := range 2000 {
		took = append(took, time.Duration(2000-i))
	}
	if got, want := percentiles(took), (latencies{P50: 1000, P99: 1980, P999: 1998, Worst: 2000}); got != want {
		t.Errorf("of 1 to 2,000: %v, want %v", got, want)
	}
	if got, want := percentiles([]time.Duration{7}), (latencies{7, 7, 7, 7}); got != want {
		t.Errorf("of one: %v", got)
	}
	if got := percentiles(nil); got != (latencies{}) {
		t.Errorf("of none: %v", got)
	}
}

// TestReviewsAreChecked plays a sink that has received one sample too few, or
// too many.
func TestReviewsAreChecked(t *testing.T) {
	for samples, want := range map[int]string{
		webhookPods + 7: "",
		webhookPods + 6: "labelstream sent 1006 samples for a backfill of 1000 pods and 7 reviews, want 1007",
		webhookPods + 8: "labelstream sent 1008 samples for a backfill of 1000 pods and 7 reviews, want 1007",
	} {
		sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"samples":%d}`, samples) }))
		s := webhookServers{sink: &helper{url: sink.URL}}
		err := s.checkSent(t.Context(), 7)
		sink.Close()
		checkError(t, fmt.Sprintf("%d samples", samples), err, want)
	}
}

func TestWriteCertificate(t *testing.T) {
	certificate, key := filepath.Join(t.TempDir(), "tls.crt"), filepath.Join(t.TempDir(), "tls.key")
	pool, err := writeCertificate(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler()}
	ready := httptest.NewUnstartedServer(nil)
	defer ready.Close()
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(ready.Listener, certificate, key) }()
	c := newReviewConnection(&reviewServer{address: ready.Listener.Addr().String(), trusted: pool}, newReviewTemplate())
	defer c.close()
	checkError(t, "a server without a webhook", c.review(t.Context(), 1, 1), "was answered 404 Not Found")
	server.Close()
	if err := <-served; err != http.ErrServerClosed {
		t.Error(err)
	}
}

// testWebhookResult has runs in which labelstream is worse by these factors.
func testWebhookResult(factors ...float64) *webhookResult {
	r := &webhookResult{}
	for i, factor := range factors {
		var pair webhookPair
		for load := range pair {
			of := func(factor float64, peak int64) loadUsage {
				u := loadUsage{Reviews: 1000, Wall: time.Duration(factor * 1e9), CPU: time.Duration(factor * 2e7), PeakRSS: peak << 20}
				if load != loadFlatOut {
					at := func(ms float64) time.Duration { return time.Duration(ms * factor * 1e6) }
					u.latencies = latencies{P50: at(1), P99: at(2), P999: at(4), Worst: at(8)}
				}
				return u
			}
			pair[load].bare, pair[load].product = of(1, 10), of(factor, int64(30+10*i))
		}
		r.runs = append(r.runs, pair)
	}
	return r
}

func TestWebhookReport(t *testing.T) {
	want := "\n## Webhook\n\n" + webhookIntroduction + "\n" + webhookLegend +
		"\n| load | server | reviews/s | CPU µs each | p50 ms | p99 ms | p99.9 ms | slowest ms | peak RSS MiB |\n|---|---|--:|--:|--:|--:|--:|--:|--:|\n" +
		"| 32 connections | labelstream | 800 | 25.0 |  |  |  |  | 50.0 |\n" +
		"| 32 connections | bare | 1,000 | 20.0 |  |  |  |  | 10.0 |\n" +
		"| 1,000 a second | labelstream | 800 | 25.0 | 1.25 | 2.50 | 5.00 | 10.00 | 50.0 |\n" +
		"| 1,000 a second | bare | 1,000 | 20.0 | 1.00 | 2.00 | 4.00 | 8.00 | 10.0 |\n" +
		"| 1,000 a second beside 1,000 slow connections | labelstream | 800 | 25.0 | 1.25 | 2.50 | 5.00 | 10.00 | 50.0 |\n" +
		"| 1,000 a second beside 1,000 slow connections | bare | 1,000 | 20.0 | 1.00 | 2.00 | 4.00 | 8.00 | 10.0 |\n" +
		"\nlabelstream by the bare server, the medians over the pairs of runs:\n\n" +
		"| load | rate | CPU | p50 | p99 | p99.9 |\n|---|--:|--:|--:|--:|--:|\n" +
		"| 32 connections | 0.80 | 1.25 |  |  |  |\n" +
		"| 1,000 a second | 0.80 | 1.25 | 1.25 | 1.25 | 1.25 |\n" +
		"| 1,000 a second beside 1,000 slow connections | 0.80 | 1.25 | 1.25 | 1.25 | 1.25 |\n"
	if diff := cmp.Diff(want, testWebhookResult(1.25, 2, 1).report()); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}
