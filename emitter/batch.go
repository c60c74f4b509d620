package emitter

import (
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
	// records and bytes close a batch. Bytes are encoded, not compressed. The
	// flat form that a batch keeps is never larger than the encoded one, so
	// they bound its buffer too.
	records, bytes int
}

// sizeQueue divides queueBytes among the batches of all senders. Each sender
// needs two batches at least, so a batch gets half of the sender's share at
// most, whatever MaxBytesPerSend says. Only a record that is larger than a
// batch by itself exceeds its share, and for as long as it takes to send it.
func sizeQueue(cfg *config.Delivery, senders int) queueSize {
	bytes := min(int(cfg.MaxBytesPerSend), queueBytes/(2*senders))
	return queueSize{
		batches: min(maxBatches, queueBytes/(senders*bytes)),
		records: cfg.BatchSize,
		bytes:   bytes,
	}
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
func (b *batch) fits(size int, limit queueSize) bool {
	return len(b.items) == 0 || len(b.items) < limit.records && b.size+size <= limit.bytes
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

// series is the number of series of all records.
func (b *batch) series() int {
	n := 0
	for i := range b.items {
		n += b.items[i].Series
	}
	return n
}
