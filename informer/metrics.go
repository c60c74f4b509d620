package informer

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"labelstream/record"
)

// vectors are the metrics of all kinds.
type vectors struct {
	records  *prometheus.CounterVec
	seen     *prometheus.CounterVec
	tags     *prometheus.CounterVec
	restarts *prometheus.CounterVec
	errors   *prometheus.CounterVec
	phantoms *prometheus.CounterVec
}

func newVectors(registerer prometheus.Registerer) *vectors {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		registerer.MustRegister(v)
		return v
	}
	return &vectors{
		records: counter("labelstream_records_total",
			"Records handed over for sending, by what brought them.", "source", "kind"),
		seen: counter("labelstream_objects_seen_total",
			"Objects that lists and watches have brought, sent or not.", "kind"),
		tags: counter("labelstream_tags_dropped_total",
			"Labels and annotations left out (empty, unsafe) or shortened (cut).", "reason"),
		restarts: counter("labelstream_watch_restarts_total",
			"Watches that were opened after the first of a kind; servers end each after some minutes.", "kind"),
		errors: counter("labelstream_errors_total",
			"Failures of requests to the API server, each of which is tried again.", "kind", "verb", "reason"),
		phantoms: counter("labelstream_webhook_phantoms_total",
			"Objects that a review has shown, and that never came to be.", "kind"),
	}
}

// metrics are those of one kind.
type metrics struct {
	// records are those of lists, watched those of watches.
	records map[reason]prometheus.Counter
	watched prometheus.Counter
	// reviewed are records of reviews, corrected those that came of asking
	// whether reviews were right, and phantoms the objects that were none.
	reviewed, corrected, phantoms prometheus.Counter
	seen, restarts                prometheus.Counter
	empty, unsafe, cut            prometheus.Counter
	errors                        *prometheus.CounterVec
}

// forKind returns a kind's. Of one that is followed, all that there can be is
// there from the beginning.
func (v *vectors) forKind(kind string, options *Options) *metrics {
	m := &metrics{
		records:  map[reason]prometheus.Counter{reasonList: v.records.WithLabelValues(string(reasonList), kind)},
		seen:     v.seen.WithLabelValues(kind),
		restarts: v.restarts.WithLabelValues(kind),
		empty:    v.tags.WithLabelValues("empty"),
		unsafe:   v.tags.WithLabelValues("unsafe"),
		cut:      v.tags.WithLabelValues("cut"),
		errors:   v.errors.MustCurryWith(prometheus.Labels{"kind": kind}),
	}
	if options.Follow {
		m.records[reasonResync] = v.records.WithLabelValues(string(reasonResync), kind)
		m.records[reasonHeal] = v.records.WithLabelValues(string(reasonHeal), kind)
		m.watched = v.records.WithLabelValues("watch", kind)
	}
	if options.Reviews {
		m.reviewed = v.records.WithLabelValues("webhook", kind)
		m.corrected = v.records.WithLabelValues("get", kind)
		m.phantoms = v.phantoms.WithLabelValues(kind)
	}
	return m
}

func (m *metrics) dropped(drops record.Drops) {
	m.empty.Add(float64(drops.Empty))
	m.unsafe.Add(float64(drops.Unsafe))
	m.cut.Add(float64(drops.Cut))
}

// failed counts a failed request. The reason is the server's, which has a few
// of them, or of our own.
func (m *metrics) failed(verb string, err error) {
	reason := string(apierrors.ReasonForError(err))
	var network net.Error
	switch {
	case reason != "":
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		reason = "Timeout"
	default:
		reason = "Connection"
	}
	m.errors.WithLabelValues(verb, reason).Inc()
}

// collector tells at each scrape how far the kinds are.
type collector struct{ in *Informers }

var (
	syncedDesc = prometheus.NewDesc("labelstream_synced",
		"1 where all objects of the kind have been handed over once.", []string{"kind"}, nil)
	currentDesc = prometheus.NewDesc("labelstream_last_sync_timestamp_seconds",
		"When the kind was last known to be complete, by a list or by its watch, in Unix time.", []string{"kind"}, nil)
	entriesDesc = prometheus.NewDesc("labelstream_ledger_entries",
		"Objects of which is known what was sent.", []string{"kind"}, nil)
	bytesDesc = prometheus.NewDesc("labelstream_ledger_bytes",
		"Memory that the ledger takes, outside the Go heap.", []string{"kind"}, nil)
	listedDesc = prometheus.NewDesc("labelstream_last_list_timestamp_seconds",
		"When a list of the kind was last complete, in Unix time.", []string{"kind"}, nil)
	watchingDesc = prometheus.NewDesc("labelstream_watching",
		"1 while the kind is watched; none where watches are off.", []string{"kind"}, nil)
	changesDesc = prometheus.NewDesc("labelstream_watch_changes_total",
		"Changes that watches have brought and admission reviews show: an object came to be, ended, or has other tags.", []string{"kind"}, nil)
	intervalDesc = prometheus.NewDesc("labelstream_resync_interval_seconds",
		"How often all is listed and sent again; none where it is not.", nil, nil)
)

// descs are those of all that a collector may tell.
var descs = []*prometheus.Desc{
	syncedDesc, currentDesc, entriesDesc, bytesDesc, listedDesc, watchingDesc, changesDesc, intervalDesc,
}

// Describe implements prometheus.Collector.
func (c collector) Describe(all chan<- *prometheus.Desc) {
	for _, desc := range descs {
		all <- desc
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(metrics chan<- prometheus.Metric) {
	options := &c.in.options
	if options.ReviewsOnly {
		// Kinds that are not read would look as if they could not be.
		return
	}
	if options.Follow && options.ResyncInterval > 0 {
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
	gauge(syncedDesc, oneIf(s.Synced))
	if s.Synced {
		gauge(currentDesc, unixSeconds(s.Current))
		if c.in.options.Follow {
			gauge(listedDesc, unixSeconds(s.Listed))
		}
	}
	if c.in.options.Follow {
		gauge(entriesDesc, float64(s.Sent))
		gauge(bytesDesc, float64(s.SentBytes))
	}
	if c.in.options.Watch {
		gauge(watchingDesc, oneIf(s.Watching))
		metrics <- prometheus.MustNewConstMetric(changesDesc, prometheus.CounterValue, float64(s.Changes), s.Resource)
	}
}

// finderCollector tells at each scrape what of the settings was not found: what
// has no kind, and so no metric of one.
type finderCollector struct{ finder *Finder }

var missingDesc = prometheus.NewDesc("labelstream_resource_missing",
	"1 while the API server does not serve what the settings name, or does not say what it serves; 0 once it was found.", []string{"resource"}, nil)

// Describe implements prometheus.Collector.
func (c finderCollector) Describe(all chan<- *prometheus.Desc) { all <- missingDesc }

// Collect implements prometheus.Collector.
func (c finderCollector) Collect(metrics chan<- prometheus.Metric) {
	names := chosenNames(c.finder.cfg)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		metrics <- prometheus.MustNewConstMetric(missingDesc, prometheus.GaugeValue, oneIf(!c.finder.seen(name)), name)
	}
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func unixSeconds(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }
