// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"go.uber.org/goleak"

	"labelstream/config"
	"labelstream/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ms = time.Millisecond

var (
	pods  = &record.Kind{Resource: "pods", Type: "pod", NameLabel: "pod", Namespaced: true}
	nodes = &record.Kind{Resource: "nodes", Type: "node", NameLabel: "node"}
)

// newRecord makes a record whose series have these names and a label each.
func newRecord(key uint64, names ...string) *record.Record {
	rec := &record.Record{Kind: pods, Key: key, Count: len(names)}
	for _, name := range names {
		rec.Series = record.AppendCount(rec.Series, 2)
		rec.Series = record.AppendLabel(rec.Series, "__name__", name)
		rec.Series = record.AppendLabel(rec.Series, "pod", fmt.Sprint("p", key))
	}
	return rec
}

// records are of one series each, with the keys from 1.
func records(names ...string) []*record.Record {
	var all []*record.Record
	for i, name := range names {
		all = append(all, newRecord(uint64(i+1), name))
	}
	return all
}

// sized is a record of one series whose encoded size is size.
func sized(key uint64, size int) *record.Record {
	for n := size; n > 0; n-- {
		rec := &record.Record{Kind: pods, Key: key, Count: 1}
		rec.Series = record.AppendCount(rec.Series, 1)
		rec.Series = record.AppendLabel(rec.Series, "__name__", bytes.Repeat([]byte{byte('a' + key%26)}, n))
		if int(newEntry(rec, false).size) == size {
			return rec
		}
	}
	panic(fmt.Sprintf("no record of %d bytes", size))
}

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

// ended adds series that the record's object no longer has.
func ended(rec *record.Record, names ...string) *record.Record {
	old := newRecord(rec.Key, names...)
	rec.Ended, rec.EndedCount = old.Series, old.Count
	return rec
}

// deleted is the last record of an object.
func deleted(rec *record.Record) *record.Record {
	rec.Deleted = true
	return rec
}

// sample is one as the destination reads it: its series' name, with a dagger where
// it is a staleness marker, and its time.
type sample struct {
	Name string
	At   int64
}

func newSample(name string, bits uint64, at int64) sample {
	switch bits {
	case 0x3ff0000000000000: // 1
	case 0x7ff0000000000002:
		name += "†"
	default:
		name = fmt.Sprintf("%s=%#x", name, bits)
	}
	return sample{Name: name, At: at}
}

// decodeSamples reads a request's body with the reference implementation.
func decodeSamples(header http.Header, body []byte) (v version, samples []sample, err error) {
	plain, err := snappy.Decode(nil, body)
	if err != nil {
		return unknown, nil, err
	}
	if strings.Contains(header.Get("Content-Type"), "write.v2") {
		var message writev2.Request
		err = message.Unmarshal(plain)
		for _, s := range message.Timeseries {
			for _, one := range s.Samples {
				samples = append(samples, newSample(message.Symbols[s.LabelsRefs[1]], math.Float64bits(one.Value), one.Timestamp))
			}
		}
		return v2, samples, err
	}
	var message prompb.WriteRequest
	err = message.Unmarshal(plain)
	for _, s := range message.Timeseries {
		for _, one := range s.Samples {
			samples = append(samples, newSample(s.Labels[0].Value, math.Float64bits(one.Value), one.Timestamp))
		}
	}
	return v1, samples, err
}

// request is one that the fake destination got, and what it answered.
type request struct {
	// After is the time since the destination was made.
	After   time.Duration
	Version version
	Samples []sample
	Size    int
	Status  int
}

func (r request) names() []string {
	var names []string
	for _, s := range r.Samples {
		names = append(names, s.Name)
	}
	return names
}

// answerer is asked for the nth request, from zero.
type answerer func(n int, r request, req *http.Request) (*http.Response, error)

// destination is a transport that answers without a network, so that it works
// in a synctest bubble.
type destination struct {
	start  time.Time
	answer answerer

	mu       sync.Mutex
	requests []request
}

func newDestination(answer answerer) *destination {
	return &destination{start: time.Now(), answer: answer}
}

func (d *destination) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	req.Body.Close()
	if err != nil {
		return nil, err
	}
	got := request{After: time.Since(d.start)}
	if got.Version, got.Samples, err = decodeSamples(req.Header, body); err != nil {
		return nil, err
	}
	got.Size, _ = snappy.DecodedLen(body)
	d.mu.Lock()
	n := len(d.requests)
	d.requests = append(d.requests, got)
	d.mu.Unlock()
	resp, err := d.answer(n, got, req)
	if resp != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.requests[n].Status = resp.StatusCode
	}
	return resp, err
}

func (d *destination) got() []request {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.requests)
}

// each returns something of every request.
func each[T any](d *destination, of func(request) T) []T {
	var all []T
	for _, r := range d.got() {
		all = append(all, of(r))
	}
	return all
}

func (d *destination) times() []time.Duration {
	return each(d, func(r request) time.Duration { return r.After })
}
func (d *destination) versions() []version {
	return each(d, func(r request) version { return r.Version })
}
func (d *destination) names() [][]string { return each(d, request.names) }

// stored are the names of the samples that were answered with a success.
func (d *destination) stored() []string {
	var names []string
	for _, r := range d.got() {
		if outcomeOf(r.Status) == accepted {
			names = append(names, r.names()...)
		}
	}
	return names
}

const samplesWritten = "X-Prometheus-Remote-Write-Samples-Written"

func respond(code int, body string, header ...string) *http.Response {
	resp := &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
	for i := 0; i < len(header); i += 2 {
		resp.Header.Set(header[i], header[i+1])
	}
	return resp
}

// codes answers with one status after the other, the last one again and again.
// To 2.0 it says that all was written.
func codes(list ...int) answerer {
	return func(n int, r request, _ *http.Request) (*http.Response, error) {
		resp := respond(list[min(n, len(list)-1)], "")
		if r.Version == v2 && resp.StatusCode/100 == 2 {
			resp.Header.Set(samplesWritten, fmt.Sprint(len(r.Samples)))
		}
		return resp, nil
	}
}

// upAfter fails for so long.
func upAfter(d time.Duration) answerer {
	up := time.Now().Add(d)
	return func(n int, r request, req *http.Request) (*http.Response, error) {
		if time.Now().Before(up) {
			return respond(503, ""), nil
		}
		return codes(200)(n, r, req)
	}
}

// hang answers nothing until the request ends.
func hang(_ int, _ request, req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

// harness is an emitter without jitter, and what it tells.
type harness struct {
	*Emitter
	t    *testing.T
	logs *logtest.Hook
	reg  *prometheus.Registry
	done chan error
}

// changed is a change of the settings that a harness has otherwise.
type changed = func(*config.Delivery, *Options)

func batchSize(n int) changed { return func(c *config.Delivery, _ *Options) { c.BatchSize = n } }

func speaking(p config.Protocol) changed {
	return func(c *config.Delivery, _ *Options) { c.Protocol = p }
}

func sendingTo(url string, client *promconfig.HTTPClientConfig) changed {
	return func(c *config.Delivery, _ *Options) {
		_ = c.Destination.Decode(url)
		c.HTTPClient = client
	}
}

func probing(interval, giveUpAfter time.Duration) changed {
	return func(_ *config.Delivery, o *Options) { o.ProbeInterval, o.GiveUpAfter = interval, giveUpAfter }
}

// newEmitter sends by d, nil for the network, with one sender, and batches of two
// records.
func newEmitter(tb testing.TB, d http.RoundTripper, log logrus.FieldLogger, changes ...changed) *Emitter {
	tb.Helper()
	cfg := &config.Delivery{
		Destination:  config.URL{URL: &url.URL{Scheme: "http", Host: "destination", Path: "/write"}},
		BatchSize:    2,
		SendInterval: 10 * time.Second,
		SendTimeout:  30 * time.Second,
		Senders:      1,
		Protocol:     config.Protocol1,
		OnRefused:    config.OnRefusedHalve,
	}
	opts := Options{UserAgent: "labelstream/test", Logger: log}
	for _, change := range changes {
		change(cfg, &opts)
	}
	e, err := New(cfg, opts)
	if err != nil {
		tb.Fatal(err)
	}
	if d != nil {
		e.client.http.Transport = d
	}
	for _, s := range e.senders {
		s.jitter = func(d time.Duration) time.Duration { return d }
	}
	return e
}

func newHarness(t *testing.T, d http.RoundTripper, changes ...changed) *harness {
	t.Helper()
	logger, logs := logtest.NewNullLogger()
	logger.SetLevel(logrus.DebugLevel)
	reg := prometheus.NewRegistry()
	changes = append(changes, func(_ *config.Delivery, o *Options) { o.Registerer = reg })
	return &harness{Emitter: newEmitter(t, d, logger, changes...), t: t, reg: reg, logs: logs, done: make(chan error, 1)}
}

func (h *harness) start(ctx context.Context) {
	go func() { h.done <- h.Run(ctx) }()
}

func (h *harness) put(records ...*record.Record) {
	h.t.Helper()
	for _, rec := range records {
		if sent, err := h.Put(h.t.Context(), rec, nil); !sent || err != nil {
			h.t.Fatal(sent, err)
		}
	}
}

// finish ends the input, and expects that all of it has an outcome.
func (h *harness) finish() {
	h.t.Helper()
	h.Close()
	expect(h.t, "Run", <-h.done, nil)
}

// deliver sends the records to the end.
func (h *harness) deliver(records ...*record.Record) {
	h.t.Helper()
	h.start(h.t.Context())
	h.put(records...)
	h.finish()
}

// lines returns what was logged at info and above.
func (h *harness) lines() []string {
	var lines []string
	for _, entry := range h.logs.AllEntries() {
		if entry.Level > logrus.InfoLevel {
			continue
		}
		line := entry.Level.String() + ": " + entry.Message
		for _, field := range []string{"kind", "namespace", "name", "reason", "records", "bytes", "by", "after", "error", "hint"} {
			if value, ok := entry.Data[field]; ok && value != "" {
				line += fmt.Sprintf(" %s=%v", field, value)
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// expectMetrics compares all samples of the metrics given.
func (h *harness) expectMetrics(want string, names ...string) {
	h.t.Helper()
	if err := testutil.GatherAndCompare(h.reg, strings.NewReader(want), names...); err != nil {
		h.t.Error(err)
	}
}

func expect[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateErrors()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// bubble runs a test with a clock of its own.
func bubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}
