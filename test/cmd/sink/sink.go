package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/golang/snappy"
	"google.golang.org/protobuf/encoding/protowire"
)

// Totals is what arrived, of requests that were answered 204 only.
type Totals struct {
	Series          int64 `json:"series"`
	Samples         int64 `json:"samples"`
	Requests        int64 `json:"requests"`
	RawBytes        int64 `json:"rawBytes"`
	CompressedBytes int64 `json:"compressedBytes"`
}

// options say how a sink behaves.
type options struct {
	// delay is how long each request takes.
	delay time.Duration
	// downEvery requests that were accepted are followed by an outage of downFor,
	// in which requests are answered 503; 0 means none.
	downEvery int64
	downFor   time.Duration
	// accepted are the versions of remote_write, "1.0" and "2.0".
	accepted []string
}

// sink is a remote_write receiver that keeps nothing but totals.
type sink struct {
	options
	buffers sync.Pool

	mu     sync.Mutex
	totals Totals
	// upAgain is when the last outage ends.
	upAgain time.Time
}

func newSink(o options) *sink {
	return &sink{options: o, buffers: sync.Pool{New: func() any { return new(buffer) }}}
}

// buffer is what one request needs, kept for the next.
type buffer struct {
	compressed bytes.Buffer
	raw        []byte
}

func (s *sink) snapshot() Totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.totals
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && r.URL.Path == "/totals" {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.snapshot())
		return
	}
	if r.Method != http.MethodPost {
		http.Error(w, "POST a write request, or GET /totals", http.StatusMethodNotAllowed)
		return
	}
	s.receive(w, r)
}

// receive counts a write request and answers it after the delay.
func (s *sink) receive(w http.ResponseWriter, r *http.Request) {
	version, field, err := protocol(r.Header.Get("Content-Type"))
	if err != nil || !slices.Contains(s.accepted, version) {
		http.Error(w, fmt.Sprintf("accepted are versions %v of remote_write, not %q", s.accepted, r.Header.Get("Content-Type")), http.StatusUnsupportedMediaType)
		return
	}
	got, err := s.read(r, field)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if s.delay > 0 {
		select {
		case <-r.Context().Done():
			return
		case <-time.After(s.delay):
		}
	}
	if !s.add(got) {
		http.Error(w, "an outage", http.StatusServiceUnavailable)
		return
	}
	if version == "2.0" {
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
	s.totals.Requests += got.Requests
	s.totals.RawBytes += got.RawBytes
	s.totals.CompressedBytes += got.CompressedBytes
	if s.downEvery > 0 && s.totals.Requests%s.downEvery == 0 {
		s.upAgain = time.Now().Add(s.downFor)
	}
	return true
}

// protocol tells the version of remote_write from the content type, and where
// its series are.
func protocol(contentType string) (version string, series protowire.Number, err error) {
	mediaType, parameters, err := mime.ParseMediaType(contentType)
	if err != nil || mediaType != "application/x-protobuf" {
		return "", 0, fmt.Errorf("content type %q is not that of remote_write", contentType)
	}
	switch parameters["proto"] {
	case "", "prometheus.WriteRequest":
		return "1.0", seriesV1, nil
	case "io.prometheus.write.v2.Request":
		return "2.0", seriesV2, nil
	}
	return "", 0, fmt.Errorf("message %q is not one of remote_write", parameters["proto"])
}

// read counts what a request holds.
func (s *sink) read(r *http.Request, field protowire.Number) (Totals, error) {
	b := s.buffers.Get().(*buffer)
	defer s.buffers.Put(b)
	b.compressed.Reset()
	if _, err := b.compressed.ReadFrom(r.Body); err != nil {
		return Totals{}, fmt.Errorf("read a write request: %w", err)
	}
	raw, err := snappy.Decode(b.raw[:cap(b.raw)], b.compressed.Bytes())
	if err != nil {
		return Totals{}, fmt.Errorf("decompress a write request: %w", err)
	}
	b.raw = raw
	series, inAll, err := count(raw, field)
	if err != nil {
		return Totals{}, err
	}
	return Totals{int64(series), int64(inAll), 1, int64(len(raw)), int64(b.compressed.Len())}, nil
}
