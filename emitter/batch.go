// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/common/model"
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
	// series is how many the object has. Each gets so many samples: its value, and
	// a tick later a staleness marker where it ends with the object.
	series, samples int32
	// ended is how many more follow in the arena that the object no longer has.
	// Each gets a staleness marker.
	ended int32
	// tick is how many milliseconds after the first record of its part this one
	// is stamped, see [clock.stamp].
	tick    int32
	deleted bool
}

// newEntry describes a record, with staleness markers or without.
func newEntry(rec *record.Record, markers bool) entry {
	e := entry{kind: rec.Kind, key: rec.Key, deleted: rec.Deleted, series: int32(rec.Count), samples: 1}
	if markers {
		e.ended = int32(rec.EndedCount)
		if rec.Deleted {
			e.samples = 2
		}
	}
	e.size = int32(seriesSize(rec.Series, rec.Count, int(e.samples)) + seriesSize(rec.Ended, int(e.ended), 1))
	return e
}

// add copies the record. The buffer grows to the limit rather than past it.
func (b *batch) add(rec *record.Record, e entry, now time.Duration, limit int) {
	if len(b.entries) == 0 {
		b.since.Store(int64(now) + 1)
	}
	from := len(b.arena)
	if need := from + len(rec.Series) + len(rec.Ended); need > cap(b.arena) {
		b.arena = append(make([]byte, 0, max(need, min(limit, max(minArena, 2*cap(b.arena))))), b.arena...)
	}
	b.arena = append(b.arena, rec.Series...)
	if e.ended > 0 {
		b.arena = append(b.arena, rec.Ended...)
	}
	e.queued, e.from, e.to = now, int32(from), int32(len(b.arena))
	b.entries = append(b.entries, e)
	b.size += int(e.size)
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
	// isSuspect says that it is left of a part that met server errors, and of which
	// some was accepted without it.
	isSuspect bool
}

func (b *batch) all() part { return part{batch: b, entries: b.entries, isWhole: true} }

func (p *part) series(e *entry) record.Cursor { return record.Cursor(p.batch.arena[e.from:e.to]) }

// totals are the samples of the records, and their bytes, encoded as 1.0.
func (p *part) totals() (samples, bytes int) {
	for i := range p.entries {
		e := &p.entries[i]
		samples += int(e.series*e.samples + e.ended)
		bytes += int(e.size)
	}
	return samples, bytes
}

// cut divides a part before the record at an index.
func (p *part) cut(at int, isWhole bool) (left, right part) {
	return part{p.batch, p.entries[:at], isWhole, p.isSuspect}, part{p.batch, p.entries[at:], isWhole, p.isSuspect}
}

// pieceEnd is the index behind a piece of about so many records from an index on. They
// are sorted by object, and a piece has all of an object's records or none.
func (p *part) pieceEnd(from, size int) int {
	isWithin := func(at int) bool { return at < len(p.entries) && p.entries[at].key == p.entries[at-1].key }
	end := min(from+size, len(p.entries))
	for end > from && isWithin(end) {
		end--
	}
	if end == from {
		end = from + size
		for isWithin(end) {
			end++
		}
	}
	return end
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

// oddName is a label name of the records that receivers without UTF-8 names refuse,
// "" where there is none.
func (p *part) oddName() string {
	for i := range p.entries {
		series := p.series(&p.entries[i])
		for len(series) > 0 {
			for range series.Count() {
				if name, _ := series.Label(); !model.LegacyValidation.IsValidLabelName(string(name)) {
					return string(name)
				}
			}
		}
	}
	return ""
}
