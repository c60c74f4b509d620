// SPDX-License-Identifier: Apache-2.0

// Package receiver is a Prometheus remote_write receiver for tests. It reads
// requests of both versions of the protocol strictly, remembers every breach
// of the specification and every series, and fails on order.
package receiver

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxAge and maxAhead bound a sample's timestamp, as receivers with a short
	// out-of-order window do.
	maxAge   = time.Hour
	maxAhead = time.Minute
	// maxBody bounds a request, compressed and not.
	maxBody = 64 << 20
	// maxViolations is how many violations are kept; a sender that breaks the
	// rules breaks them in every series.
	maxViolations = 100
)

// Options chooses how a receiver works.
type Options struct {
	// Now is the clock that timestamps are held against, time.Now where nil.
	Now func() time.Time
}

// Receiver takes remote_write requests. Its methods may be called at any time
// from any goroutine.
type Receiver struct {
	now                         func() time.Time
	requests, accepted, samples atomic.Int64

	mu         sync.Mutex
	next       []Fault
	always     Fault
	series     map[string]*Series
	violations []error
	broken     int
}

// New returns a receiver that accepts everything that is valid.
func New(opts Options) *Receiver {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Receiver{now: opts.Now, series: make(map[string]*Series)}
}

// Request is what a fault can know of a request.
type Request struct {
	Series []Series

	number  int
	version string
}

// ServeHTTP reads a request, plays the fault that is due, and where that lets
// the request pass, stores its samples and answers 204.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	number, fault := r.begin()
	req, err := r.read(number, hr)
	if err != nil {
		r.violate(fmt.Errorf("request %d: %w", number, err))
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if fault != nil && fault(w, hr, req) {
		return
	}
	r.store(req)
	if req.version == "2.0" {
		samples := 0
		for _, s := range req.Series {
			samples += len(s.Samples)
		}
		w.Header().Set("X-Prometheus-Remote-Write-Samples-Written", strconv.Itoa(samples))
		w.Header().Set("X-Prometheus-Remote-Write-Histograms-Written", "0")
		w.Header().Set("X-Prometheus-Remote-Write-Exemplars-Written", "0")
	}
	w.WriteHeader(http.StatusNoContent)
}

// begin numbers a request and takes the fault that is due.
func (r *Receiver) begin() (int, Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fault := r.always
	if len(r.next) > 0 {
		fault, r.next = r.next[0], r.next[1:]
	}
	return int(r.requests.Add(1)), fault
}

// read decodes a request and notes what is wrong with it. An error means that
// it could not be decoded at all.
func (r *Receiver) read(number int, hr *http.Request) (*Request, error) {
	version, errs := checkHeaders(hr)
	for _, err := range errs {
		r.violate(fmt.Errorf("request %d: %w", number, err))
	}
	body, err := io.ReadAll(io.LimitReader(hr.Body, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	series, err := decode(version, body)
	if err != nil {
		return nil, err
	}
	return &Request{Series: series, number: number, version: version}, nil
}

func (r *Receiver) store(req *Request) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.accepted.Add(1)
	for _, s := range req.Series {
		for _, err := range checkSeries(s, now) {
			r.note(fmt.Errorf("request %d: series %s: %w", req.number, s, err))
		}
		r.samples.Add(int64(len(s.Samples)))
		r.add(req.number, s)
	}
}

// add appends the samples of a series to those that are known. A sample that
// is repeated is none: a sender may send a request again whose answer it has
// not seen.
func (r *Receiver) add(number int, s Series) {
	key := s.String()
	known, ok := r.series[key]
	if !ok {
		known = &Series{Labels: s.Labels}
		r.series[key] = known
	}
	for _, sample := range s.Samples {
		last := len(known.Samples) - 1
		switch {
		case last >= 0 && known.Samples[last] == sample:
			continue
		case last >= 0 && sample.Timestamp < known.Samples[last].Timestamp:
			r.note(fmt.Errorf("request %d: series %s: out of order: sample of %d after one of %d",
				number, s, sample.Timestamp, known.Samples[last].Timestamp))
		case last >= 0 && sample.Timestamp == known.Samples[last].Timestamp:
			r.note(fmt.Errorf("request %d: series %s: two values at %d", number, s, sample.Timestamp))
		}
		known.Samples = append(known.Samples, sample)
	}
}

func (r *Receiver) violate(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(err)
}

func (r *Receiver) note(err error) {
	r.broken++
	if len(r.violations) < maxViolations {
		r.violations = append(r.violations, err)
	}
}

// Requests is the number of requests that have begun, failed ones included.
func (r *Receiver) Requests() int { return int(r.requests.Load()) }

// Accepted is the number of requests whose samples were stored.
func (r *Receiver) Accepted() int { return int(r.accepted.Load()) }

// Samples is the number of samples stored or counted, repeated ones included.
func (r *Receiver) Samples() int { return int(r.samples.Load()) }

// Violations are the first breaches of the specification that were seen, in
// their order, and a last one that counts the rest if there are more.
func (r *Receiver) Violations() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	violations := slices.Clone(r.violations)
	if more := r.broken - len(r.violations); more > 0 {
		violations = append(violations, fmt.Errorf("and %d more", more))
	}
	return violations
}

// All returns every series with its samples, sorted by text.
func (r *Receiver) All() []Series {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []Series
	for _, key := range r.keys() {
		s := r.series[key]
		all = append(all, Series{Labels: s.Labels, Samples: slices.Clone(s.Samples)})
	}
	return all
}

// Series returns every series as text, `name{a="b"}`, sorted.
func (r *Receiver) Series() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys()
}

func (r *Receiver) keys() []string { return slices.Sorted(maps.Keys(r.series)) }
