package ledger

import (
	"cmp"
	"slices"
	"time"

	"labelstream/record"
)

const (
	// maxClaims bounds how many claims a table remembers. With names of usual
	// length they take less than 1 MiB, and 6 MiB where each has maxStates.
	maxClaims = 4096
	// claimAge is how long a watch may take to confirm a claim. A write that was
	// refused is to be corrected within a minute: it is looked every 5 s what is
	// due, a GET takes a moment, and what comes of it may wait for 10 s until its
	// batch is sent. And no API server holds a write for so long: it gives a
	// webhook 30 s at most. So whoever reads an object then sees whether the
	// write has happened.
	claimAge = 40 * time.Second
	// maxStates bounds the states of one object that wait: as many writes as
	// come while an event is on its way, and some.
	maxStates = 16
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
// older items of the present list, and waits for an event to settle it; claims
// of the same object are settled in their order. Where the watch has an older
// one still to bring (see [Table.Leave]), this one is left to it, too. Where too
// many wait, the table needs healing instead. It is for use with a watch;
// without one nothing would settle claims, and reviews should be taken by
// [Table.Review].
func (t *Table) Claim(r *record.Record, now time.Time) (v Verdict, left bool) {
	hash := t.hash(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.claims.byKey[r.Key]
	if w != nil && !w.newest().sent {
		t.leave(r, hash, now)
		return Skip, true
	}
	e := t.entries.find(r.Key)
	known := e != nil && e.state&deleted == 0
	if known && e.state&lost == 0 && e.state&hashMask == hash {
		return Skip, false
	}
	flags := uint64(seen | written)
	if t.claims.put(w, r, state{hash: hash, at: now, sent: true}, e) {
		flags |= claimed
	} else {
		t.faults++
	}
	t.note(r.Key, hash, flags)
	return Send, false
}

// Leave takes that a review has shown a state at the time now that is left to
// the watch, since the object is being handled: what reviews show of it then is
// left to the watch as well, until that has brought this one, so that all comes
// in order. It needs no turn.
func (t *Table) Leave(r *record.Record, now time.Time) {
	hash := t.hash(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leave(r, hash, now)
}

func (t *Table) leave(r *record.Record, hash uint64, now time.Time) {
	w := t.claims.byKey[r.Key]
	if w != nil && w.newest().hash == hash {
		return
	}
	if !t.claims.put(w, r, state{hash: hash, at: now}, t.entries.find(r.Key)) {
		t.faults++
	}
}

// Unsent takes that the record of the claim just made was not put into the
// queue: as if there had been none, but that it is left to the watch, and the
// table needs healing. The key's turn must not have been released meanwhile.
func (t *Table) Unsent(key uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults++
	e, w := t.entries.find(key), t.claims.byKey[key]
	switch {
	case e == nil:
	case w == nil:
		e.state |= lost
	default:
		w.newest().sent = false
		w.fresh = w.fresh && w.sent() > 0
		t.restore(e, w.prior)
	}
}

// restore gives an entry a state that it had before, 0 if there was none.
func (t *Table) restore(e *entry, prior uint64) {
	switch {
	case prior == 0 || prior&deleted != 0 && t.list == nil:
		t.entries.remove(e.key)
		return
	case prior&deleted != 0:
		t.deleted++
	}
	// A list may have begun meanwhile, and an outcome come in.
	e.state = prior&^(seen|written) | e.state&(seen|written|refused|lost)
}

// Due returns claims of which a state has waited for 40 s at the time now, at most
// so many: those first that were not asked for yet, or longest ago, and of these
// the oldest.
func (t *Table) Due(now time.Time, most int) []Claim {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.claims.due(now, most)
}

// Ask takes that the API server is asked at the time now for the object of a
// claim that is due. What it says is for Confirm or Forget to take; without an
// answer the claim is due again 40 s later, or at once if there is a newer one of
// the object, unless an event or a list has settled it. Ask returns false where
// that has happened already.
func (t *Table) Ask(c Claim, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.claims.waiting(c)
	if w != nil {
		w.asked, w.again = now, false
	}
	return w != nil
}

// Again has a claim be due at once that was asked for in vain, after those that
// were not asked for yet, or longer ago.
func (t *Table) Again(c Claim) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w := t.claims.waiting(c); w != nil {
		w.again = true
	}
}

// Confirm takes the state that the API server says a due claim's object has. It
// is sent where it differs from what was sent last, unless the claim has been
// settled or replaced meanwhile.
func (t *Table) Confirm(c Claim, r *record.Record) Verdict {
	hash := t.hash(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.claims.waiting(c)
	if w == nil {
		return Skip
	}
	if t.claims.read(w, hash, w.asked.Add(-claimAge)); w.sent() > 0 {
		return Skip
	}
	return t.note(c.Key, hash, seen|written)
}

// Forget takes that the API server has no object of a due claim. One that only
// claims have shown is forgotten, and Forget returns true. Any other has been
// deleted, which is for an event or a list to say.
func (t *Table) Forget(c Claim) (phantom bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.claims.waiting(c)
	if w == nil {
		return false
	}
	phantom = w.fresh
	t.claims.read(w, 0, w.asked.Add(-claimAge))
	if phantom {
		t.entries.remove(c.Key)
	} else if e := t.entries.find(c.Key); e != nil {
		e.state &^= claimed
	}
	return phantom
}

// Claims is the number of objects with claims that wait to be settled.
func (t *Table) Claims() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.claims.byKey)
}

// claims are those that wait, of at most so many objects.
type claims struct {
	most    int
	byKey   map[uint64]*waiting
	numbers uint64
}

// waiting is what waits of one object.
type waiting struct {
	Claim
	// states are what was claimed and no event has shown yet, in the order of
	// the claims, never none. Those that were sent come first, and the last of
	// these is what was sent last.
	states []state
	// before is the state before the first of them, as far as that is known, in
	// which the object may be shown once more until the writes of them have
	// happened; else 0.
	before uint64
	// prior is the state of the table's entry before the last claim.
	prior uint64
	// fresh says that nothing but claims has shown the object.
	fresh bool
	// asked is when the last claim was asked for, again that it is due since that
	// was in vain.
	asked time.Time
	again bool
}

// state is one that a review has shown.
type state struct {
	hash uint64
	at   time.Time
	// sent is false where it was left to the watch.
	sent bool
}

func (w *waiting) newest() *state { return &w.states[len(w.states)-1] }

// sent is the number of states that were sent.
func (w *waiting) sent() int {
	n := slices.IndexFunc(w.states, func(s state) bool { return !s.sent })
	if n < 0 {
		n = len(w.states)
	}
	return n
}

func newClaims(most int) claims { return claims{most: most, byKey: make(map[uint64]*waiting)} }

// put adds a state of an object, of which w waits, or nil, and the table has the
// entry e, or nil. It returns false where there is no room.
func (c *claims) put(w *waiting, r *record.Record, s state, e *entry) bool {
	if w == nil {
		if len(c.byKey) >= c.most {
			return false
		}
		w = &waiting{Claim: Claim{Namespace: string(r.Namespace), Name: string(r.Name), Key: r.Key}}
		switch {
		case e == nil || e.state&deleted != 0:
			w.fresh = s.sent
		case e.state&hashMask != s.hash:
			w.before = e.state & hashMask
		}
		c.byKey[r.Key] = w
	}
	if len(w.states) == maxStates {
		w.states[1].at = w.states[0].at
		w.states = w.states[1:]
	}
	if w.prior = 0; e != nil {
		w.prior = e.state
	}
	c.numbers++
	w.number, w.asked, w.again = c.numbers, time.Time{}, false
	w.states = append(w.states, s)
	return true
}

func (c *claims) due(now time.Time, most int) []Claim {
	limit := now.Add(-claimAge)
	var waits []*waiting
	for _, w := range c.byKey {
		if !w.states[0].at.After(limit) && (w.again || !w.asked.After(limit)) {
			waits = append(waits, w)
		}
	}
	slices.SortFunc(waits, func(a, b *waiting) int {
		return cmp.Or(a.asked.Compare(b.asked), a.states[0].at.Compare(b.states[0].at), cmp.Compare(a.number, b.number))
	})
	var due []Claim
	for _, w := range waits[:min(most, len(waits))] {
		due = append(due, w.Claim)
	}
	return due
}

// waiting returns what waits of the claim's object, nil where the claim has
// been settled or there is a newer one.
func (c *claims) waiting(claim Claim) *waiting {
	if w := c.byKey[claim.Key]; w != nil && w.number == claim.number {
		return w
	}
	return nil
}

// news is what an event is to what waits of its object.
type news int

const (
	// latest says that the event is newer than all that was sent, or of that.
	latest news = iota
	// overtaken says that it is of a state that was sent before another.
	overtaken
	// outdated says that it is older than what was claimed.
	outdated
)

// event takes the state of an event, which settles what was claimed up to it.
func (c *claims) event(key, hash uint64) news {
	w := c.byKey[key]
	if w == nil {
		return latest
	}
	sent := w.sent()
	if w.before != 0 && hash == w.before {
		// A change of something else was on its way when the object was claimed.
		// Or the claimed writes were refused: then a GET will tell.
		if sent > 0 {
			return outdated
		}
		return latest
	}
	i := slices.IndexFunc(w.states, func(s state) bool { return s.hash == hash })
	switch {
	case i < 0:
		// A write without a review came before what was claimed, or after that
		// was refused. What has not been sent can wait for either.
		c.settle(w, sent)
	case i < sent-1:
		c.settle(w, i+1)
		w.before = hash
		return overtaken
	default:
		c.settle(w, i+1)
	}
	w.before = hash
	return latest
}

// read takes the state that the API server says an object has, 0 for none, of
// which it is known that what was claimed until limit has been written by then,
// or never will be.
func (c *claims) read(w *waiting, hash uint64, limit time.Time) {
	done := w.sent()
	for i, s := range slices.Backward(w.states) {
		if s.hash == hash {
			done = i + 1
			break
		}
	}
	for done < len(w.states) && !w.states[done].at.After(limit) {
		done++
	}
	c.settle(w, done)
	w.before = hash
}

// settle ends the first so many states of an object that has been shown.
func (c *claims) settle(w *waiting, states int) {
	w.states = slices.Delete(w.states, 0, states)
	w.fresh = false
	if len(w.states) == 0 {
		delete(c.byKey, w.Key)
	}
}

// gone takes that the object has been deleted. What has not been sent may be of
// one of the same name that follows.
func (c *claims) gone(key uint64) {
	if w := c.byKey[key]; w != nil {
		c.settle(w, w.sent())
		w.before = 0
	}
}

// since tells whether something was claimed of the object after that time.
func (c *claims) since(key uint64, limit time.Time) bool {
	w := c.byKey[key]
	return w != nil && w.newest().at.After(limit)
}
