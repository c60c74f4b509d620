package emitter

import (
	"sync/atomic"
	"time"

	"labelstream/record"
)

// minArena is the first size of a batch's buffer. It doubles to what the
// records need, so that a small cluster has small buffers.
const minArena = 16 << 10

// batch is what one request carries. One goroutine has it at a time: those
// that put, under their queue's lock, then the sender.
type batch struct {
	// arena holds the records' series in flat form, one after the other.
	arena []byte
	// entries describe the records, in the same order.
	entries []entry
	// size is the bytes of all records, encoded as 1.0.
	size int
	// since is when the first record came, as the time since the emitter was
	// made, and one nanosecond; zero while there is none. It is read at any time.
	since atomic.Int64
}

// entry is a record without its series.
type entry struct {
	kind *record.Kind
	key  uint64
	// queued is when the record came, as the time since the emitter was made.
	queued time.Duration
	// end is where the record's series end in the arena; they begin where
	// those of the record before end.
	end int32
	// size is the record's bytes, encoded as 1.0.
	size int32
	// series is how many there are, with one sample each.
	series int32
	// tick is how many milliseconds after the first record of its part this one
	// is stamped, see [clock.stamp].
	tick int32
	// deleted is record.Record.Deleted; dropped deletions are not sent any more.
	deleted, dropped bool
}

// add copies the record. The buffer grows to the limit rather than past it.
func (b *batch) add(rec *record.Record, size int, now time.Duration, limit int) {
	if len(b.entries) == 0 {
		b.since.Store(int64(now) + 1)
	}
	if need := len(b.arena) + len(rec.Series); need > cap(b.arena) {
		b.arena = append(make([]byte, 0, max(need, min(limit, max(minArena, 2*cap(b.arena))))), b.arena...)
	}
	b.arena = append(b.arena, rec.Series...)
	b.entries = append(b.entries, entry{
		kind: rec.Kind, key: rec.Key, queued: now, deleted: rec.Deleted,
		end: int32(len(b.arena)), size: int32(size), series: int32(rec.Count),
	})
	b.size += size
}

// reset empties the batch for the next records. A buffer that a single record
// grew past the limit is left to the garbage collector.
func (b *batch) reset(limit int) {
	b.arena = b.arena[:0]
	if cap(b.arena) > limit {
		b.arena = nil
	}
	clear(b.entries)
	b.entries, b.size = b.entries[:0], 0
	b.since.Store(0)
}

// part is the records of a batch from one up to, but not including, another.
type part struct{ from, to int }

func (p part) len() int { return p.to - p.from }

func (b *batch) all() part { return part{to: len(b.entries)} }

// of returns the entries of a part.
func (b *batch) of(p part) []entry { return b.entries[p.from:p.to] }

// series are those of record i.
func (b *batch) series(i int) record.Cursor {
	start := int32(0)
	if i > 0 {
		start = b.entries[i-1].end
	}
	return record.Cursor(b.arena[start:b.entries[i].end])
}

// totals are the records of a part that are to be sent, their samples, and their
// bytes, encoded as 1.0.
func (b *batch) totals(p part) (records, samples, bytes int) {
	for i := range b.of(p) {
		if e := &b.entries[p.from+i]; !e.dropped {
			records++
			samples += int(e.series)
			bytes += int(e.size)
		}
	}
	return records, samples, bytes
}

// firstPart is the largest one from there on that holds no more than so many
// bytes, and a record at least.
func (b *batch) firstPart(from, limit int) part {
	to, bytes := from, 0
	for to < len(b.entries) && (to == from || bytes+int(b.entries[to].size) <= limit) {
		bytes += int(b.entries[to].size)
		to++
	}
	return part{from, to}
}

// byResource counts the records that were not dropped by the resource of their
// kind.
func byResource(entries []entry) map[string]int {
	n := make(map[string]int)
	for i := range entries {
		if e := &entries[i]; !e.dropped {
			n[e.kind.Resource]++
		}
	}
	return n
}

// identity says which object a record is of.
type identity struct {
	kind            *record.Kind
	namespace, name string
}

// identity reads it from the labels of the record's first series, so that the
// queue need not hold it.
func (b *batch) identity(i int) identity {
	id := identity{kind: b.entries[i].kind}
	series := b.series(i)
	if len(series) == 0 {
		return id
	}
	for range series.Count() {
		switch name, value := series.Label(); string(name) {
		case id.kind.NameLabel:
			id.name = string(value)
		case "namespace":
			if id.kind.Namespaced {
				id.namespace = string(value)
			}
		}
	}
	return id
}
