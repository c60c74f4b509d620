// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is the receiver's clock in these tests.
var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

type message interface{ Marshal() ([]byte, error) }

// v1 is a request of one series with these labels, names and values in turn, and
// with a sample of 1 at each time.
func v1(labels []string, times ...time.Time) *prompb.WriteRequest {
	var series prompb.TimeSeries
	for pair := range slices.Chunk(labels, 2) {
		series.Labels = append(series.Labels, prompb.Label{Name: pair[0], Value: pair[1]})
	}
	for _, t := range times {
		series.Samples = append(series.Samples, prompb.Sample{Value: 1, Timestamp: t.UnixMilli()})
	}
	return &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{series}}
}

func up(labels ...string) []string { return append([]string{"__name__", "up"}, labels...) }

func v2(symbols []string, references ...uint32) *writev2.Request {
	return &writev2.Request{Symbols: symbols, Timeseries: []writev2.TimeSeries{{LabelsRefs: references}}}
}

// post sends a request to a receiver whose clock stands at noon, with other headers
// than usual where some are given, names and values in turn.
func post(t *testing.T, r *Receiver, m message, headers ...string) {
	t.Helper()
	plain, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	version, contentType := "1.0", "application/x-protobuf"
	if _, ok := m.(*writev2.Request); ok {
		version, contentType = "2.0", contentType+";proto=io.prometheus.write.v2.Request"
	}
	request := httptest.NewRequest(http.MethodPost, "/api/v1/write", bytes.NewReader(snappy.Encode(nil, plain)))
	usual := []string{"Content-Type", contentType, "Content-Encoding", "snappy", "X-Prometheus-Remote-Write-Version", versions[version], "User-Agent", "sender/1"}
	for pair := range slices.Chunk(slices.Concat(usual, headers), 2) {
		request.Header.Set(pair[0], pair[1])
	}
	r.ServeHTTP(httptest.NewRecorder(), request)
}

func newReceiver() *Receiver { return New(Options{Now: func() time.Time { return noon }}) }

func violations(r *Receiver) []string {
	var texts []string
	for _, err := range r.Violations() {
		texts = append(texts, err.Error())
	}
	return texts
}

func TestViolations(t *testing.T) {
	good := v1(up("a", "1"), noon)
	for _, test := range []struct {
		headers []string
		body    message
		want    string
	}{
		{[]string{"Content-Type", "text/plain"}, good, `header Content-Type is "text/plain" instead of application/x-protobuf`},
		{[]string{"Content-Type", "application/x-protobuf;proto=x"}, good, `header Content-Type names an unknown message: "application/x-protobuf;proto=x"`},
		{[]string{"Content-Encoding", ""}, good, `header Content-Encoding is "" instead of "snappy"`},
		{[]string{"X-Prometheus-Remote-Write-Version", "2.0.0"}, good, `header X-Prometheus-Remote-Write-Version is "2.0.0" instead of "0.1.0"`},
		{[]string{"User-Agent", ""}, good, `header User-Agent is missing`},
		{nil, v1([]string{"a", "1"}, noon), `series {a="1"}: no __name__`},
		{nil, v1([]string{"", "1", "__name__", "up"}, noon), `series up{""="1"}: label 0 has no name`},
		{nil, v1(up("a", ""), noon), `series up{a=""}: label "a" has no value`},
		{nil, v1(up("b", "1", "a", "2"), noon), `series up{b="1",a="2"}: label "a" comes after "b"`},
		{nil, v1(up("a", "1", "a", "2"), noon), `series up{a="1",a="2"}: label "a" is there twice`},
		{nil, v1(up("a", "\xff"), noon), `series up{a="\xff"}: label "a"="\xff" is not UTF-8`},
		{nil, v1(up()), `series up{}: no samples`},
		{nil, v1(up(), noon.Add(-time.Hour)), `series up{}: timestamp 1782903600000 is -1h0m0s from now`},
		{nil, v1(up(), noon.Add(time.Minute)), `series up{}: timestamp 1782907260000 is 1m0s from now`},
		{nil, v2([]string{""}, 0, 1), `series 0: reference 1 to one of 1 symbols`},
		{nil, v2([]string{""}, 0), `series 0: 1 references do not make pairs`},
		{nil, v2([]string{"a"}), `the symbols do not begin with an empty one`},
	} {
		r := newReceiver()
		post(t, r, test.body, test.headers...)
		if diff := cmp.Diff([]string{"request 1: " + test.want}, violations(r)); diff != "" {
			t.Errorf("violations (-want +got):\n%s", diff)
		}
	}
}

func TestOrder(t *testing.T) {
	r := newReceiver()
	for _, when := range []time.Time{noon, noon, noon.Add(-time.Second)} {
		post(t, r, v1(up(), when))
	}
	want := []string{"request 3: series up{}: out of order: sample of 1782907199000 after one of 1782907200000"}
	if diff := cmp.Diff(want, violations(r)); diff != "" {
		t.Errorf("violations (-want +got):\n%s", diff)
	}
	if all := r.All(); len(all) != 1 || len(all[0].Samples) != 2 || r.Samples() != 3 {
		t.Errorf("kept %v of %d samples", all, r.Samples())
	}
}
