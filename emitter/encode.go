package emitter

import (
	"encoding/binary"
	"math"
	"math/bits"
	"sync/atomic"

	"github.com/golang/snappy"

	"labelstream/record"
)

// The fields of remote_write 1.0's messages, as they stand on the wire:
// WriteRequest.timeseries, TimeSeries.labels and .samples, Label.name and
// .value, Sample.value and .timestamp.
const (
	tagTimeseries = 1<<3 | 2
	tagLabels     = 1<<3 | 2
	tagSamples    = 2<<3 | 2
	tagName       = 1<<3 | 2
	tagValue      = 2<<3 | 2
	tagDouble     = 1<<3 | 1
	tagTimestamp  = 2 << 3 // a varint, whose wire type is 0
)

// one is the value of every sample.
var one = math.Float64bits(1)

// snappyBlock is how much the block format compresses at a time; blocks are
// independent of each other.
const snappyBlock = 64 << 10

// encoder turns batches into the bodies of requests. Its buffers are used
// again: a body is valid until the next encode.
type encoder struct {
	// wire is encoded and not yet compressed: less than a block and a series.
	wire []byte
	// block is where a block is compressed to.
	block []byte
	// out is the body.
	out []byte
	// reading counts the requests that may still read out.
	reading atomic.Int32
	// symbols, series and refs are for 2.0 alone: the table, all series, and
	// the labels of one. last has the labels at each place of the record before,
	// for each of its two series.
	symbols      *symbols
	series, refs []byte
	last         [2][maxPlaces]lastLabel
	// limit is the size that wire, out and series may keep.
	limit int
}

func newEncoder(limit int) *encoder {
	return &encoder{
		block:   make([]byte, snappy.MaxEncodedLen(snappyBlock)),
		symbols: newSymbols(),
		limit:   snappy.MaxEncodedLen(limit),
	}
}

// encode returns a part of the batch as a compressed message of the version.
// The encoded batch is never in memory as a whole: snappy's format needs its
// length first, and then takes one block after the other.
func (e *encoder) encode(b *batch, p part, v version) []byte {
	e.recycle()
	if v == v2 {
		e.encodeV2(b, p)
	} else {
		e.encodeV1(b, p)
	}
	e.compress(1)
	return e.out
}

func (e *encoder) encodeV1(b *batch, p part) {
	e.out = binary.AppendUvarint(e.out, uint64(b.bytes(p)))
	b.each(p, func(_ int, series *record.Cursor, at int64) {
		e.wire = appendSeries(e.wire, series, at)
		e.compress(snappyBlock)
	})
}

// recycle empties the buffers, and replaces those that grew past the limit and
// one that a transport has not let go of.
func (e *encoder) recycle() {
	if e.reading.Load() > 0 {
		e.out = nil
	}
	for _, buffer := range []*[]byte{&e.wire, &e.out, &e.series} {
		if cap(*buffer) > e.limit {
			*buffer = nil
		}
		*buffer = (*buffer)[:0]
	}
}

// compress moves wire to out, block by block, until less than least is left.
func (e *encoder) compress(least int) {
	done := 0
	for len(e.wire)-done >= least {
		next := min(len(e.wire), done+snappyBlock)
		block := snappy.Encode(e.block, e.wire[done:next])
		// Each call writes the length of its own input first.
		e.out = append(e.out, block[varintLen(next-done):]...)
		done = next
	}
	if done > 0 {
		e.wire = e.wire[:copy(e.wire, e.wire[done:])]
	}
}

// recordSize is how many bytes of a WriteRequest the record takes.
func recordSize(rec *record.Record, at int64) int {
	size := 0
	series := record.Cursor(rec.Series)
	for range rec.Count {
		body := labelsSize(&series) + 2 + sampleSize(at)
		size += 1 + varintLen(body) + body
	}
	return size
}

// labelsSize is how many bytes the next series' labels take.
func labelsSize(series *record.Cursor) int {
	size := 0
	for range series.Count() {
		label := labelSize(series.Flat())
		size += 1 + varintLen(label) + label
	}
	return size
}

// labelSize is the size of a Label without what stands before it: its flat form
// has the lengths too, and lacks the two tags.
func labelSize(flat []byte) int { return 2 + len(flat) }

// sampleSize is the size of a Sample without what stands before it, which is
// two bytes.
func sampleSize(at int64) int {
	return 1 + 8 + 1 + (bits.Len64(uint64(at)|1)+6)/7
}

// appendSeries appends the next series as a TimeSeries with its one sample.
func appendSeries(dst []byte, series *record.Cursor, at int64) []byte {
	ahead := *series
	dst = append(dst, tagTimeseries)
	dst = binary.AppendUvarint(dst, uint64(labelsSize(&ahead)+2+sampleSize(at)))
	for range series.Count() {
		flat := record.Cursor(series.Flat())
		dst = append(dst, tagLabels)
		dst = binary.AppendUvarint(dst, uint64(labelSize(flat)))
		name, value := flat.Label()
		dst = append(dst, tagName)
		dst = binary.AppendUvarint(dst, uint64(len(name)))
		dst = append(dst, name...)
		dst = append(dst, tagValue)
		dst = binary.AppendUvarint(dst, uint64(len(value)))
		dst = append(dst, value...)
	}
	return appendSample(dst, at)
}

// appendSample appends the series' sample, which is the same in both versions.
func appendSample(dst []byte, at int64) []byte {
	dst = append(dst, tagSamples, byte(sampleSize(at)), tagDouble)
	dst = binary.LittleEndian.AppendUint64(dst, one)
	dst = append(dst, tagTimestamp)
	return binary.AppendUvarint(dst, uint64(at))
}

// varintLen is the number of bytes that n takes as a varint.
func varintLen(n int) int {
	return (bits.Len64(uint64(n)|1) + 6) / 7
}
