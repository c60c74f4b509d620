// SPDX-License-Identifier: Apache-2.0

// Package ledger remembers what was last sent of each object, so that only what
// is new is sent. It does no I/O and has no clock.
package ledger

import "sync"

// An entry's state is the hash of what was last sent, with these flags in its
// lower bits. One change in 2^61 is taken for none; two of a million objects have
// the same key once in 37 million processes.
const (
	// used marks every entry: a free slot is 0.
	used = 1 << iota
	// seen says that the object was shown since the last list began. Without it,
	// written says that it was deleted while a list runs, which may still show it.
	seen
	// written says that a review has, which is newer than what the list shows.
	written

	hashMask = ^uint64(used | seen | written)
)

// Ledger is what was sent of the objects of one source. Its methods are safe for
// concurrent use and take less than a microsecond, but for some milliseconds with
// a million objects where a list begins or ends. Where one says send, the record
// must be sent: the ledger takes it as sent.
type Ledger struct {
	mu      sync.Mutex
	entries table
	// listing is true from BeginList to EndList, and all is what BeginList got.
	listing, all, closed bool
}

// New returns an empty ledger. [Ledger.Close] gives its memory back, which is
// not the garbage collector's.
func New() *Ledger { return &Ledger{} }

// Observe reports whether what a list or a watch shows of an object is to be
// sent. It is not where a review has shown the object since the list began.
func (l *Ledger) Observe(key, hash uint64) (send bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries.find(key)
	if e != nil && e.state&written != 0 {
		return false
	}
	return l.set(e, key, hash, seen)
}

// Write reports whether what a review shows of an object is to be sent. It wins
// over what the list that runs shows later.
func (l *Ledger) Write(key, hash uint64) (send bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.set(l.entries.find(key), key, hash, seen|written)
}

// set makes hash what was last sent of the object, whose entry is e. It reports
// whether it was not, or must be sent once more.
func (l *Ledger) set(e *entry, key, hash, flags uint64) (send bool) {
	hash &= hashMask
	switch {
	case l.closed:
		return false
	case e == nil:
		l.entries.insert(key, hash|flags|used)
		return true
	}
	send = e.state&hashMask != hash || l.all && e.state&seen == 0
	e.state = hash | flags | used
	return send
}

// Delete forgets an object that was deleted. It reports whether the object was
// known. What the list that runs shows of it later is not sent.
func (l *Ledger) Delete(key uint64) (known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries.find(key)
	known = e != nil && e.state&(seen|written) != written
	switch {
	case l.closed:
		return false
	case !l.listing:
		l.entries.remove(key)
	case e == nil:
		l.entries.insert(key, written|used)
	default:
		e.state = written | used
	}
	return known
}

// Drop forgets an object that is there and not to be sent any more. It reports whether the
// object was known.
func (l *Ledger) Drop(key uint64) (known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries.find(key)
	if l.closed || e == nil || e.state&(seen|written) == written {
		return false
	}
	l.entries.remove(key)
	return true
}

// BeginList begins a list of all objects, before its first page is asked for.
// With all, what is equal to what was sent is sent too, once, until EndList.
func (l *Ledger) BeginList(all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listing, l.all = true, all
	for i := range l.entries.slots {
		l.entries.slots[i].state &^= seen | written
	}
}

// EndList ends a list that is complete. It forgets the objects that nothing has
// shown since the list began, and returns how many there were.
func (l *Ledger) EndList() (vanished int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listing, l.all = false, false
	l.entries.filter(func(e *entry) bool {
		if e.state&(seen|written) == 0 {
			vanished++
		}
		return e.state&seen != 0
	})
	return vanished
}

// Len is the number of objects that are known, and of those that were deleted
// while the list runs.
func (l *Ledger) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries.count
}

// Bytes is the memory that the entries take. It is not part of the Go heap, so
// the Go runtime's memory limit does not see it.
func (l *Ledger) Bytes() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries.slots) * entryBytes
}

// Close gives the memory back. The ledger is empty then, and lets nothing be
// sent.
func (l *Ledger) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.entries.filter(func(*entry) bool { return false })
}
