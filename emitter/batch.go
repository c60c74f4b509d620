package emitter

import (
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"labelstream/record"
)

// minArena is the first size of a batch's buffer. It doubles to what the
// records need, so that a small cluster has small buffers.
const minArena = 16 << 10

// batch is the records that are queued and sent together. One goroutine has it at a
// time: those that put, under their queue's lock, then the sender.
type batch struct {
	// arena holds the records' encoded series, one after the other.
	arena   []byte
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
	// from and to are where the record's series are in the arena.
	from, to int32
	// size is the record's bytes, encoded as 1.0.
	size int32
	// series is how many there are, with one sample each.
	series int32
	// tick is how many milliseconds after the first record of its part this one
	// is stamped, see [clock.stamp].
	tick    int32
	deleted bool
}

// add copies the record. The buffer grows to the limit rather than past it.
func (b *batch) add(rec *record.Record, size int, now time.Duration, limit int) {
	if len(b.entries) == 0 {
		b.since.Store(int64(now) + 1)
	}
	from := len(b.arena)
	if need := from + len(rec.Series); need > cap(b.arena) {
		b.arena = append(make([]byte, 0, max(need, min(limit, max(minArena, 2*cap(b.arena))))), b.arena...)
	}
	b.arena = append(b.arena, rec.Series...)
	b.entries = append(b.entries, entry{
		kind: rec.Kind, key: rec.Key, queued: now, deleted: rec.Deleted,
		from: int32(from), to: int32(len(b.arena)), size: int32(size), series: int32(rec.Count),
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

// part is what one request carries: some records of a batch.
type part struct {
	batch   *batch
	entries []entry
	// isWhole says that it is no piece of something refused.
	isWhole bool
}

func (b *batch) all() part { return part{b, b.entries, true} }

func (p *part) series(e *entry) record.Cursor { return record.Cursor(p.batch.arena[e.from:e.to]) }

// totals are the samples of the records, and their bytes, encoded as 1.0.
func (p *part) totals() (samples, bytes int) {
	for i := range p.entries {
		samples += int(p.entries[i].series)
		bytes += int(p.entries[i].size)
	}
	return samples, bytes
}

// cut divides a part before the record at an index.
func (p *part) cut(at int, isWhole bool) (left, right part) {
	return part{p.batch, p.entries[:at], isWhole}, part{p.batch, p.entries[at:], isWhole}
}

// fitting is how many records from the first on have no more than so many bytes,
// one at least.
func (p *part) fitting(limit int) int {
	n, bytes := 0, 0
	for n < len(p.entries) && (n == 0 || bytes+int(p.entries[n].size) <= limit) {
		bytes += int(p.entries[n].size)
		n++
	}
	return n
}

// byResource counts the records by the resource of their kind.
func (p *part) byResource() map[string]int {
	n := make(map[string]int)
	for i := range p.entries {
		n[p.entries[i].kind.Resource]++
	}
	return n
}

// identity says in the log which object the only record is of; nil where there are
// several. It is read from the labels of the first series, so that the queue need
// not hold it.
func (p *part) identity() logrus.Fields {
	if len(p.entries) != 1 {
		return nil
	}
	kind := p.entries[0].kind
	id := logrus.Fields{"kind": kind.Resource}
	series := p.series(&p.entries[0])
	for range series.Count() {
		switch name, value := series.Label(); string(name) {
		case kind.NameLabel:
			id["name"] = string(value)
		case "namespace":
			if kind.Namespaced {
				id["namespace"] = string(value)
			}
		}
	}
	return id
}
