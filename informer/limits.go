// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"labelstream/record"
)

// limits are what the receiver is known to take, and what is left out to keep to
// them.
var limits = [...]struct {
	message, setting string
	of               func(*record.Drops) uint64
}{
	{"Labels are left out, the object has too many", "LABELSTREAM_MAX_LABELS_PER_SERIES", func(d *record.Drops) uint64 { return d.TooMany }},
	{"Labels are left out, their names are too long", "LABELSTREAM_LABEL_NAME_MAX_BYTES", func(d *record.Drops) uint64 { return d.LongName }},
	{"Values are cut, they are too long", "LABELSTREAM_VALUE_MAX_BYTES", func(d *record.Drops) uint64 { return d.Truncated }},
}

// dropped counts what was left out of an object's record, and names the first
// object of the kind that is beyond a limit.
func (s *Source) dropped(drops record.Drops, o *record.Object) {
	if drops == (record.Drops{}) {
		return
	}
	s.status.progress(func(st *Status) { st.Drops.Add(drops) })
	for i, limit := range limits {
		if n := limit.of(&drops); n > 0 && s.kind.told[i].CompareAndSwap(false, true) {
			s.log.WithFields(logrus.Fields{
				"object_namespace": string(o.Namespace), "object": string(o.Name), "labels": n, "setting": limit.setting,
				"hint": "this is said once a kind, labelstream_values_dropped_total and labelstream_values_truncated_total count all; order LABELSTREAM_LABELS_FILTERS by what matters, or raise the setting if the receiver takes more",
			}).Warn(limit.message)
		}
	}
}

// newKeys counts the keys that are sent, and warns when the receiver takes no more.
func newKeys(limit int, registerer prometheus.Registerer, log logrus.FieldLogger) *record.Keys {
	keys := record.NewKeys(limit, func() {
		log.WithFields(logrus.Fields{
			"limit": limit, "setting": "LABELSTREAM_MAX_KEYS",
			"hint": "name the keys that matter in LABELSTREAM_LABELS_FILTERS, or raise the setting if the receiver keeps more",
		}).Warn("More keys of labels and annotations are sent than the receiver keeps")
	})
	gauge := func(name, help string, value func() float64) {
		registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("labelstream_keys", "Distinct keys of labels and annotations that were sent, 20000 at most are counted.",
		func() float64 { return float64(keys.Len()) })
	gauge("labelstream_keys_limit", "How many distinct keys the receiver keeps, as LABELSTREAM_MAX_KEYS says; 0 for any number.",
		func() float64 { return float64(limit) })
	return keys
}
