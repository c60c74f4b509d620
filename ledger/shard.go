package ledger

import "math/bits"

const (
	entryBytes = 16
	// pageSlots are the slots by which a shard grows and shrinks: 4 KiB.
	pageSlots = 256
	// regionSlots are reserved for each shard: 64 KiB. A shard that needs more
	// splits, so what is copied at a time is never more than that.
	regionSlots = 16 * pageSlots
	// spillSlots are at a shard's end, for what is displaced from before it:
	// probing does not wrap around.
	spillSlots = 32

	// fullPercent is how full a shard may get. Entries then stand 5 slots
	// from where they belong on average.
	fullPercent = 90
	// splitPercent is how full shards are made by a split.
	splitPercent = 85
	// shrinkPercent is how full a shard is made that shrinks. It must be well
	// below fullPercent, or inserts and removes in turn would rebuild each time.
	shrinkPercent = 80
)

// entry is what the ledger knows of one object. It holds no pointers: the
// table is in memory that the garbage collector does not know.
type entry struct {
	// key is the object's.
	key uint64
	// state is 0 in an empty slot, see [Table].
	state uint64
}

// shard holds the entries of which the first depth bits of the key are the
// same, in the order of their keys: linear probing in which a smaller key
// displaces a larger one. So a search ends at the first larger key, a removal
// moves the followers back and leaves no tombstone, and growing keeps the
// order: it is done in place.
type shard struct {
	depth uint8
	// slots is how many of the region are in use, a multiple of pageSlots. The
	// others are empty and take no memory.
	slots, count int
	region       []entry
}

func newShard(depth uint8) *shard { return &shard{depth: depth, region: newRegion()} }

// slotsFor is the smallest number of slots that count entries fill to at most
// percent.
func slotsFor(count, percent int) int {
	if count == 0 {
		return 0
	}
	slots := (count*100+percent-1)/percent + spillSlots
	return (slots + pageSlots - 1) / pageSlots * pageSlots
}

// home is the slot where the search for key begins, of slots. It grows with
// the key.
func (s *shard) home(key uint64, slots int) int {
	hi, _ := bits.Mul64(key<<s.depth, uint64(slots-spillSlots))
	return int(hi)
}

// search returns the slot of key, or the one in which it would be inserted,
// which may be the one behind the last.
func (s *shard) search(key uint64) (at int, found bool) {
	if s.slots == 0 {
		return 0, false
	}
	for at = s.home(key, s.slots); at < s.slots; at++ {
		if e := &s.region[at]; e.state == 0 || e.key >= key {
			return at, e.state != 0 && e.key == key
		}
	}
	return at, false
}

// insert gives the key, which is not in the shard, a slot with this state. It
// returns nil where the shard must grow first.
func (s *shard) insert(key, state uint64) *entry {
	if s.slots < slotsFor(s.count+1, fullPercent) {
		return nil
	}
	at, _ := s.search(key)
	end := at
	for end < s.slots && s.region[end].state != 0 {
		end++
	}
	if end == s.slots {
		return nil
	}
	copy(s.region[at+1:end+1], s.region[at:end])
	s.region[at] = entry{key: key, state: state}
	s.count++
	return &s.region[at]
}

// removeAt empties a slot and moves the displaced entries behind it back.
func (s *shard) removeAt(at int) {
	end := at + 1
	for end < s.slots && s.region[end].state != 0 && s.home(s.region[end].key, s.slots) < end {
		end++
	}
	copy(s.region[at:end-1], s.region[at+1:end])
	s.region[end-1] = entry{}
	s.count--
}

// gather moves the entries that are kept to the region's beginning and empties
// the other slots. The shard is of no use then until spread has been called.
func (s *shard) gather(keep func(*entry) bool) {
	count := 0
	for i := range s.region[:s.slots] {
		e := &s.region[i]
		if e.state != 0 && keep(e) {
			s.region[count] = *e
			count++
		}
	}
	clear(s.region[count:s.slots])
	s.count = count
}

// spread gives gathered entries their places in so many slots. It returns
// false, and does nothing, where they do not fit.
func (s *shard) spread(slots int) bool {
	if !s.fits(slots) {
		return false
	}
	// What is laid out from the front never overtakes what waits at the back,
	// because the last fits.
	from := slots - s.count
	copy(s.region[from:slots], s.region[:s.count])
	clear(s.region[:min(from, s.count)])
	next := 0
	for i := from; i < slots; i++ {
		e := s.region[i]
		s.region[i] = entry{}
		next = max(next, s.home(e.key, slots))
		s.region[next] = e
		next++
	}
	if slots < s.slots {
		giveBack(s.region, slots)
	}
	s.slots = slots
	return true
}

func (s *shard) fits(slots int) bool {
	if s.count == 0 {
		return true
	}
	next := 0
	for i := range s.region[:s.count] {
		next = max(next, s.home(s.region[i].key, slots)) + 1
	}
	return next <= slots
}
