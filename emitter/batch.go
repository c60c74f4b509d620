package emitter

import (
	"math"
	"sync/atomic"
	"time"

	"labelstream/config"
	"labelstream/record"
)

const (
	// queueBytes bounds what all batches together hold, those in flight
	// included.
	queueBytes = 8 << 20
	// maxBatches is per sender. One batch fills while another is sent; two
	// more bridge an answer that is late. Further ones only add memory, for
	// where the destination is slower than the source no queue is long enough.
	maxBatches = 4
	// minArena is the first size of a batch's buffer. It doubles to what the
	// records need, so that a small cluster has small buffers.
	minArena = 16 << 10
)

// queueSize is how much one sender may hold.
type queueSize struct {
	// batches is how many there are.
	batches int
	// records and bytes close a batch. Bytes are encoded as 1.0, not compressed;
	// as 2.0 they are fewer. The flat form that a batch keeps is never larger
	// than the encoded one, so they bound its buffer too.
	records, bytes int
}

// sizeQueue divides queueBytes among the batches of all senders. Each sender
// needs two batches at least, so a batch gets half of the sender's share at
// most, whatever MaxBytesPerSend says. Only a record that is larger than a
// batch by itself exceeds its share, and for as long as it takes to send it.
func sizeQueue(cfg *config.Delivery) queueSize {
	bytes := min(int(cfg.MaxBytesPerSend), queueBytes/(2*cfg.Senders))
	return queueSize{
		batches: min(maxBatches, queueBytes/(cfg.Senders*bytes)),
		records: cfg.BatchSize,
		bytes:   bytes,
	}
}

// byteLimit lowers what a batch may hold for a while, after the destination
// has refused one as too large.
type byteLimit struct{ lowered atomic.Pointer[lowered] }

type lowered struct {
	bytes int
	until time.Time
}

const (
	lowerFor = time.Hour
	// minLimit is where lowering ends: then it is not the batch that is large.
	minLimit = 16 << 10
)

// of returns the lower of most and the limit.
func (l *byteLimit) of(most int, now time.Time) int {
	if low := l.lowered.Load(); low != nil && now.Before(low.until) {
		return min(most, low.bytes)
	}
	return most
}

// lower sets the limit for an hour, and returns it, unless it is as low.
func (l *byteLimit) lower(bytes int, now time.Time) (int, bool) {
	bytes = max(bytes, minLimit)
	if l.of(math.MaxInt, now) <= bytes {
		return 0, false
	}
	l.lowered.Store(&lowered{bytes: bytes, until: now.Add(lowerFor)})
	return bytes, true
}

// batch is what one request carries. One goroutine has it at a time: those
// that put, under their sender's lock, then the sender.
type batch struct {
	// arena holds the records' series in flat form, one after the other.
	arena []byte
	// items and spans describe the records, in the same order.
	items []Item
	spans []span
	// size is the bytes of all records, encoded.
	size int
	// since is when the first record came, in milliseconds of Unix time; zero
	// while there is none. It is read by metrics at any time.
	since atomic.Int64
}

// span is where a record is, and when it was observed.
type span struct {
	// end is where the record's series end in the arena; they begin where
	// those of the record before end.
	end int32
	// size is the record's bytes, encoded.
	size int32
	// at is in milliseconds of Unix time.
	at int64
}

// fits tells whether a record of so many encoded bytes may be added. The first
// one always may: what is larger than a batch goes alone.
func (b *batch) fits(size, records, bytes int) bool {
	return len(b.items) == 0 || len(b.items) < records && b.size+size <= bytes
}

// add copies the record.
func (b *batch) add(rec *record.Record, at int64, size int, limit queueSize) {
	if len(b.items) == 0 {
		b.since.Store(at)
	}
	b.reserve(len(rec.Series), limit.bytes)
	b.arena = append(b.arena, rec.Series...)
	b.items = append(b.items, Item{Kind: rec.Kind, Key: rec.Key, Series: rec.Count})
	b.spans = append(b.spans, span{end: int32(len(b.arena)), size: int32(size), at: at})
	b.size += size
}

// reserve makes room for n bytes, growing to the limit rather than past it.
func (b *batch) reserve(n, limit int) {
	need := len(b.arena) + n
	if need <= cap(b.arena) {
		return
	}
	grown := make([]byte, len(b.arena), max(need, min(limit, max(minArena, 2*cap(b.arena)))))
	copy(grown, b.arena)
	b.arena = grown
}

// reset empties the batch for the next records. A buffer that a single record
// grew past the limit is left to the garbage collector.
func (b *batch) reset(limit queueSize) {
	b.arena = b.arena[:0]
	if cap(b.arena) > limit.bytes {
		b.arena = nil
	}
	clear(b.items)
	b.items, b.spans, b.size = b.items[:0], b.spans[:0], 0
	b.since.Store(0)
}

// age is how long ago the first record was observed, zero without one.
func (b *batch) age(now time.Time) time.Duration {
	since := b.since.Load()
	if since == 0 {
		return 0
	}
	return max(0, time.Duration(now.UnixMilli()-since)*time.Millisecond)
}

// part is the records of a batch from one up to, but not including, another.
type part struct{ from, to int }

func (p part) len() int { return p.to - p.from }

// all is the whole batch.
func (b *batch) all() part { return part{to: len(b.items)} }

// start is where the series of record i begin in the arena.
func (b *batch) start(i int) int32 {
	if i == 0 {
		return 0
	}
	return b.spans[i-1].end
}

// each calls f for every series of a part, in order, with which one of its
// record's it is; f reads it.
func (b *batch) each(p part, f func(nth int, series *record.Cursor, at int64)) {
	for i := p.from; i < p.to; i++ {
		series := record.Cursor(b.arena[b.start(i):b.spans[i].end])
		for nth := range b.items[i].Series {
			f(nth, &series, b.spans[i].at)
		}
	}
}

// bytes is the size of a part, encoded as 1.0.
func (b *batch) bytes(p part) int {
	n := 0
	for _, span := range b.spans[p.from:p.to] {
		n += int(span.size)
	}
	return n
}

// samples is the number of samples in a part.
func (b *batch) samples(p part) int {
	n := 0
	for _, item := range b.items[p.from:p.to] {
		n += item.Series
	}
	return n
}
