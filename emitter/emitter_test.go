package emitter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"go.uber.org/goleak"

	"labelstream/config"
	"labelstream/record"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

var pods = &record.Kind{Resource: "pods", Type: "pod", NameLabel: "pod", Namespaced: true}

// newRecord makes a record whose series have these names and an extra label
// each.
func newRecord(key uint64, names ...string) *record.Record {
	rec := &record.Record{Kind: pods, Key: key, Count: len(names)}
	for _, name := range names {
		rec.Series = record.AppendCount(rec.Series, 2)
		rec.Series = record.AppendLabel(rec.Series, "__name__", name)
		rec.Series = record.AppendLabel(rec.Series, "pod", fmt.Sprint("p", key))
	}
	return rec
}

// sent is a series as the destination reads it.
type sent struct {
	Name string
	At   int64
}

// decode reads a request's body with the reference implementation.
func decode(body []byte) (*prompb.WriteRequest, error) {
	plain, err := snappy.Decode(nil, body)
	if err != nil {
		return nil, err
	}
	req := &prompb.WriteRequest{}
	return req, req.Unmarshal(plain)
}

// decodeV2 is decode for 2.0.
func decodeV2(body []byte) (*writev2.Request, error) {
	plain, err := snappy.Decode(nil, body)
	if err != nil {
		return nil, err
	}
	req := &writev2.Request{}
	return req, req.Unmarshal(plain)
}

// decodeSeries reads a body of either version.
func decodeSeries(header http.Header, body []byte) (version, []sent, error) {
	var series []sent
	if strings.Contains(header.Get("Content-Type"), "write.v2") {
		message, err := decodeV2(body)
		if err != nil {
			return undecided, nil, err
		}
		for _, s := range message.Timeseries {
			series = append(series, sent{Name: message.Symbols[s.LabelsRefs[1]], At: s.Samples[0].Timestamp})
		}
		return v2, series, nil
	}
	message, err := decode(body)
	if err != nil {
		return undecided, nil, err
	}
	for _, s := range message.Timeseries {
		series = append(series, sent{Name: s.Labels[0].Value, At: s.Samples[0].Timestamp})
	}
	return v1, series, nil
}

// request is one that the fake destination got.
type request struct {
	// After is the time since the destination was made.
	After   time.Duration
	Version version
	Series  []sent
}

// destination is a transport that answers without a network, so that it works
// in a synctest bubble.
type destination struct {
	start time.Time
	// answer is asked for the nth request, from zero.
	answer func(n int, req *http.Request) (*http.Response, error)

	mu       sync.Mutex
	requests []request
}

func newDestination(answer func(n int, req *http.Request) (*http.Response, error)) *destination {
	return &destination{start: time.Now(), answer: answer}
}

func (d *destination) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	req.Body.Close()
	if err != nil {
		return nil, err
	}
	v, series, err := decodeSeries(req.Header, body)
	if err != nil {
		return nil, err
	}
	got := request{After: time.Since(d.start), Version: v, Series: series}
	d.mu.Lock()
	n := len(d.requests)
	d.requests = append(d.requests, got)
	d.mu.Unlock()
	return d.answer(n, req)
}

// got returns the requests so far.
func (d *destination) got() []request {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]request(nil), d.requests...)
}

// times returns when the requests came.
func (d *destination) times() []time.Duration {
	var times []time.Duration
	for _, r := range d.got() {
		times = append(times, r.After)
	}
	return times
}

// versions returns those of the requests.
func (d *destination) versions() []version {
	var versions []version
	for _, r := range d.got() {
		versions = append(versions, r.Version)
	}
	return versions
}

// names returns the series of each request.
func (d *destination) names() [][]string {
	var names [][]string
	for _, r := range d.got() {
		var of []string
		for _, s := range r.Series {
			of = append(of, s.Name)
		}
		names = append(names, of)
	}
	return names
}

const (
	samplesWritten = "X-Prometheus-Remote-Write-Samples-Written"
	writtenSamples = "X-Prometheus-Remote-Write-Written-Samples"
)

func respond(code int, body string, header ...string) *http.Response {
	resp := &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
	for i := 0; i < len(header); i += 2 {
		resp.Header.Set(header[i], header[i+1])
	}
	return resp
}

// always answers every request with the same status.
func always(code int) func(int, *http.Request) (*http.Response, error) {
	return func(int, *http.Request) (*http.Response, error) { return respond(code, ""), nil }
}

// hang answers nothing until the request ends.
func hang(_ int, req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

// codes answers with one status after the other, the last one again and again.
func codes(list ...int) func(int, *http.Request) (*http.Response, error) {
	return func(n int, _ *http.Request) (*http.Response, error) {
		return respond(list[min(n, len(list)-1)], ""), nil
	}
}

// harness is an emitter with one sender, and what it tells.
type harness struct {
	*Emitter
	logs *logtest.Hook
	reg  *prometheus.Registry
	done chan error

	mu       sync.Mutex
	outcomes map[Outcome][]Item
}

func testConfig(t testing.TB, destination string) *config.Delivery {
	t.Helper()
	u, err := url.Parse(destination)
	if err != nil {
		t.Fatal(err)
	}
	return &config.Delivery{
		Destination:     config.URL{URL: u},
		BatchSize:       2,
		SendInterval:    10 * time.Second,
		SendTimeout:     30 * time.Second,
		MaxBytesPerSend: 1 << 20,
		Senders:         1,
		Protocol:        config.Protocol1,
		OnRefused:       config.OnRefusedHalve,
	}
}

func newHarness(cfg *config.Delivery, opts Options, senders int) *harness {
	h := &harness{reg: prometheus.NewRegistry(), done: make(chan error, 1), outcomes: map[Outcome][]Item{}}
	logger, hook := logtest.NewNullLogger()
	logger.SetLevel(logrus.DebugLevel)
	h.logs = hook
	opts.Logger, opts.Registerer, opts.UserAgent = logger, h.reg, "labelstream/test"
	opts.Observe = func(o Outcome, items []Item) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.outcomes[o] = append(h.outcomes[o], items...)
	}
	cfg.Senders = senders
	e, err := New(cfg, opts)
	if err != nil {
		panic(err)
	}
	h.Emitter = e
	h.jitter = func(d time.Duration) time.Duration { return d }
	return h
}

// newTestEmitter has one sender, no jitter, and batches of two records.
func newTestEmitter(t *testing.T, d http.RoundTripper, opts Options) *harness {
	t.Helper()
	opts.Transport = d
	return newHarness(testConfig(t, "http://destination/write"), opts, 1)
}

func (h *harness) start(ctx context.Context) {
	go func() { h.done <- h.Run(ctx) }()
}

func (h *harness) put(t *testing.T, records ...*record.Record) {
	t.Helper()
	for _, rec := range records {
		if err := h.Put(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
}

// keys returns the keys of the records with that outcome.
func (h *harness) keys(o Outcome) []uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	var keys []uint64
	for _, item := range h.outcomes[o] {
		keys = append(keys, item.Key)
	}
	return keys
}

// lines returns what was logged at info and above.
func (h *harness) lines() []string {
	var lines []string
	for _, entry := range h.logs.AllEntries() {
		if entry.Level > logrus.InfoLevel {
			continue
		}
		line := entry.Level.String() + ": " + entry.Message
		if err, ok := entry.Data[logrus.ErrorKey]; ok {
			line += ": " + err.(error).Error()
		}
		if after, ok := entry.Data["after"]; ok {
			line += " after " + after.(string)
		}
		if n, ok := entry.Data["records"]; ok {
			line += fmt.Sprintf(" (%d records)", n)
		}
		if name, ok := entry.Data["name"]; ok {
			line += fmt.Sprintf(" [%s %s/%s]", entry.Data["kind"], entry.Data["namespace"], name)
		}
		lines = append(lines, line)
	}
	return lines
}

func expect[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestDeliversEveryRecordOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(always(http.StatusNoContent))
		h := newTestEmitter(t, d, Options{})
		h.start(t.Context())
		now := time.Now().UnixMilli()
		h.put(t, newRecord(1, "a", "b"), newRecord(2, "c"), newRecord(3, "d"))
		h.Close()
		expect(t, "Run", <-h.done, nil)
		expect(t, "requests", d.got(), []request{
			{Version: v1, Series: []sent{{"a", now}, {"b", now}, {"c", now}}},
			{Version: v1, Series: []sent{{"d", now}}},
		})
		expect(t, "outcomes", h.outcomes, map[Outcome][]Item{Accepted: {
			{Kind: pods, Key: 1, Series: 2}, {Kind: pods, Key: 2, Series: 1}, {Kind: pods, Key: 3, Series: 1},
		}})
		expect(t, "log", h.lines(), nil)
	})
}

func TestPutAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := newTestEmitter(t, newDestination(always(200)), Options{})
		closed.Close()
		closed.Close()
		if err := closed.Put(t.Context(), newRecord(1, "a")); !errors.Is(err, ErrClosed) {
			t.Errorf("Put after Close: %v", err)
		}
		expect(t, "Run of a closed emitter", closed.Run(t.Context()), nil)

		ended := newTestEmitter(t, newDestination(always(200)), Options{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		expect(t, "Run without records", ended.Run(ctx), nil)
		if err := ended.Put(t.Context(), newRecord(1, "a")); !errors.Is(err, ErrClosed) {
			t.Errorf("Put after Run: %v", err)
		}
	})
}

// TestTryPut fills the queue of an emitter that does not send: one more record
// is not taken, and waits for nothing. What was taken is sent.
func TestTryPut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(always(200))
		e := newTestEmitter(t, d, Options{})
		taken := 0
		for ; e.TryPut(newRecord(1, "a")); taken++ {
			if taken > 1e6 {
				t.Fatal("the queue has no end")
			}
		}
		if queued := e.queued.Load(); taken == 0 || queued != int64(taken) {
			t.Errorf("%d taken, %d in the queue", taken, queued)
		}
		e.Close()
		if e.TryPut(newRecord(2, "a")) {
			t.Error("a closed emitter took a record")
		}
		expect(t, "Run", e.Run(t.Context()), nil)
		if queued := e.queued.Load(); queued != 0 {
			t.Errorf("%d are left", queued)
		}
	})
}

func TestObjectsKeepTheirSenderAndOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Every third request fails first, so that senders fall behind each
		// other.
		d := newDestination(func(n int, _ *http.Request) (*http.Response, error) {
			if n%3 == 1 {
				return respond(503, ""), nil
			}
			return respond(200, ""), nil
		})
		now := time.Now()
		step := 0
		var mu sync.Mutex
		// A clock that jumps back by a minute at every fifth reading.
		clock := func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			step++
			if step%5 == 0 {
				now = now.Add(-time.Minute)
			}
			now = now.Add(time.Second)
			return now
		}
		cfg := testConfig(t, "http://destination/write")
		h := newHarness(cfg, Options{Transport: d, Now: clock}, 3)
		h.start(t.Context())
		const objects, updates = 7, 40
		for update := range updates {
			for key := range uint64(objects) {
				h.put(t, newRecord(key, fmt.Sprintf("%d/%03d", key, update)))
			}
		}
		h.Close()
		expect(t, "Run", <-h.done, nil)
		last := map[byte]sent{}
		for _, r := range d.got() {
			for _, s := range r.Series {
				before := last[s.Name[0]]
				if s.At < before.At || s.Name < before.Name {
					t.Fatalf("%v after %v", s, before)
				}
				last[s.Name[0]] = s
			}
		}
		expect(t, "objects", len(last), objects)
		expect(t, "accepted", len(h.keys(Accepted)), objects*updates)
	})
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(func(n int, req *http.Request) (*http.Response, error) {
			if n == 3 {
				return hang(n, req)
			}
			return respond([]int{200, 409, 422}[n], ""), nil
		})
		h := newTestEmitter(t, d, Options{})
		h.put(t, newRecord(1, "a", "b"), newRecord(2, "c"))
		time.Sleep(3 * time.Second)
		h.put(t, newRecord(3, "d"))
		names := []string{"labelstream_queue_length", "labelstream_queue_capacity", "labelstream_oldest_unsent_seconds"}
		gather(t, h.reg, `
			# HELP labelstream_oldest_unsent_seconds Age of the oldest record in the queue, zero where it is empty.
			# TYPE labelstream_oldest_unsent_seconds gauge
			labelstream_oldest_unsent_seconds 3
			# HELP labelstream_queue_capacity Records that the queue holds at most; large ones fill it sooner.
			# TYPE labelstream_queue_capacity gauge
			labelstream_queue_capacity 8
			# HELP labelstream_queue_length Records that wait to be sent or are being sent.
			# TYPE labelstream_queue_length gauge
			labelstream_queue_length 3
		`, names...)

		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		h.start(ctx)
		h.put(t, newRecord(4, "e"))
		synctest.Wait()
		h.put(t, newRecord(5, "f"))
		time.Sleep(11 * time.Second) // the batch was due
		h.put(t, newRecord(6, "g"), newRecord(7, "h"))
		synctest.Wait()
		cancel()
		<-h.done
		names = append(names, "labelstream_samples_sent_total", "labelstream_records_dropped_total",
			"labelstream_batches_total", "labelstream_protocol", "labelstream_last_success_timestamp_seconds")
		gather(t, h.reg, fmt.Sprintf(`
			# HELP labelstream_batches_total Batches by how they ended: accepted, conflict (the destination has newer samples), partial (some records were refused), refused, too_old, or shutdown.
			# TYPE labelstream_batches_total counter
			labelstream_batches_total{outcome="accepted"} 1
			labelstream_batches_total{outcome="conflict"} 1
			labelstream_batches_total{outcome="partial"} 0
			labelstream_batches_total{outcome="refused"} 1
			labelstream_batches_total{outcome="shutdown"} 1
			labelstream_batches_total{outcome="too_old"} 0
			# HELP labelstream_last_success_timestamp_seconds When the destination last accepted samples, in Unix time.
			# TYPE labelstream_last_success_timestamp_seconds gauge
			labelstream_last_success_timestamp_seconds %d
			# HELP labelstream_oldest_unsent_seconds Age of the oldest record in the queue, zero where it is empty.
			# TYPE labelstream_oldest_unsent_seconds gauge
			labelstream_oldest_unsent_seconds 0
			# HELP labelstream_queue_capacity Records that the queue holds at most; large ones fill it sooner.
			# TYPE labelstream_queue_capacity gauge
			labelstream_queue_capacity 8
			# HELP labelstream_protocol 1 for the version of remote_write in use; none while it is being found out.
			# TYPE labelstream_protocol gauge
			labelstream_protocol{version="1.0"} 1
			labelstream_protocol{version="2.0"} 0
			# HELP labelstream_queue_length Records that wait to be sent or are being sent.
			# TYPE labelstream_queue_length gauge
			labelstream_queue_length 0
			# HELP labelstream_records_dropped_total Records that did not reach the destination, by reason: refused by it as bad_request (400), too_large (413), unprocessable (422), not_written (2.0) or undecided (with others), too_old after failures, or unsent at shutdown.
			# TYPE labelstream_records_dropped_total counter
			labelstream_records_dropped_total{reason="bad_request"} 0
			labelstream_records_dropped_total{reason="not_written"} 0
			labelstream_records_dropped_total{reason="shutdown"} 2
			labelstream_records_dropped_total{reason="too_large"} 0
			labelstream_records_dropped_total{reason="too_old"} 0
			labelstream_records_dropped_total{reason="undecided"} 0
			labelstream_records_dropped_total{reason="unprocessable"} 1
			# HELP labelstream_samples_sent_total Samples that the destination accepted.
			# TYPE labelstream_samples_sent_total counter
			labelstream_samples_sent_total 5
		`, start.Unix()), names...)
	})
}

func gather(t *testing.T, reg *prometheus.Registry, want string, names ...string) {
	t.Helper()
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
}

// BenchmarkPut measures the queue with a destination that takes no time. The
// allocations are those of the requests, one in 500 records.
func BenchmarkPut(b *testing.B) {
	cfg := testConfig(b, "http://destination/write")
	cfg.BatchSize = 500
	transport := roundTripper(func(req *http.Request) (*http.Response, error) {
		req.Body.Close()
		return respond(200, ""), nil
	})
	logger, _ := logtest.NewNullLogger()
	e, err := New(cfg, Options{Transport: transport, Logger: logger})
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- e.Run(b.Context()) }()
	rec := benchRecord(1)
	b.SetBytes(int64(len(rec.Series)))
	b.ReportAllocs()
	for b.Loop() {
		rec.Key++
		if err := e.Put(b.Context(), rec); err != nil {
			b.Fatal(err)
		}
	}
	e.Close()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// benchRecord is a pod with ten labels.
func benchRecord(key uint64) *record.Record {
	rec := &record.Record{Kind: pods, Key: key, Count: 1}
	rec.Series = record.AppendCount(rec.Series, 14)
	rec.Series = record.AppendLabel(rec.Series, "__name__", "cloudzero_pod_labels")
	for i := range 10 {
		value := bytes.Repeat([]byte{byte('a' + i)}, 8+i)
		rec.Series = record.AppendLabel(rec.Series, fmt.Sprintf("label_app.kubernetes.io/part-%d", i), value)
	}
	rec.Series = record.AppendLabel(rec.Series, "namespace", "production")
	rec.Series = record.AppendLabel(rec.Series, "pod", fmt.Sprintf("web-%016x", key*0x9e3779b97f4a7c15))
	rec.Series = record.AppendLabel(rec.Series, "resource_type", "pod")
	return rec
}
