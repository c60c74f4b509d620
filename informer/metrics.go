package informer

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"labelstream/record"
)

// vectors are the metrics that count what happens.
type vectors struct {
	records, seen, restarts, failures *prometheus.CounterVec
	empty, unsafe, truncated          prometheus.Counter
}

func newVectors(registerer prometheus.Registerer) *vectors {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		registerer.MustRegister(v)
		return v
	}
	dropped := counter("labelstream_values_dropped_total",
		"Values of labels and annotations left out: empty, or with a character that is unsafe in HTML.", "reason")
	return &vectors{
		records: counter("labelstream_records_total",
			"Records handed over for sending, by what showed the object.", "source", "resource"),
		seen: counter("labelstream_objects_seen_total",
			"Objects that lists and watches have shown, sent or not.", "resource"),
		restarts: counter("labelstream_watch_restarts_total",
			"Watches opened after the first; servers end each after some minutes.", "resource"),
		failures: counter("labelstream_api_request_failures_total",
			"Requests to the API server that failed; each is tried again.", "resource", "verb", "reason"),
		empty:  dropped.WithLabelValues("empty"),
		unsafe: dropped.WithLabelValues("unsafe"),
		truncated: counter("labelstream_values_truncated_total",
			"Values of labels and annotations of which only the beginning was kept.").WithLabelValues(),
	}
}

func (v *vectors) dropped(drops record.Drops) {
	v.empty.Add(float64(drops.Empty))
	v.unsafe.Add(float64(drops.Unsafe))
	v.truncated.Add(float64(drops.Truncated))
}

// metrics are those of one kind.
type metrics struct {
	// listed, changed and reviewed count the records of lists, of watches and of
	// reviews.
	listed            map[reason]prometheus.Counter
	changed, reviewed prometheus.Counter
	seen, restarts    prometheus.Counter
	failures          *prometheus.CounterVec
}

// forKind returns a kind's. All that there can be is there from the beginning.
func (v *vectors) forKind(resource string, options *Options) *metrics {
	records := func(source string) prometheus.Counter { return v.records.WithLabelValues(source, resource) }
	m := &metrics{
		listed:   map[reason]prometheus.Counter{reasonFirst: records("list")},
		seen:     v.seen.WithLabelValues(resource),
		failures: v.failures.MustCurryWith(prometheus.Labels{"resource": resource}),
	}
	if !options.Once {
		m.listed[reasonResync] = records("resync")
		m.listed[reasonRelist] = records("relist")
		m.listed[reasonRequested] = m.listed[reasonRelist]
	}
	if options.watches() {
		m.changed, m.restarts = records("watch"), v.restarts.WithLabelValues(resource)
	}
	if options.reviews() {
		m.reviewed = records("webhook")
	}
	return m
}

// failed counts a failed request. The reason is the server's, which has a few of
// them, or of our own.
func (m *metrics) failed(verb string, err error) {
	reason := string(apierrors.ReasonForError(err))
	network, ok := errors.AsType[net.Error](err)
	switch {
	case reason != "":
	case errors.Is(err, context.DeadlineExceeded), ok && network.Timeout():
		reason = "Timeout"
	default:
		reason = "Connection"
	}
	m.failures.WithLabelValues(verb, reason).Inc()
}

// collector tells at each scrape how far the kinds are.
type collector struct{ in *Informers }

func newDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	syncedDesc = newDesc("labelstream_synced",
		"1 where all objects have been handed over once.", "resource")
	currentDesc = newDesc("labelstream_last_sync_timestamp_seconds",
		"When what was handed over was last known to be complete, by a list or by a watch, in Unix time.", "resource")
	listedDesc = newDesc("labelstream_last_list_timestamp_seconds",
		"When a list was last complete, in Unix time.", "resource")
	watchingDesc = newDesc("labelstream_watching",
		"1 while a watch is open.", "resource")
	vanishedDesc = newDesc("labelstream_objects_vanished_total",
		"Objects that lists did not show any more, and of whose end nothing else has told.", "resource")
	entriesDesc = newDesc("labelstream_ledger_entries",
		"Objects of which it is known what was sent.", "resource")
	bytesDesc = newDesc("labelstream_ledger_bytes",
		"Memory that the ledger takes, outside the Go heap.", "resource")
	intervalDesc = newDesc("labelstream_resync_interval_seconds",
		"How often all is listed and sent again; none where it is not.")
)

// Describe implements prometheus.Collector.
func (c collector) Describe(all chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		syncedDesc, currentDesc, listedDesc, watchingDesc, vanishedDesc, entriesDesc, bytesDesc, intervalDesc,
	} {
		all <- desc
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(metrics chan<- prometheus.Metric) {
	if options := &c.in.options; !options.Once && options.ResyncInterval > 0 {
		metrics <- prometheus.MustNewConstMetric(intervalDesc, prometheus.GaugeValue, options.ResyncInterval.Seconds())
	}
	for _, s := range ByKind(c.in.Status()) {
		c.collect(metrics, &s)
	}
}

// collect tells how far one kind is.
func (c collector) collect(metrics chan<- prometheus.Metric, s *Status) {
	gauge := func(desc *prometheus.Desc, value float64) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, s.Resource)
	}
	gauge(syncedDesc, boolToFloat(s.Synced))
	if s.Synced {
		gauge(currentDesc, unixSeconds(s.Current))
		gauge(listedDesc, unixSeconds(s.Listed))
	}
	if c.in.options.watches() {
		gauge(watchingDesc, boolToFloat(s.Watching))
	}
	if !c.in.options.Once {
		gauge(entriesDesc, float64(s.LedgerEntries))
		gauge(bytesDesc, float64(s.LedgerBytes))
		metrics <- prometheus.MustNewConstMetric(vanishedDesc, prometheus.CounterValue, float64(s.Vanished), s.Resource)
	}
}

// finderCollector tells at each scrape what of the settings was not found: what
// has no kind, and so no metric of one.
type finderCollector struct{ finder *Finder }

var missingDesc = newDesc("labelstream_resource_missing",
	"1 while the API server does not serve what the settings name, or does not say what it serves; 0 once it was found.", "resource")

// Describe implements prometheus.Collector.
func (c finderCollector) Describe(all chan<- *prometheus.Desc) { all <- missingDesc }

// Collect implements prometheus.Collector.
func (c finderCollector) Collect(metrics chan<- prometheus.Metric) {
	for name, found := range c.finder.found() {
		metrics <- prometheus.MustNewConstMetric(missingDesc, prometheus.GaugeValue, boolToFloat(!found), name)
	}
}

func boolToFloat(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func unixSeconds(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }
