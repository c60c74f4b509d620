package emitter

import (
	"encoding/binary"

	"labelstream/record"
)

// The fields of remote_write 2.0's messages, as they stand on the wire:
// Request.symbols and .timeseries, TimeSeries.labels_refs, .samples and
// .metadata, Metadata.type and .help_ref. Its Sample is that of 1.0.
const (
	tagSymbols    = 4<<3 | 2
	tagSeriesV2   = 5<<3 | 2
	tagLabelsRefs = 1<<3 | 2
	tagMetadata   = 5<<3 | 2
	tagType       = 1 << 3
	tagHelpRef    = 3 << 3
)

var (
	// The specification has every table begin with the empty string.
	noText = []byte{}
	// help is the second symbol: all series share one help text.
	help = []byte("Labels or annotations of a Kubernetes object, at the time of the sample.")
	// metadata says what each series is: a gauge, and where its help text is.
	metadata = []byte{tagMetadata, 4, tagType, 2, tagHelpRef, 1}
)

// encodeV2 appends the records as a 2.0 Request. Its symbols stand first, and
// are known last: so the series are encoded to a buffer of their own, in which
// a label takes a few bytes.
func (e *encoder) encodeV2(b *batch, p part) {
	e.symbols.reset(noText, help)
	clear(e.last[0][:])
	clear(e.last[1][:])
	e.series = e.series[:0]
	b.each(p, func(nth int, series *record.Cursor, at int64) {
		e.appendSeriesV2(nth, series, at)
	})
	e.out = binary.AppendUvarint(e.out, uint64(e.symbols.size+len(e.series)))
	for _, text := range e.symbols.texts {
		e.wire = appendSymbol(e.wire, text)
		e.compress(snappyBlock)
	}
	for rest := e.series; len(rest) > 0; {
		n := min(len(rest), snappyBlock)
		e.wire = append(e.wire, rest[:n]...)
		e.compress(snappyBlock)
		rest = rest[n:]
	}
}

// appendSeriesV2 appends the next series, the nth of its record, as a TimeSeries
// with its one sample.
func (e *encoder) appendSeriesV2(nth int, series *record.Cursor, at int64) {
	e.refs = e.refs[:0]
	for place := range series.Count() {
		e.appendRefs(&e.last[nth%len(e.last)][place%maxPlaces], series)
	}
	size := 2 + sampleSize(at) + len(metadata)
	if len(e.refs) > 0 {
		size += 1 + varintLen(len(e.refs)) + len(e.refs)
	}
	dst := binary.AppendUvarint(append(e.series, tagSeriesV2), uint64(size))
	if len(e.refs) > 0 {
		dst = binary.AppendUvarint(append(dst, tagLabelsRefs), uint64(len(e.refs)))
		dst = append(dst, e.refs...)
	}
	e.series = append(appendSample(dst, at), metadata...)
}

// lastLabel is a label, and its references as they stand on the wire, the first
// byte lowest.
type lastLabel struct {
	flat []byte
	refs uint64
	size int
}

// maxPlaces is for how many places of a series labels are remembered; further
// places share them.
const maxPlaces = 64

// appendRefs appends the references of the next label. The record before mostly
// had the same label at the same place: to compare is cheaper than to look both
// texts up.
func (e *encoder) appendRefs(last *lastLabel, series *record.Cursor) {
	from := len(e.refs)
	if len(last.flat) > 0 && series.Pass(last.flat) {
		e.refs = binary.LittleEndian.AppendUint64(e.refs, last.refs)[:from+last.size]
		return
	}
	flat := series.Flat()
	label := record.Cursor(flat)
	name, value := label.Label()
	e.refs = binary.AppendUvarint(e.refs, e.symbols.ref(name))
	e.refs = binary.AppendUvarint(e.refs, e.symbols.ref(value))
	if n := len(e.refs) - from; n <= 8 {
		var refs [8]byte
		copy(refs[:], e.refs[from:])
		*last = lastLabel{flat: flat, refs: binary.LittleEndian.Uint64(refs[:]), size: n}
	}
}
