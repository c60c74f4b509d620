// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"labelstream/config"
)

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(func(n int, r request, req *http.Request) (*http.Response, error) {
			if n == 3 {
				return hang(n, r, req)
			}
			return codes(200, 409, 422)(n, r, req)
		})
		h := newHarness(t, d)
		h.put(newRecord(1, "a", "b"), newRecord(2, "c"))
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		h.start(ctx)
		h.put(newRecord(3, "d"), newRecord(4, "e"))
		synctest.Wait()
		h.put(newRecord(5, "f"))
		time.Sleep(11 * time.Second) // the batch was due
		h.put(newRecord(6, "g"), newRecord(7, "h"))
		time.Sleep(3 * time.Second)
		h.put(newRecord(8, "i"))
		h.expectMetrics(fmt.Sprintf(`
			# HELP labelstream_batches_total Batches by result: accepted, conflict (the destination has newer samples), partial (some records were refused), or refused.
			# TYPE labelstream_batches_total counter
			labelstream_batches_total{result="accepted"} 1
			labelstream_batches_total{result="conflict"} 1
			labelstream_batches_total{result="partial"} 0
			labelstream_batches_total{result="refused"} 1
			# HELP labelstream_last_success_timestamp_seconds When the destination last accepted samples, in Unix time; 0 before.
			# TYPE labelstream_last_success_timestamp_seconds gauge
			labelstream_last_success_timestamp_seconds %d
			# HELP labelstream_oldest_unsent_age_seconds Age of the oldest record in the queue, zero where it is empty.
			# TYPE labelstream_oldest_unsent_age_seconds gauge
			labelstream_oldest_unsent_age_seconds 3
			# HELP labelstream_queue_capacity Records that the queue holds at most; large ones fill it sooner.
			# TYPE labelstream_queue_capacity gauge
			labelstream_queue_capacity 8
			# HELP labelstream_queue_length Records that wait to be sent or are being sent.
			# TYPE labelstream_queue_length gauge
			labelstream_queue_length 3
			# HELP labelstream_records_refused_total Records that the destination refused, by resource (empty where a batch of several had some refused) and reason: bad_request (400), too_large (413), unprocessable (422), not_written (2.0), server_error (5xx, with others accepted), or undecided (refused with others).
			# TYPE labelstream_records_refused_total counter
			labelstream_records_refused_total{reason="unprocessable",resource="pods"} 1
			# HELP labelstream_samples_sent_total Samples that the destination accepted.
			# TYPE labelstream_samples_sent_total counter
			labelstream_samples_sent_total 5
		`, start.Unix()), "labelstream_samples_sent_total", "labelstream_records_refused_total", "labelstream_batches_total",
			"labelstream_last_success_timestamp_seconds", "labelstream_queue_length", "labelstream_queue_capacity", "labelstream_oldest_unsent_age_seconds")
		expect(t, "totals", h.Totals(), map[string]Totals{"pods": {Accepted: 4, Refused: 1}})
		problems, err := testutil.GatherAndLint(h.reg)
		expect(t, "promlint", fmt.Sprint(problems, err), "[] <nil>")
		cancel()
		<-h.done
	})
}

func TestRequest(t *testing.T) {
	var headers []http.Header
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers = append(headers, r.Header)
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set(samplesWritten, "1")
	}))
	defer s.Close()
	want := http.Header{
		"Content-Type":                      {"application/x-protobuf"},
		"Content-Encoding":                  {"snappy"},
		"X-Prometheus-Remote-Write-Version": {"0.1.0"},
		"User-Agent":                        {"labelstream/test"},
		"Authorization":                     {"Basic dXNlcjpzZWNyZXQ="},
	}
	for _, protocol := range []config.Protocol{config.Protocol1, config.Protocol2} {
		headers = nil
		to := sendingTo(strings.Replace(s.URL, "http://", "http://user:secret@", 1), nil)
		newHarness(t, nil, to, speaking(protocol)).deliver(newRecord(1, "a"))
		headers[0].Del("Content-Length")
		expect(t, "headers of "+string(protocol), headers, []http.Header{want})
		want["Content-Type"] = []string{"application/x-protobuf;proto=io.prometheus.write.v2.Request"}
		want["X-Prometheus-Remote-Write-Version"] = []string{"2.0.0"}
	}
}
