// SPDX-License-Identifier: Apache-2.0

package ledger

import "math/bits"

const (
	entryBytes = 16
	// pageSlots are the slots in 4 KiB, by which a table grows and shrinks.
	pageSlots = 256
	// spillSlots are at the table's end, for what is displaced from before it:
	// probing does not wrap around.
	spillSlots = 32

	// fullPercent is how full a table may get: entries then stand 5 slots from
	// their places on average. It grows by an eighth, and shrinks once it is less
	// than sparsePercent full.
	fullPercent   = 90
	shrinkPercent = 80
	sparsePercent = 70
)

// entry is what the ledger knows of one object. It holds no pointers: the table
// is in memory that the garbage collector does not know.
type entry struct{ key, state uint64 }

// table is a hash table with linear probing whose entries are in the order of
// their keys: a smaller key displaces a larger one. So a search ends at the
// first larger key, a removal moves the followers back and leaves no tombstone,
// and the table is laid out anew in place. Keys must be evenly distributed, as
// hashes are.
type table struct {
	slots []entry
	count int
}

// home is the slot of so many where the search for a key begins.
func home(key uint64, slots int) int {
	hi, _ := bits.Mul64(key, uint64(slots-spillSlots))
	return int(hi)
}

// search returns the slot of the key, or that where it would be inserted.
func (t *table) search(key uint64) (at int, found bool) {
	if len(t.slots) == 0 {
		return 0, false
	}
	for at = home(key, len(t.slots)); at < len(t.slots); at++ {
		if e := &t.slots[at]; e.state == 0 || e.key >= key {
			return at, e.state != 0 && e.key == key
		}
	}
	return at, false
}

// find returns the key's entry or nil, valid until the next change.
func (t *table) find(key uint64) *entry {
	if at, found := t.search(key); found {
		return &t.slots[at]
	}
	return nil
}

// insert adds a key that is not in the table.
func (t *table) insert(key, state uint64) {
	for (t.count+1)*100 > (len(t.slots)-spillSlots)*fullPercent || !t.put(key, state) {
		grown := len(t.slots) + max(pageSlots, len(t.slots)/8)
		t.gather(func(*entry) bool { return true })
		t.spread(wholePages(grown))
	}
}

// put gives the key a slot, if there is a free one behind its place.
func (t *table) put(key, state uint64) bool {
	at, _ := t.search(key)
	free := at
	for free < len(t.slots) && t.slots[free].state != 0 {
		free++
	}
	if free == len(t.slots) {
		return false
	}
	copy(t.slots[at+1:free+1], t.slots[at:free])
	t.slots[at] = entry{key: key, state: state}
	t.count++
	return true
}

// remove removes a key, and moves the displaced entries behind it back.
func (t *table) remove(key uint64) {
	at, found := t.search(key)
	if !found {
		return
	}
	end := at + 1
	for end < len(t.slots) && t.slots[end].state != 0 && home(t.slots[end].key, len(t.slots)) < end {
		end++
	}
	copy(t.slots[at:end-1], t.slots[at+1:end])
	t.slots[end-1] = entry{}
	t.count--
}

// filter removes the entries for which keep returns false, which is called once
// for each, and gives back the memory that is not needed then.
func (t *table) filter(keep func(*entry) bool) {
	t.gather(keep)
	slots := len(t.slots)
	switch {
	case t.count == 0:
		slots = 0
	case t.count*100 < (slots-spillSlots)*sparsePercent:
		slots = min(slots, wholePages(t.count*100/shrinkPercent+spillSlots))
	}
	t.spread(slots)
}

func wholePages(slots int) int { return (slots + pageSlots - 1) / pageSlots * pageSlots }

// gather moves the entries that are kept to the beginning and empties the other
// slots. The table is of no use then until spread has been called.
func (t *table) gather(keep func(*entry) bool) {
	t.count = 0
	for i := range t.slots {
		if e := &t.slots[i]; e.state != 0 && keep(e) {
			t.slots[t.count] = *e
			t.count++
		}
	}
	clear(t.slots[t.count:])
}

// spread gives gathered entries their places in so many slots, or as many more
// as they need.
func (t *table) spread(slots int) {
	for !t.fits(slots) {
		slots += pageSlots
	}
	if slots > len(t.slots) {
		t.slots = resize(t.slots, slots)
	}
	// What is laid out from the front never overtakes what waits at the back.
	from := slots - t.count
	copy(t.slots[from:slots], t.slots[:t.count])
	clear(t.slots[:min(from, t.count)])
	next := 0
	for i := from; i < slots; i++ {
		e := t.slots[i]
		t.slots[i] = entry{}
		next = max(next, home(e.key, slots))
		t.slots[next] = e
		next++
	}
	if slots < len(t.slots) {
		t.slots = resize(t.slots, slots)
	}
}

// fits tells whether gathered entries have places in so many slots.
func (t *table) fits(slots int) bool {
	next := 0
	for _, e := range t.slots[:t.count] {
		next = max(next, home(e.key, slots)) + 1
	}
	return next <= slots
}
