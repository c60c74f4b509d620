// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// counters are the metrics that are counted as things happen.
type counters struct{ records, failures *prometheus.CounterVec }

func newCounters(registerer prometheus.Registerer) *counters {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		registerer.MustRegister(v)
		return v
	}
	return &counters{
		records: counter("labelstream_records_total",
			"Records handed over for sending, by what showed the object.", "source", "resource"),
		failures: counter("labelstream_api_request_failures_total",
			"Requests to the API server that failed; each is tried again.", "resource", "verb", "reason"),
	}
}

// failed counts a failed request. The reason is the server's, which has a few of
// them, or of our own.
func (c *counters) failed(resource, verb string, err error) {
	reason := string(apierrors.ReasonForError(err))
	network, ok := errors.AsType[net.Error](err)
	switch {
	case reason != "":
	case errors.Is(err, context.DeadlineExceeded), ok && network.Timeout():
		reason = "Timeout"
	default:
		reason = "Connection"
	}
	c.failures.WithLabelValues(resource, verb, reason).Inc()
}

// column is a metric that is read from the status of each kind.
type column struct {
	desc *prometheus.Desc
	typ  prometheus.ValueType
	// shown tells whether there is a value.
	shown func(*Options, *Status) bool
	value func(*Status) float64
}

func newDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var columns = func() []column {
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	always := func(*Options, *Status) bool { return true }
	synced := func(_ *Options, s *Status) bool { return s.Synced }
	watched := func(o *Options, _ *Status) bool { return o.watches() }
	kept := func(o *Options, _ *Status) bool { return !o.Once }
	of := func(name, help string) *prometheus.Desc { return newDesc(name, help, "resource") }
	dropped := func(reason string) *prometheus.Desc {
		return prometheus.NewDesc("labelstream_values_dropped_total",
			"Labels and annotations left out: empty, with a character that is unsafe in HTML, with too long a name, or too many.",
			[]string{"resource"}, prometheus.Labels{"reason": reason})
	}
	return []column{
		{of("labelstream_synced", "1 where all objects have been handed over once."),
			gauge, always, func(s *Status) float64 { return boolToFloat(s.Synced) }},
		{of("labelstream_last_sync_timestamp_seconds", "When what was handed over was last known to be complete, by a list or by a watch, in Unix time."),
			gauge, synced, func(s *Status) float64 { return unixSeconds(s.Current) }},
		{of("labelstream_last_list_timestamp_seconds", "When a list was last complete, in Unix time."),
			gauge, synced, func(s *Status) float64 { return unixSeconds(s.Listed) }},
		{of("labelstream_watching", "1 while a watch is open."),
			gauge, watched, func(s *Status) float64 { return boolToFloat(s.Watching) }},
		{of("labelstream_watch_restarts_total", "Watches opened after the first; servers end each after some minutes."),
			counter, watched, func(s *Status) float64 { return float64(max(0, s.Watches-1)) }},
		{of("labelstream_objects_seen_total", "Objects that lists and watches have shown, sent or not."),
			counter, always, func(s *Status) float64 { return float64(s.Seen) }},
		{of("labelstream_objects_vanished_total", "Objects that a list did not show any more, and whose end nothing else had shown."),
			counter, kept, func(s *Status) float64 { return float64(s.Vanished) }},
		{dropped("empty"), counter, always, func(s *Status) float64 { return float64(s.Drops.Empty) }},
		{dropped("unsafe"), counter, always, func(s *Status) float64 { return float64(s.Drops.Unsafe) }},
		{dropped("long_name"), counter, always, func(s *Status) float64 { return float64(s.Drops.LongName) }},
		{dropped("too_many"), counter, always, func(s *Status) float64 { return float64(s.Drops.TooMany) }},
		{of("labelstream_values_truncated_total", "Values of labels and annotations that were cut; their beginning was kept."),
			counter, always, func(s *Status) float64 { return float64(s.Drops.Truncated) }},
		{of("labelstream_ledger_entries", "Objects in the ledger: what was last sent of them is known."),
			gauge, kept, func(s *Status) float64 { return float64(s.LedgerEntries) }},
		{of("labelstream_ledger_bytes", "Memory that the ledger takes, outside the Go heap."),
			gauge, kept, func(s *Status) float64 { return float64(s.LedgerBytes) }},
	}
}()

var intervalDesc = newDesc("labelstream_resync_interval_seconds", "How often all is listed and sent again; none where it is not.")

// collector tells at each scrape how far the kinds are.
type collector struct{ in *Informers }

// Describe implements prometheus.Collector.
func (c collector) Describe(all chan<- *prometheus.Desc) {
	all <- intervalDesc
	for _, column := range columns {
		all <- column.desc
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(metrics chan<- prometheus.Metric) {
	options := &c.in.options
	if !options.Once && options.ResyncInterval > 0 {
		metrics <- prometheus.MustNewConstMetric(intervalDesc, prometheus.GaugeValue, options.ResyncInterval.Seconds())
	}
	for _, s := range ByKind(c.in.Status()) {
		for _, column := range columns {
			if column.shown(options, &s) {
				metrics <- prometheus.MustNewConstMetric(column.desc, column.typ, column.value(&s), s.Resource)
			}
		}
	}
}

func boolToFloat(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func unixSeconds(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }
