// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	typeV1 = "application/x-protobuf"
	typeV2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
)

var (
	// threeSeries have two samples.
	threeSeries = &prompb.WriteRequest{
		Timeseries: []prompb.TimeSeries{
			{Labels: []prompb.Label{{Name: "__name__", Value: "a"}}, Samples: []prompb.Sample{{Value: 1, Timestamp: 5}}},
			{Labels: []prompb.Label{{Name: "__name__", Value: "b"}}, Samples: []prompb.Sample{{Value: 1, Timestamp: 5}}},
			{Labels: []prompb.Label{{Name: "__name__", Value: "c"}}},
		},
		Metadata: []prompb.MetricMetadata{{MetricFamilyName: "a"}},
	}
	// twoSeries have three samples.
	twoSeries = &writev2.Request{
		Symbols: []string{"", "__name__", "a", "b"},
		Timeseries: []writev2.TimeSeries{
			{LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Value: 1, Timestamp: 5}}},
			{LabelsRefs: []uint32{1, 3}, Samples: []writev2.Sample{{Value: 1, Timestamp: 5}, {Value: 1, Timestamp: 6}}},
		},
	}
)

func encoded(t *testing.T, message interface{ Marshal() ([]byte, error) }) []byte {
	t.Helper()
	raw, err := message.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return snappy.Encode(nil, raw)
}

func post(s *sink, contentType string, body []byte) *httptest.ResponseRecorder {
	request := httptest.NewRequest(http.MethodPost, "/api/v1/write", bytes.NewReader(body))
	request.Header.Set("Content-Type", contentType)
	response := httptest.NewRecorder()
	s.ServeHTTP(response, request)
	return response
}

func TestSinkCounts(t *testing.T) {
	v1 := encoded(t, threeSeries)
	s := &sink{}
	for i, test := range []struct {
		contentType   string
		body          []byte
		want          int
		written       string
		inAll, series int64
	}{
		{typeV1, v1, 204, "", 2, 3},
		{typeV1, v1, 204, "", 4, 6},
		{typeV2, encoded(t, twoSeries), 204, "3", 7, 8},
		{"application/json", v1, 415, "", 7, 8},
		{typeV1, []byte("not snappy"), 400, "", 7, 8},
		{typeV1, snappy.Encode(nil, []byte{seriesV1<<3 | 2, 9}), 400, "", 7, 8},
	} {
		got := post(s, test.contentType, test.body)
		if written := got.Header().Get("X-Prometheus-Remote-Write-Samples-Written"); got.Code != test.want || written != test.written {
			t.Errorf("request %d: answered %d %s, %q samples written", i, got.Code, got.Body, written)
		}
		totals := httptest.NewRecorder()
		s.ServeHTTP(totals, httptest.NewRequest(http.MethodGet, "/totals", nil))
		if want := fmt.Sprintf(`{"Series":%d,"Samples":%d}`+"\n", test.series, test.inAll); totals.Body.String() != want {
			t.Errorf("request %d: the totals are %s, want %s", i, totals.Body, want)
		}
	}
}

// TestSinkOutages counts nothing of what an outage refuses. Each request takes half
// a second.
func TestSinkOutages(t *testing.T) {
	body := encoded(t, threeSeries)
	synctest.Test(t, func(t *testing.T) {
		s := &sink{delay: time.Second / 2, downEvery: 2, downFor: 3 * time.Second}
		var got []int
		begun := time.Now()
		for range 10 {
			got = append(got, post(s, typeV1, body).Code)
		}
		want := []int{204, 204, 503, 503, 503, 503, 503, 204, 204, 503}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
		if took := time.Since(begun); s.totals.Samples != 8 || took != 5*time.Second {
			t.Errorf("%d samples are counted, want 8, and it took %v, want 5s", s.totals.Samples, took)
		}
	})
}
