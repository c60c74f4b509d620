package ledger

// Accepted takes that the destination has what was last sent of the object.
// Outcomes must come in the order in which the object's records were sent.
func (t *Table) Accepted(key uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries.find(key); e != nil {
		e.state &^= refused
	}
}

// Refused takes that the destination does not want what was last sent of the
// object: it is not sent again until it changes, not even by a list that sends
// all.
func (t *Table) Refused(key uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries.find(key); e != nil && e.state&deleted == 0 {
		e.state |= refused
	}
}

// Lost takes that a record of the object could not be delivered, or was not
// put into the queue: the object is sent by the next list or event that meets
// it, whatever has been sent since. It returns whether the object is known; if
// so the table needs healing. Of one that is not (it has been deleted) there is
// nothing that a list could bring again.
func (t *Table) Lost(key uint64) (known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries.find(key)
	if e == nil || e.state&deleted != 0 {
		return false
	}
	e.state |= lost
	t.faults++
	return true
}

// Heal makes the table need healing, for a reason that its caller knows.
func (t *Table) Heal() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults++
}

// NeedsHealing tells whether something has gone wrong that a list would make
// good, and none that began later is complete.
func (t *Table) NeedsHealing() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.faults != t.healed
}
