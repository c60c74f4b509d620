// Package ledger remembers what was last sent of each object, so that only
// what is new is sent, whichever of list, watch and webhook brings it, and so
// that what was lost is sent again. It does no I/O and has no clock.
package ledger

import (
	"hash/maphash"
	"sync"

	"labelstream/record"
)

// Verdict is what is to be done with a record.
type Verdict bool

// The verdicts.
const (
	// Skip means that the record is not to be sent: it is known, or older than
	// what is.
	Skip Verdict = false
	// Send means that the record is to be sent. The ledger takes it as sent
	// from then on: a record that is not must be reported by [Table.Lost].
	Send Verdict = true
)

// String names the verdict.
func (v Verdict) String() string {
	if v == Send {
		return "send"
	}
	return "skip"
}

// An entry's state is the hash of what was last sent in the upper bits, and
// these flags in the lower 8. With 56 bits, one change in 2^56 is taken for
// none; with 64 bits of key, a million objects have two of the same key once
// in 37 million processes.
const (
	// used is set in every entry: an empty slot is 0.
	used = 1 << iota
	// seen says that a list or an event has met the object since the present
	// list began, or since the last one did.
	seen
	// written says that an event or a review has, which is newer than what
	// that list says of it.
	written
	// claimed says that a review has written it, and nothing confirmed it.
	claimed
	// refused says that the destination does not want what was last sent.
	refused
	// lost says that what was last sent may not have arrived.
	lost
	// deleted says that the object has been deleted while the present list
	// runs, which may still name it. Such an entry goes with the list.
	deleted

	hashMask = ^uint64(0xff)
)

// Table is what was sent of the objects of one informer: 18 to 24 bytes for
// each. Its methods are safe for concurrent use. All but [Table.Acquire] return
// without waiting for anything but each other, which takes less than a
// microsecond, and some milliseconds for a million objects where a list begins
// or ends.
//
// A verdict and the act of sending are two steps. Where several goroutines
// bring records, each must hold the key's turn (see [Table.Acquire]) from
// before it asks until the record is in the emitter's queue, or an older
// record could overtake a newer one in between.
type Table struct {
	seed  maphash.Seed
	turns turns

	mu      sync.Mutex
	entries store
	claims  claims
	// deleted is the number of entries of that state.
	deleted int
	// list is the one that runs, or nil.
	list *List
	// faults counts what only a list can heal; healed is how many of them the
	// last complete list has.
	faults, healed uint64
	// changes counts the events that were of a change.
	changes uint64
	// shown is how many objects [Table.Review] has added since the last complete
	// list began.
	shown int
}

// maxShown is how many objects reviews may add before a list must confirm them:
// 2 MiB of them.
const maxShown = 100_000

// New returns an empty table. [Table.Clear] must be called before it is
// dropped: its memory is not the garbage collector's.
func New() *Table {
	return &Table{
		seed:   maphash.MakeSeed(),
		turns:  turns{held: make(map[uint64]chan struct{})},
		claims: newClaims(maxClaims),
	}
}

// Event takes the state that a watch says an object has. It wins over older
// items of the present list, settles claims, and is sent where it differs
// from what was sent last. One that a review has shown before a newer one has
// been sent already, and is skipped; so is one of the state before that.
func (t *Table) Event(r *record.Record) Verdict {
	hash := t.hash(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch t.claims.event(r.Key, hash) {
	case outdated:
		return Skip
	case overtaken:
		t.changes++
		return Skip
	}
	if e := t.entries.find(r.Key); e == nil || e.state&(claimed|deleted) != 0 || e.state&hashMask != hash {
		t.changes++
	}
	return t.note(r.Key, hash, seen|written)
}

// Review takes the state that a review says an object is about to have, where
// there is no watch. It wins over older items of the present list, and is sent
// where it differs from what was sent last. Whoever makes up reviews makes up
// objects: where too many have been shown by reviews alone, the table needs
// healing, by which it forgets those that there are not.
func (t *Table) Review(r *record.Record) Verdict {
	hash := t.hash(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.entries.find(r.Key) == nil {
		if t.shown++; t.shown%maxShown == 0 {
			t.faults++
		}
	}
	return t.note(r.Key, hash, seen|written)
}

// Delete takes an object's end, as a watch says it. It returns whether the
// object was known; only then is its last state to be sent once more. What
// the present list says of it later is not.
func (t *Table) Delete(key uint64) (known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.claims.gone(key)
	e := t.entries.find(key)
	known = e != nil && e.state&deleted == 0
	if known {
		t.changes++
	}
	switch {
	case t.list == nil:
		t.entries.remove(key)
	case e == nil:
		t.entries.insert(key, used|seen|written|deleted)
		t.deleted++
	case known:
		e.state = used | seen | written | deleted
		t.deleted++
	}
	return known
}

// Known tells whether there is such an object, as far as the table knows.
func (t *Table) Known(key uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries.find(key)
	return e != nil && e.state&deleted == 0
}

// Changes is the number of events so far by which an object came to be, ended,
// or got another record than the last, one that a claim had shown included.
// What is sent does not tell: a claim that an event confirms is not sent again,
// and an event that changes nothing is sent while a list sends all.
func (t *Table) Changes() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changes
}

// Len is the number of objects that are known.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.entries.count - t.deleted
}

// Bytes is the memory that the entries take, beside the few bytes for each
// claim and each turn. It is not part of the Go heap, so the Go runtime's
// memory limit does not see it.
func (t *Table) Bytes() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.entries.slots * entryBytes
}

// Clear makes the table as New returned it, and gives its memory back. A list
// that runs has no say in it any more.
func (t *Table) Clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entries.clear()
	t.claims = newClaims(maxClaims)
	t.deleted, t.list, t.faults, t.healed, t.changes, t.shown = 0, nil, 0, 0, 0, 0
}

// hash is of all series, labels and annotations: the flat form says where each
// ends.
func (t *Table) hash(r *record.Record) uint64 {
	return maphash.Bytes(t.seed, r.Series) & hashMask
}

// note makes hash what was last sent of the object, if it is to be sent, and
// sets the flags. The object's claim has been settled.
func (t *Table) note(key, hash, flags uint64) Verdict {
	e := t.entries.find(key)
	switch {
	case e == nil:
		t.entries.insert(key, hash|used|flags)
		return Send
	case t.isSent(e.state, hash):
		e.state = e.state&^claimed | flags
		return Skip
	case e.state&deleted != 0:
		t.deleted--
	}
	e.state = hash | used | flags
	return Send
}

// isSent tells whether nothing is to be sent of an object in this state that
// now has this hash.
func (t *Table) isSent(state, hash uint64) bool {
	if state&(deleted|lost) != 0 || state&hashMask != hash {
		return false
	}
	return t.list == nil || !t.list.all || state&(seen|refused) != 0
}
