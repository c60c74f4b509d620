package ledger

import (
	"container/list"
	"time"

	"labelstream/record"
)

const (
	// maxClaims bounds how many claims a table remembers. With names of usual
	// length they take less than 1 MiB.
	maxClaims = 4096
	// claimAge is how long a watch may take to confirm a claim.
	claimAge = time.Minute
)

// Claim is an object that a review has shown in a state that no event has
// confirmed yet: the write may not have happened.
type Claim struct {
	Namespace, Name string
	Key             uint64
	// number tells this claim from a later one of the same object.
	number uint64
}

// Claim takes the state that a review says an object is about to have, at the
// time now. It is sent where it differs from what was sent last, wins over
// older items of the present list and over events up to the version that the
// write replaces (0 where there is none, or it is not known), and waits for a
// later event to settle it. Where too many wait, the table needs healing
// instead. It is for use with a watch; without one nothing would settle claims,
// and reviews should be taken by [Table.Event].
func (t *Table) Claim(r *record.Record, replaces uint64, now time.Time) Verdict {
	hash := t.hash(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries.find(r.Key)
	known := e != nil && e.state&deleted == 0
	if known && e.state&lost == 0 && e.state&hashMask == hash {
		return Skip
	}
	flags := uint64(seen | written)
	if t.claims.put(r, replaces, now, !known) {
		flags |= claimed
	} else {
		t.faults++
	}
	t.note(r.Key, hash, flags)
	return Send
}

// Due returns claims that have waited for a minute at the time now, the oldest
// first, at most so many. Whoever asked the API server for such an object
// answers by Confirm or Forget; without an answer it is due again a minute
// later, unless an event or a list has settled it.
func (t *Table) Due(now time.Time, most int) []Claim {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.claims.due(now, most)
}

// Confirm takes the state that the API server says a due claim's object has. It
// is sent where it differs from what was sent last, unless the claim has been
// settled or replaced meanwhile.
func (t *Table) Confirm(c Claim, r *record.Record) Verdict {
	hash := t.hash(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.claims.has(c) {
		return Skip
	}
	t.claims.remove(c.Key)
	return t.note(c.Key, hash, seen|written)
}

// Forget takes that the API server has no object of a due claim. One that only
// claims have shown is forgotten, and Forget returns true. Any other has been
// deleted, which is for an event or a list to say.
func (t *Table) Forget(c Claim) (phantom bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.claims.has(c) {
		return false
	}
	phantom = t.claims.remove(c.Key)
	if phantom {
		t.entries.remove(c.Key)
	} else if e := t.entries.find(c.Key); e != nil {
		e.state &^= claimed
	}
	return phantom
}

// Claims is the number of claims that wait to be settled.
func (t *Table) Claims() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.claims.order.Len()
}

// claims are those that wait, at most so many.
type claims struct {
	most  int
	byKey map[uint64]*list.Element
	// order has them as they become due.
	order   *list.List
	numbers uint64
}

type waiting struct {
	Claim
	due time.Time
	// replaces is the version of the object that the claimed write replaces, 0
	// where that is not known.
	replaces uint64
	// fresh says that the object was not known before.
	fresh bool
}

func newClaims(most int) claims {
	return claims{most: most, byKey: make(map[uint64]*list.Element), order: list.New()}
}

// put adds a claim, in place of one that waits for the same object. It returns
// false where there is no room.
func (c *claims) put(r *record.Record, replaces uint64, now time.Time, fresh bool) bool {
	if at, ok := c.byKey[r.Key]; ok {
		w := at.Value.(*waiting)
		c.numbers++
		w.number, w.due, w.replaces = c.numbers, now.Add(claimAge), replaces
		c.order.MoveToBack(at)
		return true
	}
	if c.order.Len() >= c.most {
		return false
	}
	c.numbers++
	c.byKey[r.Key] = c.order.PushBack(&waiting{
		Claim:    Claim{Namespace: string(r.Namespace), Name: string(r.Name), Key: r.Key, number: c.numbers},
		due:      now.Add(claimAge),
		replaces: replaces,
		fresh:    fresh,
	})
	return true
}

func (c *claims) due(now time.Time, most int) []Claim {
	var due []Claim
	for len(due) < most {
		at := c.order.Front()
		if at == nil || at.Value.(*waiting).due.After(now) {
			break
		}
		w := at.Value.(*waiting)
		due = append(due, w.Claim)
		w.due = now.Add(claimAge)
		c.order.MoveToBack(at)
	}
	return due
}

// newer tells whether a claim waits that is newer than this version of its
// object.
func (c *claims) newer(key, version uint64) bool {
	at, ok := c.byKey[key]
	return ok && version != 0 && version <= at.Value.(*waiting).replaces
}

func (c *claims) has(claim Claim) bool {
	at, ok := c.byKey[claim.Key]
	return ok && at.Value.(*waiting).number == claim.number
}

// remove ends the claim of the object, if there is one, and returns whether
// the object was not known before it.
func (c *claims) remove(key uint64) (fresh bool) {
	at, ok := c.byKey[key]
	if !ok {
		return false
	}
	delete(c.byKey, key)
	return c.order.Remove(at).(*waiting).fresh
}
