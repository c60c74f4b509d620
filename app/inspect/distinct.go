// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"slices"

	"github.com/axiomhq/hyperloglog"
	"github.com/cespare/xxhash/v2"
)

// The memory for counting distinct values, of all keys together: 4 MiB of hashes
// and 9 MiB of sketches. Keys for whose values there is no room any more keep a
// lower bound.
const (
	maxHashes = 1 << 19
	// maxExact is how many values are counted exactly.
	maxExact = 999
)

// sketchPools are the sketches that there may be, the best first: of 16 KiB with a
// standard error of 0.8 %, and of 2 KiB with 2.3 %. Most of the large ones are kept
// for labels: annotations have many values more often, and are sent more seldom.
var sketchPools = [...]struct {
	sources   []source
	count     int
	precision uint8
	exactness Exactness
}{
	{[]source{label}, 448, 14, Estimate},
	{[]source{annotation}, 64, 14, Estimate},
	{[]source{label, annotation}, 512, 11, Coarse},
}

// idBits are the low bits of a hash that say which key it belongs to: a key's id is
// maxKeys at most. 49 bits remain for the value; two of a thousand values have the
// same in one of 10^9 cases.
const (
	idBits = 15
	idMask = 1<<idBits - 1
)

// values counts the distinct values of one key. It is small, since there are many.
type values struct {
	// sketch replaces count beyond maxExact; it is of sketchPools[pool].
	sketch    *hyperloglog.Sketch
	id, count uint16
	source    source
	pool      uint8
	// isFull says that there was a value for which there was no room.
	isFull bool
}

// distinct returns the count, and how exact it is.
func (v *values) distinct() (int64, Exactness) {
	switch {
	case v.sketch != nil:
		return int64(v.sketch.Estimate()), sketchPools[v.pool].exactness
	case v.isFull:
		return int64(v.count), AtLeast
	}
	return int64(v.count), Exact
}

// counter holds what the values of all keys need. Most keys have few values, so one
// table holds the hashes of all of them. It is open addressing with linear probing;
// an empty slot is 0, which no hash is, since ids begin at 1.
type counter struct {
	slots []uint64
	used  int
	ids   uint16
	// sketches are how many are used of each pool.
	sketches [len(sketchPools)]int
}

func newCounter() counter { return counter{slots: make([]uint64, 1<<10)} }

// newValues returns an empty count for a key of a source.
func (c *counter) newValues(of source) values {
	c.ids++
	return values{id: c.ids, source: of}
}

// add counts a value of a key.
func (c *counter) add(v *values, value []byte) {
	hash := xxhash.Sum64(value) &^ idMask
	if v.sketch != nil {
		v.sketch.InsertHash(hash)
		return
	}
	hash |= uint64(v.id)
	if v.isFull || c.slots[c.find(hash)] != 0 {
		return
	}
	switch {
	case v.count < maxExact && c.hasRoom():
		c.slots[c.find(hash)] = hash
		c.used++
		v.count++
	case v.count == maxExact && c.addSketch(v):
		c.take(v.id, v.sketch.InsertHash)
		v.sketch.InsertHash(hash &^ idMask)
	default:
		v.isFull = true
		c.take(v.id, func(uint64) {})
	}
}

// addSketch gives a key the best sketch that there is.
func (c *counter) addSketch(v *values) bool {
	for i, pool := range sketchPools {
		if c.sketches[i] < pool.count && slices.Contains(pool.sources, v.source) {
			c.sketches[i]++
			v.pool = uint8(i)
			// The only error is that of a precision out of range.
			v.sketch, _ = hyperloglog.NewSketch(pool.precision, false)
			return true
		}
	}
	return false
}

// take hands over the hashes of a key's values, and empties their slots.
func (c *counter) take(id uint16, each func(hash uint64)) {
	for at := range c.slots {
		for c.slots[at]&idMask == uint64(id) {
			each(c.slots[at] &^ idMask)
			c.remove(at)
		}
	}
}

// hasRoom reports whether there is a slot for one more hash. It doubles the table as
// long as it may.
func (c *counter) hasRoom() bool {
	if c.used < len(c.slots)/4*3 {
		return true
	}
	if len(c.slots) == maxHashes {
		return false
	}
	old := c.slots
	c.slots = make([]uint64, 2*len(old))
	for _, hash := range old {
		if hash != 0 {
			c.slots[c.find(hash)] = hash
		}
	}
	return true
}

// home is the slot where the search for a hash begins. Equal values of different
// keys begin in different places.
func (c *counter) home(hash uint64) int {
	return int(hash*0x9e3779b97f4a7c15>>32) & (len(c.slots) - 1)
}

// find returns the slot of a hash, or the empty one where it belongs.
func (c *counter) find(hash uint64) int {
	at := c.home(hash)
	for c.slots[at] != 0 && c.slots[at] != hash {
		at = (at + 1) & (len(c.slots) - 1)
	}
	return at
}

// remove empties a slot, and moves hashes that could not be found behind it.
func (c *counter) remove(at int) {
	mask := len(c.slots) - 1
	for next := (at + 1) & mask; c.slots[next] != 0; next = (next + 1) & mask {
		if home := c.home(c.slots[next]); (next-home)&mask >= (next-at)&mask {
			c.slots[at] = c.slots[next]
			at = next
		}
	}
	c.slots[at] = 0
	c.used--
}
