// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newLedger returns a ledger that ends with the test.
func newLedger(t testing.TB) *Ledger {
	l := New()
	t.Cleanup(l.Close)
	return l
}

// keyOf spreads small numbers over all keys, as a hash does. No two numbers have
// the same key.
func keyOf(id uint64) uint64 {
	id += 0x9e3779b97f4a7c15
	id = (id ^ id>>30) * 0xbf58476d1ce4e5b9
	id = (id ^ id>>27) * 0x94d049bb133111eb
	return id ^ id>>31
}

// hashOf is the hash of an object's state of that number.
func hashOf(state int) uint64 { return keyOf(uint64(state) << 32) }

// step is one call, as "<what> <object> <state>", and what it must return.
type step struct {
	call string
	want any
}

func run(t *testing.T, l *Ledger, steps []step) {
	t.Helper()
	for i, s := range steps {
		var what string
		var object uint64
		var state int
		_, _ = fmt.Sscan(s.call, &what, &object, &state)
		key, hash := keyOf(object), hashOf(state)
		var got any
		switch what {
		case "observe":
			got = l.Observe(key, hash)
		case "write":
			got = l.Write(key, hash)
		case "delete":
			got = l.Delete(key)
		case "drop":
			got = l.Drop(key)
		case "begin":
			l.BeginList(false)
		case "begin-all":
			l.BeginList(true)
		case "end":
			got = l.EndList()
		case "len":
			got = l.Len()
		default:
			t.Fatalf("no call %q", s.call)
		}
		if got != s.want {
			t.Errorf("step %d, %s: %v, want %v", i, s.call, got, s.want)
		}
	}
}

func TestLedger(t *testing.T) {
	tests := map[string][]step{
		"only what is new is sent": {
			{"begin", nil},
			{"observe 1 1", true}, {"observe 2 1", true}, {"observe 1 1", false},
			{"end", 0},
			{"observe 1 1", false}, {"observe 1 2", true}, {"observe 1 2", false}, {"observe 1 1", true},
			{"observe 3 1", true}, {"len", 3},
		},
		"what is deleted is sent again when it is back": {
			{"begin", nil}, {"observe 1 1", true}, {"end", 0},
			{"delete 1", true}, {"delete 1", false}, {"delete 2", false}, {"len", 0},
			{"observe 1 1", true}, {"len", 1},
		},
		"what is dropped leaves nothing in a list": {
			{"begin", nil}, {"observe 1 1", true}, {"observe 2 1", true}, {"end", 0},
			{"begin", nil}, {"drop 1", true}, {"drop 1", false}, {"drop 3", false}, {"len", 1}, {"delete 2", true}, {"drop 2", false}, {"observe 1 1", true}, {"end", 0},
		},
		"a list forgets what it does not show": {
			{"begin", nil}, {"observe 1 1", true}, {"observe 2 1", true}, {"observe 3 1", true}, {"end", 0},
			{"begin", nil}, {"observe 2 1", false}, {"len", 3}, {"end", 2}, {"len", 1},
			{"observe 1 1", true},
		},
		"a list that sends all does so once": {
			{"begin", nil}, {"observe 1 1", true}, {"observe 2 1", true}, {"end", 0},
			{"begin-all", nil}, {"observe 1 1", true}, {"observe 1 1", false}, {"observe 2 2", true}, {"end", 0},
			{"observe 1 1", false}, {"observe 2 2", false},
			{"begin", nil}, {"observe 1 1", false}, {"observe 2 2", false}, {"end", 0},
		},
		"a list that begins anew": {
			{"begin-all", nil}, {"observe 1 1", true}, {"begin", nil}, {"observe 1 1", false}, {"end", 0}, {"len", 1},
		},
		"a review wins over the list": {
			{"begin", nil}, {"observe 1 1", true}, {"observe 2 1", true}, {"end", 0},
			{"begin", nil},
			{"write 1 2", true}, {"write 1 2", false}, {"write 3 1", true},
			{"observe 1 1", false}, {"observe 2 1", false}, {"observe 3 9", false},
			{"end", 0}, {"len", 3},
			{"write 1 2", false}, {"write 3 1", false},
		},
		"a review of what is known wins over the list": {
			{"begin", nil}, {"observe 1 1", true}, {"end", 0},
			{"begin", nil}, {"write 1 1", false}, {"observe 1 2", false}, {"end", 0},
		},
		"a review while all is sent": {
			{"begin", nil}, {"observe 1 1", true}, {"observe 2 1", true}, {"end", 0},
			{"begin-all", nil},
			{"write 1 1", true}, {"observe 1 1", false},
			{"observe 2 1", true}, {"write 2 1", false},
			{"end", 0}, {"len", 2},
		},
		"what a review has shown is for the next list to confirm": {
			{"begin", nil}, {"end", 0},
			{"write 1 1", true}, {"write 2 1", true},
			{"begin", nil}, {"observe 1 2", true}, {"end", 1}, {"len", 1},
		},
		"what is deleted during a list stays so": {
			{"begin", nil}, {"observe 1 1", true}, {"observe 2 1", true}, {"end", 0},
			{"begin-all", nil},
			{"delete 1", true}, {"delete 1", false}, {"delete 3", false},
			{"observe 1 1", false}, {"observe 3 1", false}, {"observe 2 1", true},
			{"end", 0}, {"len", 1},
			{"observe 1 1", true}, {"observe 3 1", true},
		},
		"what is created again during a list is sent": {
			{"begin", nil}, {"observe 1 1", true}, {"end", 0},
			{"begin", nil}, {"delete 1", true}, {"write 1 1", true}, {"observe 1 7", false}, {"end", 0}, {"len", 1},
		},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) { run(t, newLedger(t), steps) })
	}
}

func TestClose(t *testing.T) {
	l := New()
	list(l, 0, 1000)
	l.Close()
	l.Close()
	run(t, l, []step{{"len", 0}, {"observe 1 1", false}, {"write 1 1", false}, {"delete 1", false}, {"end", 0}, {"begin", nil}})
	if n := l.Bytes(); n != 0 {
		t.Errorf("%d bytes after the end", n)
	}
}

// TestConcurrently has reviews come beside a list: the race detector looks on.
func TestConcurrently(t *testing.T) {
	const objects = 3000
	l := newLedger(t)
	sent := make([]int, objects)
	var all sync.WaitGroup
	all.Go(func() {
		for range 3 {
			l.BeginList(false)
			for id := range uint64(objects) {
				if id%2 == 0 && l.Observe(keyOf(id), 1) {
					sent[id]++
				}
			}
			l.EndList()
		}
	})
	all.Go(func() {
		for range 3 {
			for id := range uint64(objects) {
				if id%2 == 1 {
					l.Write(keyOf(id), 1)
				}
			}
		}
	})
	all.Go(func() {
		for range 1000 {
			_ = l.Len() + l.Bytes()
		}
	})
	all.Wait()
	want := make([]int, objects)
	for id := 0; id < objects; id += 2 {
		want[id] = 1
	}
	if diff := cmp.Diff(want, sent); diff != "" {
		t.Errorf("how often each was sent (-want +got):\n%.1000s", diff)
	}
}

// TestNoAllocation has the calls a record makes.
func TestNoAllocation(t *testing.T) {
	l := newLedger(t)
	list(l, 0, 1000)
	id := uint64(0)
	if n := testing.AllocsPerRun(1000, func() {
		l.Observe(keyOf(id), id)
		l.Write(keyOf(id), id+1)
		id++
	}); n != 0 {
		t.Errorf("%v allocations a record", n)
	}
}
