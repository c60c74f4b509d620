// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"labelstream/config"
)

// TestCheck wants one sample in each version, and what came of each.
func TestCheck(t *testing.T) {
	var got []version
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		v, samples, decodeErr := decodeSamples(req.Header, body)
		got = append(got, v)
		if err != nil || decodeErr != nil || len(samples) != 1 || samples[0].Name != CheckMetric || time.Since(time.UnixMilli(samples[0].At)).Abs() > time.Minute {
			t.Errorf("%v, %v, %+v", err, decodeErr, samples)
		}
		w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
		if v == v2 {
			w.WriteHeader(http.StatusUnsupportedMediaType)
		}
	}))
	defer server.Close()
	destination, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	answers, err := Check(t.Context(), &config.Delivery{Destination: config.URL{URL: destination}, SendTimeout: time.Minute}, "labelstream/dev")
	if err != nil || answers[0].Err == nil {
		t.Fatalf("%v, %+v", err, answers)
	}
	want := []CheckAnswer{{Protocol: config.Protocol2, Err: cmpopts.AnyError, Ahead: -time.Hour}, {Protocol: config.Protocol1, Ahead: -time.Hour}}
	near := cmp.Comparer(func(a, b time.Duration) bool { return (a - b).Abs() < time.Minute })
	if diff := cmp.Diff(want, answers, near, cmpopts.EquateErrors()); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]version{v2, v1}, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}
