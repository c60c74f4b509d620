package webhook

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of what is asked. No label has a value that a caller can make up.
type metrics struct {
	reviews  *prometheus.CounterVec
	refused  *prometheus.CounterVec
	duration prometheus.Histogram
}

func newMetrics(registerer prometheus.Registerer, inFlight, held *atomic.Int64) *metrics {
	m := &metrics{
		reviews: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "labelstream_webhook_reviews_total",
			Help: "Admission reviews that were allowed, by kind (other where it was not chosen), operation, and what became of them.",
		}, []string{"kind", "operation", "outcome"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "labelstream_webhook_bad_requests_total",
			Help: "Requests to the webhook that were no admission reviews, by status code.",
		}, []string{"code"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "labelstream_webhook_duration_seconds",
			Help:    "Time from a review's headers to its answer.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5},
		}),
	}
	registerer.MustRegister(m.reviews, m.refused, m.duration,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "labelstream_webhook_in_flight",
			Help: "Admission reviews that are being read or answered.",
		}, valueOf(inFlight)),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "labelstream_webhook_held_bytes",
			Help: "Memory that admission reviews take while they are read, beside their first 8 KiB.",
		}, valueOf(held)))
	return m
}

func valueOf(n *atomic.Int64) func() float64 {
	return func() float64 { return float64(n.Load()) }
}

// lastCounter is the counter of the last review: most reviews are as the one before
// them.
type lastCounter struct {
	kind, operation string
	outcome         Outcome
	counter         prometheus.Counter
}

// answered counts a review that was answered.
func (m *metrics) answered(last *lastCounter, kind string, operation []byte, outcome Outcome, took time.Duration) {
	if kind == "" {
		kind = "other"
	}
	if label := operationLabel(operation); last.kind != kind || last.operation != label || last.outcome != outcome {
		*last = lastCounter{kind, label, outcome, m.reviews.WithLabelValues(kind, label, string(outcome))}
	}
	last.counter.Inc()
	m.duration.Observe(took.Seconds())
}

func operationLabel(operation []byte) string {
	switch string(operation) {
	case "CREATE":
		return "CREATE"
	case "UPDATE":
		return "UPDATE"
	case "DELETE":
		return "DELETE"
	case "CONNECT":
		return "CONNECT"
	}
	return "other"
}
