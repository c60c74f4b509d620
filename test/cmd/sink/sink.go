// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/golang/snappy"
	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of remote_write's messages. A sample has the same number in the
// time series of both.
const (
	seriesV1 = 1 // prometheus.WriteRequest.timeseries
	seriesV2 = 5 // io.prometheus.write.v2.Request.timeseries
	samples  = 2 // TimeSeries.samples
)

var seriesFields = map[string]protowire.Number{
	"application/x-protobuf": seriesV1,
	"application/x-protobuf;proto=io.prometheus.write.v2.Request": seriesV2,
}

// Totals is what arrived, of requests that were answered 204 only.
type Totals struct{ Series, Samples int64 }

// sink is a remote_write receiver that keeps nothing but totals.
type sink struct {
	// delay is how long each request takes.
	delay time.Duration
	// downEvery requests that were accepted are followed by an outage of downFor,
	// in which requests are answered 503; 0 means none.
	downEvery int64
	downFor   time.Duration

	mu       sync.Mutex
	totals   Totals
	requests int64
	// upAgain is when the last outage ends.
	upAgain time.Time
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = json.NewEncoder(w).Encode(s.totals)
		return
	}
	field, ok := seriesFields[r.Header.Get("Content-Type")]
	if !ok {
		http.Error(w, "not a write request", http.StatusUnsupportedMediaType)
		return
	}
	got, err := read(r, field)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	// A sender that has left meanwhile has its request counted, as by any receiver.
	time.Sleep(s.delay)
	if !s.add(got) {
		http.Error(w, "an outage", http.StatusServiceUnavailable)
		return
	}
	if field == seriesV2 {
		w.Header().Set("X-Prometheus-Remote-Write-Samples-Written", strconv.FormatInt(got.Samples, 10))
		w.Header().Set("X-Prometheus-Remote-Write-Histograms-Written", "0")
		w.Header().Set("X-Prometheus-Remote-Write-Exemplars-Written", "0")
	}
	w.WriteHeader(http.StatusNoContent)
}

// add counts a request, unless there is an outage, and begins one when it is time
// to.
func (s *sink) add(got Totals) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.upAgain) {
		return false
	}
	s.totals.Series += got.Series
	s.totals.Samples += got.Samples
	s.requests++
	if s.downEvery > 0 && s.requests%s.downEvery == 0 {
		s.upAgain = time.Now().Add(s.downFor)
	}
	return true
}

// read counts the series of a request, and the samples in them, without decoding
// either.
func read(r *http.Request, seriesField protowire.Number) (got Totals, err error) {
	compressed, err := io.ReadAll(r.Body)
	if err != nil {
		return got, fmt.Errorf("read a write request: %w", err)
	}
	raw, err := snappy.Decode(nil, compressed)
	if err != nil {
		return got, fmt.Errorf("decompress a write request: %w", err)
	}
	err = walk(raw, seriesField, func(one []byte) error {
		got.Series++
		return walk(one, samples, func([]byte) error {
			got.Samples++
			return nil
		})
	})
	return got, err
}

// walk calls found with each submessage of a message that has this number.
func walk(message []byte, number protowire.Number, found func([]byte) error) error {
	for len(message) > 0 {
		got, wire, n := protowire.ConsumeTag(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		n = protowire.ConsumeFieldValue(got, wire, message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if got == number && wire == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message)
			if err := found(value); err != nil {
				return err
			}
		}
		message = message[n:]
	}
	return nil
}
