package main

import (
	"bytes"
	"encoding/json"
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

// requestV1 has three series and two samples.
func requestV1(t *testing.T) []byte {
	t.Helper()
	raw, err := (&prompb.WriteRequest{
		Timeseries: []prompb.TimeSeries{
			{Labels: []prompb.Label{{Name: "__name__", Value: "a"}}, Samples: []prompb.Sample{{Value: 1, Timestamp: 5}}},
			{Labels: []prompb.Label{{Name: "__name__", Value: "b"}}, Samples: []prompb.Sample{{Value: 1, Timestamp: 5}}},
			{Labels: []prompb.Label{{Name: "__name__", Value: "c"}}},
		},
		Metadata: []prompb.MetricMetadata{{MetricFamilyName: "a"}},
	}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// requestV2 has two series and three samples.
func requestV2(t *testing.T) []byte {
	t.Helper()
	raw, err := (&writev2.Request{
		Symbols: []string{"", "__name__", "a", "b"},
		Timeseries: []writev2.TimeSeries{
			{LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Value: 1, Timestamp: 5}}},
			{LabelsRefs: []uint32{1, 3}, Samples: []writev2.Sample{{Value: 1, Timestamp: 5}, {Value: 1, Timestamp: 6}}},
		},
	}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func post(s *sink, contentType string, body []byte) *httptest.ResponseRecorder {
	request := httptest.NewRequest(http.MethodPost, "/api/v1/write", bytes.NewReader(body))
	request.Header.Set("Content-Type", contentType)
	response := httptest.NewRecorder()
	s.ServeHTTP(response, request)
	return response
}

func TestSinkCounts(t *testing.T) {
	v1, v2 := requestV1(t), requestV2(t)
	s := newSink(options{accepted: []string{"1.0", "2.0"}})
	for range 2 {
		if got := post(s, typeV1, snappy.Encode(nil, v1)); got.Code != http.StatusNoContent {
			t.Fatalf("1.0: %d %s", got.Code, got.Body)
		}
	}
	got := post(s, typeV2, snappy.Encode(nil, v2))
	if written := got.Header().Get("X-Prometheus-Remote-Write-Samples-Written"); got.Code != http.StatusNoContent || written != "3" {
		t.Fatalf("2.0: %d %s, written %q", got.Code, got.Body, written)
	}
	want := Totals{
		Series: 8, Samples: 7, Requests: 3, RawBytes: int64(2*len(v1) + len(v2)),
		CompressedBytes: int64(2*len(snappy.Encode(nil, v1)) + len(snappy.Encode(nil, v2))),
	}
	response := httptest.NewRecorder()
	s.ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/totals", nil))
	var totals Totals
	if err := json.Unmarshal(response.Body.Bytes(), &totals); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, totals); diff != "" {
		t.Errorf("totals (-want +got):\n%s", diff)
	}
}

func TestSinkRefuses(t *testing.T) {
	v1, v2 := snappy.Encode(nil, requestV1(t)), snappy.Encode(nil, requestV2(t))
	for _, test := range []struct {
		name, accepted, contentType string
		body                        []byte
		want                        int
	}{
		{"2.0 at a receiver of 1.0", "1.0", typeV2, v2, http.StatusUnsupportedMediaType},
		{"1.0 at a receiver of 2.0", "2.0", typeV1, v1, http.StatusUnsupportedMediaType},
		{"another message", "1.0", typeV1 + ";proto=other", v1, http.StatusUnsupportedMediaType},
		{"JSON", "1.0", "application/json", v1, http.StatusUnsupportedMediaType},
		{"not compressed", "1.0", typeV1, requestV1(t), http.StatusBadRequest},
		{"cut", "1.0", typeV1, snappy.Encode(nil, requestV1(t)[:9]), http.StatusBadRequest},
	} {
		s := newSink(options{accepted: []string{test.accepted}})
		if got := post(s, test.contentType, test.body); got.Code != test.want {
			t.Errorf("%s: %d, want %d", test.name, got.Code, test.want)
		}
		if got := s.snapshot(); got != (Totals{}) {
			t.Errorf("%s is counted: %+v", test.name, got)
		}
	}
	response := httptest.NewRecorder()
	newSink(options{accepted: []string{"1.0"}}).ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/api/v1/write", nil))
	if response.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", response.Code)
	}
}

func TestSinkDelays(t *testing.T) {
	body := snappy.Encode(nil, requestV1(t))
	synctest.Test(t, func(t *testing.T) {
		s, before := newSink(options{delay: 200 * time.Millisecond, accepted: []string{"1.0"}}), time.Now()
		post(s, typeV1, body)
		if took := time.Since(before); took != 200*time.Millisecond {
			t.Errorf("a request took %v of the test's time, want 200ms", took)
		}
	})
}

// TestSinkOutages counts nothing of what an outage refuses.
func TestSinkOutages(t *testing.T) {
	body := snappy.Encode(nil, requestV1(t))
	synctest.Test(t, func(t *testing.T) {
		s := newSink(options{downEvery: 2, downFor: 3 * time.Second, accepted: []string{"1.0"}})
		var got []int
		for range 5 {
			got = append(got, post(s, typeV1, body).Code, post(s, typeV1, body).Code)
			time.Sleep(time.Second)
		}
		want := []int{204, 204, 503, 503, 503, 503, 204, 204, 503, 503}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
		if n := s.snapshot().Requests; n != 4 {
			t.Errorf("%d requests are counted, want 4", n)
		}
	})
}
