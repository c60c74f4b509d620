// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"encoding/binary"
	"slices"

	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"labelstream/record"
)

var (
	// The specification has every table begin with the empty string.
	noText = ""
	// help is the second symbol: all series share one help text.
	help = "Labels or annotations of a Kubernetes object, at the time of the sample."
)

// messageV2 is a Request, its memory used again.
type messageV2 struct {
	symbols *symbols
	// names are the references of the names that have a number, zero where there is
	// none yet.
	names [record.MaxNames]uint32
	// series are all that were encoded, one is the Request of the next.
	series []byte
	one    writev2.Request
	// samples are those that [entry.samplesOf] chooses from.
	samples []writev2.Sample
	// tail is where one is encoded to: at its end.
	tail []byte
	// last has the labels at each place of the record before, for each of its
	// two series.
	last [2][maxPlaces]lastLabel
}

// lastLabel is a label and the references of its name and its value.
type lastLabel struct {
	flat        []byte
	name, value uint32
}

// maxPlaces is for how many places of a series labels are remembered; further
// places share them.
const maxPlaces = 64

func newMessageV2() messageV2 {
	series := writev2.TimeSeries{Metadata: writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_GAUGE, HelpRef: 1}}
	return messageV2{
		symbols: newSymbols(),
		one:     writev2.Request{Timeseries: []writev2.TimeSeries{series}},
		samples: []writev2.Sample{{Value: 1}, {Value: marker}, {Value: marker}},
	}
}

// encodeV2 appends the records as a 2.0 Request. Its symbols stand first, and
// are known last: so the series are encoded to a buffer of their own, in which
// a label takes a few bytes.
func (e *encoder) encodeV2(p *part, first int64) {
	m := &e.v2
	m.symbols.reset(noText, help)
	clear(m.names[:])
	clear(m.last[0][:])
	clear(m.last[1][:])
	for i := range p.entries {
		entry := &p.entries[i]
		series, at := p.series(entry), first+int64(entry.tick)
		m.samples[0].Timestamp, m.samples[1].Timestamp, m.samples[2].Timestamp = at, at+1, at
		for nth := range entry.series + entry.ended {
			first, end := entry.samplesOf(nth)
			m.append(int(nth), &series, m.samples[first:end])
		}
	}
	e.out = binary.AppendUvarint(e.out, uint64(m.symbols.size+len(m.series)))
	for _, text := range m.symbols.texts {
		e.wire = appendSymbol(e.wire, text)
		e.compress(snappyBlock)
	}
	for block := range slices.Chunk(m.series, snappyBlock) {
		e.wire = append(e.wire, block...)
		e.compress(snappyBlock)
	}
}

// append encodes the next series, the nth of its record.
func (m *messageV2) append(nth int, series *record.Cursor, samples []writev2.Sample) {
	one := &m.one.Timeseries[0]
	one.Samples = samples
	one.LabelsRefs = one.LabelsRefs[:0]
	for place := range series.Count() {
		name, value := m.refs(&m.last[nth%len(m.last)][place%maxPlaces], series)
		one.LabelsRefs = append(one.LabelsRefs, name, value)
	}
	// A reference takes five bytes at most, all else far less than a hundred.
	size := 100 + 5*len(one.LabelsRefs)
	m.tail = slices.Grow(m.tail[:0], size)[:size]
	// It fails for no message of these types.
	n, _ := m.one.OptimizedMarshalToSizedBuffer(m.tail)
	m.series = append(m.series, m.tail[size-n:]...)
}

// refs returns the references of the next label. The record before mostly had the
// same label at the same place: to compare is cheaper than to look both texts up.
func (m *messageV2) refs(last *lastLabel, series *record.Cursor) (name, value uint32) {
	if len(last.flat) > 0 && series.SkipIf(last.flat) {
		return last.name, last.value
	}
	label := *series
	number, nameText, valueText := series.NumberedLabel()
	*last = lastLabel{
		flat:  label[:len(label)-len(*series)],
		name:  m.nameRef(number, nameText),
		value: m.symbols.ref(text(valueText)),
	}
	return last.name, last.value
}

// nameRef returns the reference of a name. One that has a number is looked up once.
func (m *messageV2) nameRef(number int, name string) uint32 {
	if ref := m.names[number]; ref != 0 {
		return ref
	}
	ref := m.symbols.ref(name)
	if number > 0 {
		m.names[number] = ref
	}
	return ref
}
