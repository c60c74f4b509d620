// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of what is asked. No label has a value that a caller can make up.
type metrics struct {
	reviews  *prometheus.CounterVec
	rejected *prometheus.CounterVec
	duration prometheus.Histogram
}

func newMetrics(registerer prometheus.Registerer, inFlight, buffered *atomic.Int64) *metrics {
	m := &metrics{
		reviews: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "labelstream_webhook_reviews_total",
			Help: "Admission reviews, all of which were allowed, by resource (other where it was not chosen or nothing was read of the review), operation and outcome.",
		}, []string{"resource", "operation", "outcome"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "labelstream_webhook_rejected_requests_total",
			Help: "Requests to the webhook that were not read as admission reviews, by status code.",
		}, []string{"code"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "labelstream_webhook_duration_seconds",
			Help:    "Time from a review's headers to its answer.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5},
		}),
	}
	registerer.MustRegister(m.reviews, m.rejected, m.duration,
		gauge("labelstream_webhook_in_flight", "Admission reviews that are being read or answered.", inFlight),
		gauge("labelstream_webhook_buffered_bytes", "Memory set aside for admission reviews that are being read or answered.", buffered))
	return m
}

func gauge(name, help string, value *atomic.Int64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value.Load()) })
}

// answered counts a review that was answered.
func (m *metrics) answered(kind, operation string, outcome Outcome, took time.Duration) {
	if kind == "" {
		kind = "other"
	}
	switch operation {
	case "CREATE", "UPDATE", "DELETE", "CONNECT":
	default:
		operation = "other"
	}
	m.reviews.WithLabelValues(kind, operation, string(outcome)).Inc()
	m.duration.Observe(took.Seconds())
}
