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
			Help: "Records that did not reach the destination, by reason: refused by it as bad_request (400), too_large (413), unprocessable (422), not_written (2.0) or undecided (with others), too_old after failures, or unsent at shutdown.",
		}, []string{"reason"}),
		batches: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "labelstream_batches_total",
			Help: "Batches by how they ended: accepted, conflict (the destination has newer samples), partial (some records were refused), refused, too_old, or shutdown.",
		}, []string{"outcome"}),
		sendSeconds: auto.NewHistogram(prometheus.HistogramOpts{
			Name:    "labelstream_send_duration_seconds",
			Help:    "How long a request to the destination took, whatever came of it.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 14),
		}),
		lastSuccess: auto.NewGauge(prometheus.GaugeOpts{
			Name: "labelstream_last_success_timestamp_seconds",
			Help: "When the destination last accepted samples, in Unix time.",
		}),
	}
	for _, f := range fates {
		m.batches.WithLabelValues(string(f))
	}
	for _, reason := range reasons {
		m.dropped.WithLabelValues(reason)
	}
	registerState(auto, e, capacity)
	return m
}

// registerState registers those that are read from the emitter when asked for.
func registerState(auto promauto.Factory, e *Emitter, capacity int) {
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "labelstream_queue_length",
		Help: "Records that wait to be sent or are being sent.",
	}, func() float64 { return float64(e.queued.Load()) })
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "labelstream_queue_capacity",
		Help: "Records that the queue holds at most; large ones fill it sooner.",
	}, func() float64 { return float64(capacity) })
	auto.NewCounterFunc(prometheus.CounterOpts{
		Name: "labelstream_queue_blocked_seconds_total",
		Help: "Time in which lists and watches waited for room in the queue.",
	}, func() float64 { return e.blocked.time().Seconds() })
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "labelstream_oldest_unsent_seconds",
		Help: "Age of the oldest record in the queue, zero where it is empty.",
	}, func() float64 { return e.age().Seconds() })
	for v, name := range map[version]string{v1: "1.0", v2: "2.0"} {
		auto.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "labelstream_protocol",
			Help:        "1 for the version of remote_write in use; none while it is being found out.",
			ConstLabels: prometheus.Labels{"version": name},
		}, func() float64 {
			if e.protocol.inUse() == v {
				return 1
			}
			return 0
		})
	}
}

// accepted counts samples that the destination has.
func (m *metrics) accepted(samples int, now time.Time) {
	m.samplesSent.Add(float64(samples))
	m.lastSuccess.Set(float64(now.UnixMilli()) / 1000)
}
