// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"fmt"
	"math"
	"testing"
)

// fill counts n values of a key.
func fill(c *counter, v *values, n int) {
	for i := range n {
		c.add(v, fmt.Appendf(nil, "value-%d", i))
	}
}

// TestDistinct is exact below a thousand, and within 2 % above.
func TestDistinct(t *testing.T) {
	c := newCounter()
	keys := make([]values, 400)
	// Many keys have the same values by turns, so that those of one stand between
	// those of others when a sketch takes their place.
	for i := range keys {
		keys[i] = c.newValues(label)
	}
	for n := range 2 * 1100 { // each value twice
		for i := range keys {
			if n%1100 < i*8%1100 {
				c.add(&keys[i], fmt.Appendf(nil, "value-%d", n%1100))
			}
		}
	}
	large := c.newValues(annotation)
	fill(&c, &large, 200_000)
	used := 0
	for i := range keys {
		want := int64(i * 8 % 1100)
		got, exactness := keys[i].distinct()
		if want < 1000 {
			used += int(want)
			if got != want || exactness != Exact {
				t.Errorf("%s %d values, want %d", exactness, got, want)
			}
		} else if exactness != Estimate || math.Abs(float64(got-want)) > .02*float64(want) {
			t.Errorf("%s %d values, want an estimate of %d", exactness, got, want)
		}
	}
	if got, exactness := large.distinct(); exactness != Estimate || math.Abs(float64(got-200_000)) > 4000 {
		t.Errorf("%s %d values, want an estimate of 200000", exactness, got)
	}
	if c.used != used {
		t.Errorf("%d hashes are held, want %d: those of sketches are not needed", c.used, used)
	}
}

// TestSketchesUsedUp gives the best sketch that there is, then keeps a lower bound.
func TestSketchesUsedUp(t *testing.T) {
	c := newCounter()
	for _, tt := range []struct {
		source source
		before [len(sketchPools)]int
		want   Exactness
	}{
		{annotation, [...]int{0, 63, 0}, Estimate},
		{annotation, [...]int{0, 64, 0}, Coarse},
		{label, [...]int{447, 64, 0}, Estimate},
		{label, [...]int{448, 0, 511}, Coarse},
		{label, [...]int{448, 0, 512}, AtLeast},
	} {
		c.sketches = tt.before
		v := c.newValues(tt.source)
		fill(&c, &v, 1000)
		got, exactness := v.distinct()
		if exactness != tt.want || exactness == AtLeast && got != 999 || math.Abs(float64(got-1000)) > 70 {
			t.Errorf("%v of source %d: %s %d values, want %s 1000", tt.before, tt.source, exactness, got, tt.want)
		}
	}
	if c.used != 0 {
		t.Errorf("%d hashes are held, want none", c.used)
	}
}

// TestHashesUsedUp keeps a lower bound of keys for which there is no room, and makes
// room of what they had.
func TestHashesUsedUp(t *testing.T) {
	c := newCounter()
	var last values
	for !last.isFull {
		last = c.newValues(label)
		fill(&c, &last, 900)
	}
	if got, exactness := last.distinct(); got == 0 || got >= 900 || exactness != AtLeast {
		t.Errorf("%s %d values, want a lower bound of 900", exactness, got)
	}
	if len(c.slots) != maxHashes || c.used != int(c.ids-1)*900 {
		t.Errorf("%d of %d slots are used by %d keys", c.used, len(c.slots), c.ids)
	}
	next := c.newValues(label)
	fill(&c, &next, 5)
	if got, exactness := next.distinct(); got != 5 || exactness != Exact {
		t.Errorf("%s %d values, want exactly 5", exactness, got)
	}
}
