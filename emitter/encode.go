package emitter

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"

	"github.com/golang/snappy"

	"labelstream/record"
)

// version is that of remote_write.
type version int32

const (
	// unknown is for as long as nobody knows what the destination speaks.
	unknown version = iota
	v1
	v2
)

// snappyBlock is how much the block format compresses at a time; blocks are
// independent of each other.
const snappyBlock = 64 << 10

// encoder turns batches into the bodies of requests. Its buffers are used
// again: a body is valid until the next encode.
type encoder struct {
	// wire is encoded and not yet compressed: less than a block and a record.
	wire []byte
	// block is where a block is compressed to.
	block []byte
	// out is the body.
	out []byte
	// reading counts the requests that may still read out.
	reading atomic.Int32
	// limit is the size that wire, out and v2.series may keep.
	limit int
	v2    messageV2
}

func newEncoder(limit int) *encoder {
	return &encoder{
		block: make([]byte, snappy.MaxEncodedLen(snappyBlock)),
		limit: snappy.MaxEncodedLen(limit),
		v2:    messageV2{refOf: make(map[string]uint32)},
	}
}

// encode returns a part as a compressed message of the version, with the time of
// tick zero. The encoded part is never in memory as a whole: snappy's format needs
// its length first, and then takes one block after the other.
func (e *encoder) encode(p *part, v version, first int64) []byte {
	e.recycle()
	if v == v2 {
		e.encodeV2(p, first)
	} else {
		e.encodeV1(p, first)
	}
	e.compress(1)
	return e.out
}

// recycle empties the buffers, and replaces those that grew past the limit and
// one that a transport has not let go of.
func (e *encoder) recycle() {
	if e.reading.Load() > 0 {
		e.out = nil
	}
	for _, buffer := range []*[]byte{&e.wire, &e.out, &e.v2.series} {
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

// encodeV1 appends the records as a 1.0 WriteRequest.
func (e *encoder) encodeV1(p *part, first int64) {
	_, size := p.totals()
	e.out = binary.AppendUvarint(e.out, uint64(size))
	for i := range p.entries {
		entry := &p.entries[i]
		series := p.series(entry)
		for range entry.series {
			e.wire = appendSeriesV1(e.wire, &series, first+int64(entry.tick))
		}
		e.compress(snappyBlock)
	}
}

// appendSeriesV1 appends the next series as field 1 of a WriteRequest: its labels
// are field 1, each with its name and its value, its sample is field 2.
func appendSeriesV1(dst []byte, series *record.Cursor, at int64) []byte {
	rest := *series
	dst = appendLength(dst, 1, labelsSize(&rest)+len(sampleOne)+timeSize)
	for range series.Count() {
		name, value := series.Label()
		dst = appendLength(dst, 1, fieldSize(len(name))+fieldSize(len(value)))
		dst = appendField(dst, 1, name)
		dst = appendField(dst, 2, value)
	}
	return appendSample(dst, at)
}

// recordSize is how many bytes of a WriteRequest the record takes.
func recordSize(rec *record.Record) int {
	size := 0
	series := record.Cursor(rec.Series)
	for range rec.Count {
		size += fieldSize(labelsSize(&series) + len(sampleOne) + timeSize)
	}
	return size
}

// labelsSize is how many bytes the next series' labels take. A label's record
// encoding has the lengths too, and lacks the two tags.
func labelsSize(series *record.Cursor) int {
	size := 0
	for range series.Count() {
		size += fieldSize(2 + len(series.RawLabel()))
	}
	return size
}

// sampleOne is a sample of the value 1 as field 2 of a series, in either version,
// without its time.
const sampleOne = "\x12\x10" + "\x09\x00\x00\x00\x00\x00\x00\xf0\x3f" + "\x10"

// timeSize is what a time takes, see [minStamp].
const timeSize = 6

func appendSample(dst []byte, at int64) []byte {
	return binary.AppendUvarint(append(dst, sampleOne...), uint64(at))
}

// appendField appends a field of a protobuf message: a text, or a message.
func appendField(dst []byte, number int, content []byte) []byte {
	return append(appendLength(dst, number, len(content)), content...)
}

// appendLength appends what stands before the content of such a field.
func appendLength(dst []byte, number, length int) []byte {
	return binary.AppendUvarint(append(dst, byte(number<<3|2)), uint64(length))
}

// fieldSize is how many bytes a field takes that has so many of content.
func fieldSize(length int) int { return 1 + varintLen(length) + length }

func varintLen(n int) int { return (bits.Len64(uint64(n)|1) + 6) / 7 }
