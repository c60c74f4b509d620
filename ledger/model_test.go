// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// model is a ledger as a map, told plainly.
type model struct {
	objects      map[uint64]*modelObject
	listing, all bool
}

type modelObject struct {
	hash                   uint64
	seen, written, deleted bool
}

func (m *model) observe(key, hash uint64) bool {
	if o := m.objects[key]; o != nil && o.written {
		return false
	}
	return m.set(key, hash, false)
}

func (m *model) write(key, hash uint64) bool { return m.set(key, hash, true) }

func (m *model) set(key, hash uint64, written bool) bool {
	o := m.objects[key]
	send := o == nil || o.deleted || o.hash != hash || m.all && !o.seen
	m.objects[key] = &modelObject{hash: hash, seen: true, written: written}
	return send
}

func (m *model) delete(key uint64) bool {
	o := m.objects[key]
	known := o != nil && !o.deleted
	if m.listing {
		m.objects[key] = &modelObject{deleted: true, written: true}
	} else {
		delete(m.objects, key)
	}
	return known
}

func (m *model) begin(all bool) {
	m.listing, m.all = true, all
	for key, o := range m.objects {
		if o.deleted {
			// The list that follows is younger than the deletion, but nothing
			// needs to know: it does not show the object, or shows a new one.
			m.objects[key] = &modelObject{}
			continue
		}
		o.seen, o.written = false, false
	}
}

func (m *model) end() (vanished int) {
	m.listing, m.all = false, false
	for key, o := range m.objects {
		if !o.seen {
			delete(m.objects, key)
			if !o.deleted {
				vanished++
			}
		}
	}
	return vanished
}

// checkOrder fails where the table breaks what it relies on.
func checkOrder(t *testing.T, l *Ledger) {
	t.Helper()
	count, last := 0, uint64(0)
	for at, e := range l.entries.slots {
		if e.state == 0 {
			continue
		}
		if e.state&used == 0 || count > 0 && e.key <= last {
			t.Fatalf("slot %d holds %#v after the key %#x", at, e, last)
		}
		if found, ok := l.entries.search(e.key); !ok || found != at {
			t.Fatalf("the key in slot %d is found at %d", at, found)
		}
		count, last = count+1, e.key
	}
	if count != l.entries.count {
		t.Fatalf("%d entries, counted %d", count, l.entries.count)
	}
}

// FuzzLedger makes calls, three bytes each, and compares with the model.
func FuzzLedger(f *testing.F) {
	f.Add([]byte{0, 1, 1, 4, 0, 0, 0, 1, 1, 6, 0, 0, 3, 1, 0, 1, 1, 1})
	f.Add([]byte{4, 0, 0, 2, 7, 7, 3, 7, 0, 0, 7, 7, 6, 0, 0, 5, 0, 0, 0, 7, 7})
	rng := rand.New(rand.NewPCG(1, 2))
	calls := make([]byte, 3*4000)
	for i := range calls {
		calls[i] = byte(rng.Uint32())
	}
	f.Add(calls)
	f.Fuzz(func(t *testing.T, calls []byte) {
		l := New()
		defer l.Close()
		m := &model{objects: make(map[uint64]*modelObject)}
		for call := range slices.Chunk(calls, 3) {
			if len(call) < 3 {
				break
			}
			compare(t, l, m, call)
		}
		checkOrder(t, l)
	})
}

func compare(t *testing.T, l *Ledger, m *model, call []byte) {
	t.Helper()
	key, hash := keyOf(uint64(call[1])|uint64(call[0]>>4)<<8), hashOf(int(call[2]%3))
	var got, want any
	switch call[0] % 16 {
	case 0, 1, 2, 3, 4, 5:
		got, want = l.Observe(key, hash), m.observe(key, hash&hashMask)
	case 6, 7, 8, 9:
		got, want = l.Write(key, hash), m.write(key, hash&hashMask)
	case 10, 11, 12:
		got, want = l.Delete(key), m.delete(key)
	case 13:
		if call[1] < 32 {
			l.BeginList(call[2]%2 == 0)
			m.begin(call[2]%2 == 0)
		}
	case 14:
		if call[1] < 32 {
			got, want = l.EndList(), m.end()
		}
	}
	if got != want {
		t.Fatalf("call %v: %v, want %v", call, got, want)
	}
	if l.Len() != len(m.objects) {
		t.Fatalf("call %v: %d entries, want %d", call, l.Len(), len(m.objects))
	}
}

// TestGrowAndShrink fills and empties a ledger at sizes around those at which a
// table is laid out anew.
func TestGrowAndShrink(t *testing.T) {
	l := newLedger(t)
	for _, objects := range []uint64{1, 201, 202, 300, 5000, 100_000, 3000, 2, 0, 700} {
		list(l, 0, objects)
		checkOrder(t, l)
		if n := l.Len(); n != int(objects) {
			t.Fatalf("%d entries, want %d", n, objects)
		}
		// At most 30 % are free, and what a page and the spill hold.
		if most := int(objects)*10/7*entryBytes + (pageSlots+spillSlots+2)*entryBytes; l.Bytes() > most || objects == 0 && l.Bytes() != 0 {
			t.Errorf("%d objects take %d bytes, want %d at most", objects, l.Bytes(), most)
		}
	}
}

// TestCrowdedEnd has keys that all belong at the table's end, where nothing can
// be displaced to: the table grows until they fit.
func TestCrowdedEnd(t *testing.T) {
	l := newLedger(t)
	const keys = 300
	for i := range uint64(keys) {
		if key := ^uint64(0) - i<<52; !l.Observe(key, 1) || l.Observe(key, 1) {
			t.Fatalf("key %#x is not sent once", key)
		}
		checkOrder(t, l)
	}
	for i := range uint64(keys) {
		if !l.Delete(^uint64(0) - i<<52) {
			t.Fatalf("key %d is not known", i)
		}
	}
	checkOrder(t, l)
}
