// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"math"
	"math/bits"
	"sync/atomic"
	"unsafe"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/value"
)

// version is that of remote_write.
type version int32

const (
	// unknown is for as long as nobody knows what the destination speaks.
	unknown version = iota
	v1
	v2
)

var versionNames = [...]string{unknown: "unknown", v1: "1.0", v2: "2.0"}

// snappyBlock is how much the block format compresses at a time; blocks are
// independent of each other.
const snappyBlock = 64 << 10

// marker is the value that ends a series at once, where it would else stand for
// another five minutes.
var marker = math.Float64frombits(value.StaleNaN)

// samplesOf chooses among three samples those of the record's nth series: its
// value, the marker a tick later, and the marker in place of the value.
func (e *entry) samplesOf(nth int32) (first, end int32) {
	if nth < e.series {
		return 0, e.samples
	}
	return 2, 3
}

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
	v1    messageV1
	v2    messageV2
}

func newEncoder(limit int) *encoder {
	return &encoder{
		block: make([]byte, snappy.MaxEncodedLen(snappyBlock)),
		limit: snappy.MaxEncodedLen(limit),
		v1:    newMessageV1(),
		v2:    newMessageV2(),
	}
}

// encode returns a part as a compressed message of the version, with the time of
// tick zero. The encoded part is never in memory as a whole:
// snappy's format needs its length first, and then takes one block after the
// other.
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

// text is a string that shares the bytes, which must not change while it is used.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// varintLen is the number of bytes that n takes as a varint.
func varintLen(n int) int { return (bits.Len64(uint64(n)|1) + 6) / 7 }
