// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"encoding/binary"
	"slices"

	"github.com/prometheus/prometheus/prompb"

	"labelstream/record"
)

// messageV1 is the WriteRequest of one record, its slices used again.
type messageV1 struct {
	request prompb.WriteRequest
	labels  []prompb.Label
	// samples are those that [entry.samplesOf] chooses from.
	samples []prompb.Sample
}

func newMessageV1() messageV1 {
	return messageV1{samples: []prompb.Sample{{Value: 1}, {Value: marker}, {Value: marker}}}
}

// encodeV1 appends the records as a 1.0 WriteRequest. Protobuf messages that
// follow each other are one: each record is a WriteRequest, and all of them
// together are too.
func (e *encoder) encodeV1(p *part, first int64) {
	_, size := p.totals()
	e.out = binary.AppendUvarint(e.out, uint64(size))
	for i := range p.entries {
		entry := &p.entries[i]
		e.v1.set(entry, p.series(entry), first+int64(entry.tick))
		from := len(e.wire)
		e.wire = slices.Grow(e.wire, int(entry.size))[:from+int(entry.size)]
		// It fails for no message of these types.
		_, _ = e.v1.request.MarshalToSizedBuffer(e.wire[from:])
		e.compress(snappyBlock)
	}
	// The labels must not keep the batch's buffer alive.
	clear(e.v1.labels[:cap(e.v1.labels)])
}

// set makes it the message of one record.
func (m *messageV1) set(of *entry, series record.Cursor, at int64) {
	m.samples[0].Timestamp, m.samples[1].Timestamp, m.samples[2].Timestamp = at, at+1, at
	all := m.request.Timeseries[:0]
	m.labels = m.labels[:0]
	for nth := range of.series + of.ended {
		from := len(m.labels)
		for range series.Count() {
			name, value := series.Label()
			label := m.nextLabel()
			label.Name, label.Value = name, text(value)
		}
		first, end := of.samplesOf(nth)
		all = append(all, prompb.TimeSeries{Labels: m.labels[from:], Samples: m.samples[first:end]})
	}
	m.request.Timeseries = all
}

// nextLabel appends a label and returns it: to fill one where it is takes less
// time than to copy it.
func (m *messageV1) nextLabel() *prompb.Label {
	n := len(m.labels)
	if n == cap(m.labels) {
		m.labels = append(m.labels, prompb.Label{})
	}
	m.labels = m.labels[:n+1]
	return &m.labels[n]
}

// sampleSize is what a sample of a series takes: a tag and a length, the value
// behind its tag, and a timestamp of six bytes (see minStamp) behind its own.
const sampleSize = 2 + 1 + 8 + 1 + 6

// RecordSize is how many bytes of a WriteRequest the record's series take.
func RecordSize(rec *record.Record) int { return seriesSize(rec.Series, rec.Count, 1) }

// seriesSize is how many bytes of a WriteRequest so many series take, with so many
// samples each.
func seriesSize(series record.Cursor, count, samples int) int {
	size := 0
	for range count {
		body := labelsSize(&series) + samples*sampleSize
		size += 1 + varintLen(body) + body
	}
	return size
}

// labelsSize is how many bytes the next series' labels take.
func labelsSize(series *record.Cursor) int {
	size := 0
	for range series.Count() {
		name, value := series.Label()
		label := 1 + varintLen(len(name)) + len(name) + 1 + varintLen(len(value)) + len(value)
		size += 1 + varintLen(label) + label
	}
	return size
}
