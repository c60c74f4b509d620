package ledger

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// checkStore fails unless all that searches rely on holds.
func checkStore(t testing.TB, s *store) {
	t.Helper()
	count, slots := 0, 0
	for i := 0; i < len(s.shards); {
		sh := s.shards[i]
		places := 1 << (s.depth - sh.depth)
		for j := range places {
			if s.shards[i+j] != sh || i%places != 0 {
				t.Fatalf("place %d of depth %d has another shard than %d, of depth %d", i+j, s.depth, i, sh.depth)
			}
		}
		checkShard(t, s, sh)
		i += places
		count += sh.count
		slots += sh.slots
	}
	if count != s.count || slots != s.slots {
		t.Fatalf("%d entries in %d slots, the store says %d in %d", count, slots, s.count, s.slots)
	}
}

func checkShard(t testing.TB, s *store, sh *shard) {
	t.Helper()
	count, last := 0, uint64(0)
	for at, e := range sh.region {
		if e.state == 0 {
			if e.key != 0 {
				t.Fatalf("slot %d is empty and has a key", at)
			}
			continue
		}
		if at >= sh.slots {
			t.Fatalf("slot %d is taken, of %d", at, sh.slots)
		}
		if s.shard(e.key) != sh {
			t.Fatalf("key %x is in the wrong shard", e.key)
		}
		home := sh.home(e.key, sh.slots)
		if home > at || home < at && sh.region[at-1].state == 0 {
			t.Fatalf("key %x is in slot %d, cannot be found from %d", e.key, at, home)
		}
		if count > 0 && e.key <= last {
			t.Fatalf("key %x is behind %x", e.key, last)
		}
		count, last = count+1, e.key
	}
	if count != sh.count || sh.slots%pageSlots != 0 || count > 0 && slotsFor(count, fullPercent) > sh.slots {
		t.Fatalf("%d entries in %d slots, the shard says %d", count, sh.slots, sh.count)
	}
}

func contents(s *store) map[uint64]uint64 {
	all := make(map[uint64]uint64)
	s.update(func(e *entry) { all[e.key] = e.state })
	return all
}

func TestStoreIsLikeAMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var s store
	defer s.clear()
	want := make(map[uint64]uint64)
	// Each phase has its own share of removals, so that shards grow, split,
	// shrink and become empty.
	for phase, removals := range []int{10, 50, 90, 30, 100, 0} {
		for range 40_000 {
			key := keyOf(rng.Uint64N(30_000))
			e := s.find(key)
			state, ok := want[key]
			if ok != (e != nil) || ok && e.state != state {
				t.Fatalf("key %x gives %v, want state %d", key, e, state)
			}
			if rng.IntN(100) < removals {
				s.remove(key)
				delete(want, key)
			} else if state = 1 + rng.Uint64N(9); ok {
				e.state, want[key] = state, state
			} else {
				s.insert(key, state)
				want[key] = state
			}
		}
		checkStore(t, &s)
		keep := func(state uint64) bool { return state%3 != uint64(phase)%3 }
		s.filter(func(e *entry) bool { return keep(e.state) })
		maps.DeleteFunc(want, func(_, state uint64) bool { return !keep(state) })
		checkStore(t, &s)
		if diff := cmp.Diff(want, contents(&s)); diff != "" {
			t.Fatalf("entries after phase %d (-want +got):\n%s", phase, diff)
		}
	}
}

// Neighbours displace each other over the end of their page: it must grow, or
// the shard split, though it is nearly empty.
func TestStoreTakesNeighbours(t *testing.T) {
	for _, start := range []uint64{0, 1 << 62, ^uint64(0) - 200<<48} {
		t.Run(fmt.Sprintf("%x", start), func(t *testing.T) {
			var s store
			defer s.clear()
			want := make(map[uint64]uint64)
			for i := range uint64(200) {
				key := start + i<<48
				s.insert(key, i+1)
				want[key] = i + 1
			}
			checkStore(t, &s)
			if diff := cmp.Diff(want, contents(&s)); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
			for key := range want {
				s.remove(key)
			}
			checkStore(t, &s)
			if s.slots != 0 {
				t.Errorf("%d slots are left in use", s.slots)
			}
		})
	}
}

// Whatever the number of objects, and on the way there, no more than 24 bytes
// are used for each; and after all have been replaced, by removing one for each
// that comes, or by removing them all at last.
func TestStoreBytes(t *testing.T) {
	const most = 24
	check := func(when string, s *store) {
		t.Helper()
		if each := float64(s.slots*entryBytes) / float64(s.count); each > most {
			t.Errorf("%s: %.1f bytes an entry at %d entries, want at most %d", when, each, s.count, most)
		}
	}
	const objects = 100_000
	var s store
	defer s.clear()
	for id := range uint64(objects) {
		s.insert(keyOf(id), 1)
		if id > 2000 && id%97 == 0 {
			check("growing", &s)
		}
	}
	for id := range uint64(objects) {
		s.insert(keyOf(objects+id), 2)
		s.remove(keyOf(id))
		if id%97 == 0 {
			check("replacing one by one", &s)
		}
	}
	checkStore(t, &s)
	for id := range uint64(objects) {
		s.insert(keyOf(id), 3)
	}
	check("both", &s)
	s.filter(func(e *entry) bool { return e.state == 3 })
	check("replaced at once", &s)
	checkStore(t, &s)
	for id := range uint64(objects) {
		s.remove(keyOf(id))
	}
	if s.count != 0 || s.slots != 0 {
		t.Errorf("%d entries and %d slots are left", s.count, s.slots)
	}
}

func TestNothingIsAllocatedForAnEntry(t *testing.T) {
	table := newTable(t)
	const objects = 5000
	var f filler
	for id := range uint64(objects) {
		table.Event(f.object(id, 1), 0)
	}
	for name, do := range map[string]func(){
		"event": func() { table.Event(f.object(1, 1), 0) },
		"turn": func() {
			if err := table.Acquire(t.Context(), 1); err != nil {
				t.Error(err)
			}
			table.Release(1)
		},
		"change and rebuild": func() { table.entries.filter(func(e *entry) bool { e.state |= seen; return true }) },
	} {
		if n := testing.AllocsPerRun(10, do); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}
