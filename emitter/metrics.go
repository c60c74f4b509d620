// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// batchResult is how a batch ended.
type batchResult string

const (
	batchAccepted batchResult = "accepted"
	// batchConflict is accepted too: the receiver has newer samples.
	batchConflict batchResult = "conflict"
	// batchPartial is a batch with some records refused.
	batchPartial batchResult = "partial"
	batchRefused batchResult = "refused"
)

// stats counts what becomes of records.
type stats struct {
	unsent atomic.Int64
	// lastSuccess is in milliseconds of Unix time, zero before.
	lastSuccess atomic.Int64

	mu     sync.Mutex
	totals map[string]Totals

	samplesSent      prometheus.Counter
	recordsRefused   *prometheus.CounterVec
	deletionsDropped *prometheus.CounterVec
	batches          *prometheus.CounterVec
	requestSeconds   prometheus.Histogram
}

// newStats registers the metrics. It panics where reg has them already, as two
// emitters that share a registry would count into each other.
func newStats(reg prometheus.Registerer, e *Emitter) *stats {
	auto := promauto.With(reg)
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return auto.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	s := &stats{
		totals: make(map[string]Totals),
		samplesSent: counters("labelstream_samples_sent_total",
			"Samples that the destination accepted.").WithLabelValues(),
		recordsRefused: counters("labelstream_records_refused_total",
			"Records that the destination refused, by resource (empty where a batch of several had some refused) and reason: bad_request (400), too_large (413), unprocessable (422), not_written (2.0), server_error (5xx, with others accepted), or undecided (refused with others).",
			"resource", "reason"),
		deletionsDropped: counters("labelstream_deletions_dropped_total",
			"Last records of deleted objects that waited for more than five minutes and were not sent, by resource.", "resource"),
		batches: counters("labelstream_batches_total",
			"Batches by result: accepted, conflict (the destination has newer samples), partial (some records were refused), or refused.", "result"),
		requestSeconds: auto.NewHistogram(prometheus.HistogramOpts{
			Name:    "labelstream_send_duration_seconds",
			Help:    "How long a request to the destination took, whatever came of it.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 14),
		}),
	}
	for _, result := range []batchResult{batchAccepted, batchConflict, batchPartial, batchRefused} {
		s.batches.WithLabelValues(string(result))
	}
	s.registerState(auto, e)
	return s
}

// registerState registers those that are read when asked for.
func (s *stats) registerState(auto promauto.Factory, e *Emitter) {
	gauge := func(name, help string, labels prometheus.Labels, read func() float64) {
		auto.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, read)
	}
	gauge("labelstream_queue_length", "Records that wait to be sent or are being sent.", nil,
		func() float64 { return float64(s.unsent.Load()) })
	gauge("labelstream_queue_capacity", "Records that the queue holds at most; large ones fill it sooner.", nil,
		func() float64 { return float64(e.capacity) })
	gauge("labelstream_oldest_unsent_age_seconds", "Age of the oldest record in the queue, zero where it is empty.", nil,
		func() float64 { return e.oldest().Seconds() })
	gauge("labelstream_last_success_timestamp_seconds", "When the destination last accepted samples, in Unix time; 0 before.", nil,
		func() float64 { return float64(s.lastSuccess.Load()) / 1000 })
	for v, name := range versionNames {
		gauge("labelstream_senders", "Senders by the version of remote_write in use; unknown while it is being found out.",
			prometheus.Labels{"version": name}, func() float64 { return float64(e.sendersUsing(version(v))) })
	}
}

// accept counts records that were accepted but for so many that were left out,
// and the samples that the destination has.
func (s *stats) accept(p *part, leftOut, samples int) {
	s.unsent.Add(-int64(len(p.entries)))
	resources, blamed := p.byResource(), ""
	if len(resources) == 1 {
		for blamed = range resources {
			resources[blamed] -= leftOut
		}
	}
	for resource, records := range resources {
		s.add(resource, Totals{Accepted: int64(records)})
	}
	if leftOut > 0 {
		s.addRefused(blamed, reasonNotWritten, leftOut)
	}
	s.samplesSent.Add(float64(samples))
	s.lastSuccess.Store(time.Now().UnixMilli())
}

// refuse counts records that were refused.
func (s *stats) refuse(p *part, reason string) {
	s.unsent.Add(-int64(len(p.entries)))
	for resource, records := range p.byResource() {
		s.addRefused(resource, reason, records)
	}
}

func (s *stats) addRefused(resource, reason string, records int) {
	s.add(resource, Totals{Refused: int64(records)})
	s.recordsRefused.WithLabelValues(resource, reason).Add(float64(records))
}

func (s *stats) add(resource string, n Totals) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.totals[resource]
	s.totals[resource] = Totals{Accepted: t.Accepted + n.Accepted, Refused: t.Refused + n.Refused}
}

func (s *stats) snapshot() map[string]Totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.totals)
}
