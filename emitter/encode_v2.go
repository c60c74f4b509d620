package emitter

import (
	"encoding/binary"
	"slices"
	"unsafe"

	"labelstream/record"
)

// metadata of all series: a gauge, whose help is symbol 1.
const metadata = "\x2a\x04" + "\x08\x02" + "\x18\x01"

// help is the text that all series share.
const help = "Labels or annotations of a Kubernetes object, at the time of the sample."

// messageV2 is a Request, its memory used again.
type messageV2 struct {
	// symbols are the distinct texts of all series, each at its reference. They
	// share the bytes of the batch, which must not change meanwhile.
	symbols []string
	refOf   map[string]uint32
	// series are those encoded so far.
	series []byte
	// refs are the encoded references of one series.
	refs []byte
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

// encodeV2 appends the records as a 2.0 Request. Its symbols, field 4, stand first,
// and are known last: so the series, field 5, are encoded to a buffer of their own,
// in which a label takes a few bytes.
func (e *encoder) encodeV2(p *part, first int64) {
	m := &e.v2
	m.ref("") // every table begins with it
	m.ref(help)
	for i := range p.entries {
		entry := &p.entries[i]
		series := p.series(entry)
		for nth := range int(entry.series) {
			m.append(nth, &series, first+int64(entry.tick))
		}
	}
	size := len(m.series)
	for _, symbol := range m.symbols {
		size += fieldSize(len(symbol))
	}
	e.out = binary.AppendUvarint(e.out, uint64(size))
	for _, symbol := range m.symbols {
		e.wire = append(appendLength(e.wire, 4, len(symbol)), symbol...)
		e.compress(snappyBlock)
	}
	for block := range slices.Chunk(m.series, snappyBlock) {
		e.wire = append(e.wire, block...)
		e.compress(snappyBlock)
	}
	m.reset()
}

// reset forgets all that points into the batch.
func (m *messageV2) reset() {
	clear(m.symbols)
	clear(m.refOf)
	m.symbols = m.symbols[:0]
	m.last = [2][maxPlaces]lastLabel{}
}

// append encodes the next series, the nth of its record: references of its labels
// (field 1), sample and metadata.
func (m *messageV2) append(nth int, series *record.Cursor, at int64) {
	m.refs = m.refs[:0]
	for place := range series.Count() {
		last := &m.last[nth%len(m.last)][place%maxPlaces]
		// The record before mostly had the same label at the same place: to
		// compare is cheaper than to look both texts up.
		if len(last.flat) == 0 || !series.SkipIf(last.flat) {
			*last = m.label(series)
		}
		m.refs = binary.AppendUvarint(m.refs, uint64(last.name))
		m.refs = binary.AppendUvarint(m.refs, uint64(last.value))
	}
	m.series = appendLength(m.series, 5, fieldSize(len(m.refs))+len(sampleOne)+timeSize+len(metadata))
	m.series = appendField(m.series, 1, m.refs)
	m.series = appendSample(m.series, at)
	m.series = append(m.series, metadata...)
}

func (m *messageV2) label(series *record.Cursor) lastLabel {
	flat := series.RawLabel()
	label := record.Cursor(flat)
	name, value := label.Label()
	return lastLabel{flat: flat, name: m.ref(text(name)), value: m.ref(text(value))}
}

// ref returns the reference of a symbol.
func (m *messageV2) ref(symbol string) uint32 {
	ref, ok := m.refOf[symbol]
	if !ok {
		ref = uint32(len(m.symbols))
		m.symbols = append(m.symbols, symbol)
		m.refOf[symbol] = ref
	}
	return ref
}

// text is a string that shares the bytes.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
