package emitter

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are those of delivery.
type metrics struct {
	samplesSent prometheus.Counter
	dropped     *prometheus.CounterVec
	batches     *prometheus.CounterVec
	sendSeconds prometheus.Histogram
	lastSuccess prometheus.Gauge
}

// newMetrics registers them. It panics where reg has them already, as two
// emitters that share a registry would count into each other.
func newMetrics(reg prometheus.Registerer, e *Emitter, capacity int) *metrics {
	auto := promauto.With(reg)
	m := &metrics{
		samplesSent: auto.NewCounter(prometheus.CounterOpts{
			Name: "labelstream_samples_sent_total",
			Help: "Samples that the destination accepted.",
		}),
		dropped: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "labelstream_records_dropped_total",
			Help: "Records that did not reach the destination, by reason: refused by it, too_old to be sent after failures, or unsent at shutdown.",
		}, []string{"reason"}),
		batches: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "labelstream_batches_total",
			Help: "Batches by how they ended: accepted, conflict (the destination has newer samples), refused, too_old, or shutdown.",
		}, []string{"outcome"}),
		sendSeconds: auto.NewHistogram(prometheus.HistogramOpts{
			Name:    "labelstream_send_duration_seconds",
			Help:    "How long a request to the destination took, whatever came of it.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 14),
		}),
		lastSuccess: auto.NewGauge(prometheus.GaugeOpts{
			Name: "labelstream_last_success_timestamp_seconds",
			Help: "When the destination last accepted a batch, in Unix time.",
		}),
	}
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "labelstream_queue_length",
		Help: "Records that wait to be sent or are being sent.",
	}, func() float64 { return float64(e.queued.Load()) })
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "labelstream_queue_capacity",
		Help: "Records that the queue holds at most; large ones fill it sooner.",
	}, func() float64 { return float64(capacity) })
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "labelstream_oldest_unsent_seconds",
		Help: "Age of the oldest record in the queue, zero where it is empty.",
	}, func() float64 { return e.age().Seconds() })
	for _, f := range []fate{fateAccepted, fateConflict, fateRefused, fateTooOld, fateShutdown} {
		m.batches.WithLabelValues(string(f))
		if f.outcome() != Accepted {
			m.dropped.WithLabelValues(string(f))
		}
	}
	return m
}

// settled counts a batch that has its fate.
func (m *metrics) settled(b *batch, f fate, now time.Time) {
	m.batches.WithLabelValues(string(f)).Inc()
	if f.outcome() != Accepted {
		m.dropped.WithLabelValues(string(f)).Add(float64(len(b.items)))
		return
	}
	m.samplesSent.Add(float64(b.series()))
	m.lastSuccess.Set(float64(now.UnixMilli()) / 1000)
}
