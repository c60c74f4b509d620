package informer

import (
	"github.com/prometheus/client_golang/prometheus"

	"labelstream/record"
)

// vectors are the metrics of all kinds.
type vectors struct {
	records *prometheus.CounterVec
	tags    *prometheus.CounterVec
}

func newVectors(registerer prometheus.Registerer) *vectors {
	v := &vectors{
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "labelstream_records_total",
			Help: "Records handed over for sending, by what brought them.",
		}, []string{"source", "kind"}),
		tags: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "labelstream_tags_dropped_total",
			Help: "Labels and annotations left out (empty, unsafe) or shortened (cut).",
		}, []string{"reason"}),
	}
	registerer.MustRegister(v.records, v.tags)
	return v
}

// metrics are those of one kind.
type metrics struct {
	records            prometheus.Counter
	empty, unsafe, cut prometheus.Counter
}

func (v *vectors) forKind(kind string) *metrics {
	return &metrics{
		records: v.records.WithLabelValues("list", kind),
		empty:   v.tags.WithLabelValues("empty"),
		unsafe:  v.tags.WithLabelValues("unsafe"),
		cut:     v.tags.WithLabelValues("cut"),
	}
}

func (m *metrics) dropped(drops record.Drops) {
	m.empty.Add(float64(drops.Empty))
	m.unsafe.Add(float64(drops.Unsafe))
	m.cut.Add(float64(drops.Cut))
}
