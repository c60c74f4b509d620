// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func started(t *testing.T, opts Options) *Server {
	t.Helper()
	// The first start on a machine builds or downloads the binary.
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	s, err := Start(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// write sends a sample as remote_write 1.0, and returns the status.
func write(t *testing.T, s *Server, at time.Time) int {
	t.Helper()
	series := prompb.TimeSeries{
		Labels:  []prompb.Label{{Name: "__name__", Value: "pod_labels"}, {Name: "pod", Value: "web-1"}},
		Samples: []prompb.Sample{{Timestamp: at.UnixMilli(), Value: 1}},
	}
	message, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{series}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.WriteURL(), bytes.NewReader(snappy.Encode(nil, message)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/x-protobuf"}, "Content-Encoding": {"snappy"}}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// TestServer shows that a server tells what it has refused: other tests rely on its
// silence.
func TestServer(t *testing.T) {
	s := started(t, Options{})
	now := time.Now()
	for i, at := range []time.Time{now, now.Add(-time.Second)} {
		if code, want := write(t, s, at), []int{http.StatusNoContent, http.StatusBadRequest}[i]; code != want {
			t.Errorf("sample %d is answered %d, want %d", i, code, want)
		}
		complaints, err := s.Complaints()
		if err != nil || len(complaints) != i {
			t.Errorf("complaints after sample %d: %q, %v", i, complaints, err)
		}
	}
	families, err := s.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{
		"prometheus_tsdb_head_samples_appended_total": 1, "prometheus_tsdb_out_of_order_samples_total": 1, "prometheus_tsdb_head_series": 1,
	} {
		if got := families.Sum(name, nil); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

func TestDebian(t *testing.T) {
	families, err := started(t, Options{Release: Debian}).Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if build := fmt.Sprint(families["prometheus_build_info"]); !strings.Contains(build, `value:"`+DebianVersion+".") {
		t.Errorf("it is %s, want %s", build, DebianVersion)
	}
}
