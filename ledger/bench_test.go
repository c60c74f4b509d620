// SPDX-License-Identifier: Apache-2.0

package ledger

import "testing"

// million is the number of objects that the promises are about.
const million = 1_000_000

// list lists so many objects from the one numbered from.
func list(l *Ledger, from, objects uint64) {
	l.BeginList(false)
	for id := range objects {
		l.Observe(keyOf(from+id), 1)
	}
	l.EndList()
}

func BenchmarkMillion(b *testing.B) {
	l := newLedger(b)
	list(l, 0, million)
	id := uint64(0)
	b.Run("unchanged", func(b *testing.B) {
		for b.Loop() {
			l.Observe(keyOf(id%million), 1)
			id++
		}
	})
	b.Run("create-and-delete", func(b *testing.B) {
		id := uint64(0)
		for b.Loop() {
			l.Observe(keyOf(million+id), 1)
			l.Delete(keyOf(id))
			id++
		}
	})
	b.Run("begin-and-end", func(b *testing.B) {
		for b.Loop() {
			l.BeginList(false)
			for i := range l.entries.slots {
				if e := &l.entries.slots[i]; e.state != 0 {
					e.state |= seen
				}
			}
			l.EndList()
		}
	})
}

// BenchmarkGrow is an object's share in the growth to a million, and in its memory.
func BenchmarkGrow(b *testing.B) {
	size := 0
	for b.Loop() {
		l := New()
		list(l, 0, million)
		size = l.Bytes()
		l.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/million, "ns/object")
	b.ReportMetric(float64(size)/million, "B/object")
}
