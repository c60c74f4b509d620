package ledger

import (
	"time"

	"labelstream/record"
)

// List is one list of an informer's objects, from its first page to its last.
// It is older than any event and review that arrives while it runs.
type List struct {
	table *Table
	// all says that it sends what was sent before, too.
	all bool
	// faults is how many there were when it began: those it heals.
	faults uint64
	// shown is how many objects reviews had added then: those it confirms or
	// forgets.
	shown int
	// limit is the time until which what was claimed has been written when the
	// list is read, or never will be.
	limit time.Time
}

// Begin starts a list at the time now. It must be called before the first page
// is asked for: what happens after that is newer than the list. So is what was
// claimed so shortly before that its write may come after the list is read. With
// all, everything that the list or an event meets is sent once more, but what the
// destination has refused. One list runs at a time: if another does, that one
// ends here without being complete, and its further items are skipped; if it was
// to send all, so is this one.
//
// All entries' flags are reset at once, instead of a number of the list being
// kept in each: there is none that could be taken for another, however many
// lists have failed.
func (t *Table) Begin(all bool, now time.Time) *List {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forgetDeleted()
	t.entries.update(func(e *entry) { e.state &^= seen | written })
	t.list = &List{
		table: t, all: all || t.list != nil && t.list.all,
		faults: t.faults, shown: t.shown, limit: now.Add(-claimAge),
	}
	return t.list
}

// Item takes the state that an object has in the list. It is skipped where an
// event or a review has written or deleted the object since the list began, and
// where it differs from what was claimed of it shortly before. Otherwise it
// settles a claim, and is sent where it differs from what was sent last, or
// where all is.
func (l *List) Item(r *record.Record) Verdict {
	t := l.table
	hash := t.hash(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.list != l {
		return Skip
	}
	e := t.entries.find(r.Key)
	if e != nil && e.state&written != 0 {
		return Skip
	}
	if !t.claims.since(r.Key, l.limit) {
		delete(t.claims.byKey, r.Key)
		return t.note(r.Key, hash, seen)
	}
	if e == nil || e.state&hashMask != hash {
		return Skip
	}
	return t.note(r.Key, hash, seen|e.state&claimed)
}

// End ends a list that is complete: each object that there was when it began
// has been an item. It forgets the objects that neither the list nor an event
// has met, but those that were claimed shortly before it began, and returns how
// many they were. What was at fault when the list
// began is healed. It returns false, and does nothing, where the list has
// ended already, or another has begun.
func (l *List) End() (gone int, ok bool) {
	t := l.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.list != l {
		return 0, false
	}
	before := t.entries.count - t.deleted
	t.entries.filter(func(e *entry) bool {
		if e.state&(seen|deleted) != 0 {
			return e.state&deleted == 0
		}
		if t.claims.since(e.key, l.limit) {
			return true
		}
		delete(t.claims.byKey, e.key)
		return false
	})
	t.deleted = 0
	t.list, t.healed = nil, l.faults
	t.shown -= l.shown
	return before - t.entries.count, true
}

// Abandon ends a list that is not complete; nothing is concluded from what it
// lacks. After End it does nothing, so that it can be deferred.
func (l *List) Abandon() {
	t := l.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.list == l {
		t.forgetDeleted()
		t.list = nil
	}
}

// forgetDeleted removes what was kept of deleted objects, for no list can name
// them any more.
func (t *Table) forgetDeleted() {
	if t.deleted > 0 {
		t.entries.filter(func(e *entry) bool { return e.state&deleted == 0 })
		t.deleted = 0
	}
}
