package ledger

// store is a hash table of entries, in shards that grow page by page and split
// when their region is full. Keys must be evenly distributed, as the hashes
// are that [labelstream/record.Key] gives.
type store struct {
	// shards is indexed by the first depth bits of a key. A shard that has
	// been split less often stands at several places, one after the other.
	shards []*shard
	depth  uint8
	count  int
	// slots is the sum of those in use.
	slots int
}

// find returns the key's entry, or nil. It is valid until the next change.
func (s *store) find(key uint64) *entry {
	if len(s.shards) == 0 {
		return nil
	}
	sh := s.shard(key)
	if at, found := sh.search(key); found {
		return &sh.region[at]
	}
	return nil
}

// insert adds a key that is not in the store, with a state that is not 0. The
// entry is valid until the next change.
func (s *store) insert(key, state uint64) *entry {
	if len(s.shards) == 0 {
		s.shards = []*shard{newShard(0)}
	}
	for {
		sh := s.shard(key)
		if e := sh.insert(key, state); e != nil {
			s.count++
			return e
		}
		s.gather(sh, all)
		s.place(sh, sh.slots+pageSlots)
	}
}

// remove removes a key that may be in the store.
func (s *store) remove(key uint64) {
	if len(s.shards) == 0 {
		return
	}
	sh := s.shard(key)
	at, found := sh.search(key)
	if !found {
		return
	}
	sh.removeAt(at)
	s.count--
	if slots := slotsFor(sh.count, shrinkPercent); slots < sh.slots {
		s.gather(sh, all)
		s.place(sh, slots)
	}
}

// filter calls keep with each entry, whose state it may change, though not to
// 0, and removes those for which it returns false.
func (s *store) filter(keep func(*entry) bool) {
	for i := 0; i < len(s.shards); {
		sh := s.shards[i]
		i += 1 << (s.depth - sh.depth)
		s.gather(sh, keep)
		// Places depend on which others there are: even where nothing shrinks,
		// the entries must be laid out again.
		s.place(sh, min(sh.slots, slotsFor(sh.count, shrinkPercent)))
	}
}

// update calls change with each entry, whose state it may change, though not
// to 0.
func (s *store) update(change func(*entry)) {
	for i := 0; i < len(s.shards); {
		sh := s.shards[i]
		i += 1 << (s.depth - sh.depth)
		for j := range sh.region[:sh.slots] {
			if e := &sh.region[j]; e.state != 0 {
				change(e)
			}
		}
	}
}

// clear removes everything and gives the memory back.
func (s *store) clear() {
	for i := 0; i < len(s.shards); {
		sh := s.shards[i]
		i += 1 << (s.depth - sh.depth)
		freeRegion(sh.region)
	}
	*s = store{}
}

func all(*entry) bool { return true }

func (s *store) shard(key uint64) *shard { return s.shards[key>>(64-s.depth)] }

func (s *store) gather(sh *shard, keep func(*entry) bool) {
	before := sh.count
	sh.gather(keep)
	s.count += sh.count - before
}

// place lays out a shard that has been gathered, in the given number of slots,
// or as many more as its entries need. Where they need more than there are, it
// splits the shard.
func (s *store) place(sh *shard, slots int) {
	for ; slots <= regionSlots; slots += pageSlots {
		before := sh.slots
		if sh.spread(slots) {
			s.slots += sh.slots - before
			return
		}
	}
	half := s.split(sh)
	s.place(sh, slotsFor(sh.count, splitPercent))
	s.place(half, slotsFor(half.count, splitPercent))
}

// split moves the upper half of the keys of a shard that has been gathered to
// a new one, which it returns. Both must be placed then.
func (s *store) split(sh *shard) *shard {
	if sh.depth == s.depth {
		s.deepen()
	}
	bit := uint64(1) << (63 - sh.depth)
	sh.depth++
	half := newShard(sh.depth)
	lower := 0
	for lower < sh.count && sh.region[lower].key&bit == 0 {
		lower++
	}
	half.count = copy(half.region, sh.region[lower:sh.count])
	clear(sh.region[lower:sh.count])
	sh.count = lower

	places := 1 << (s.depth - sh.depth)
	for i, at := range s.shards {
		if at == sh {
			for j := range places {
				s.shards[i+places+j] = half
			}
			break
		}
	}
	return half
}

// deepen gives each shard twice as many places.
func (s *store) deepen() {
	shards := make([]*shard, 0, 2*len(s.shards))
	for _, sh := range s.shards {
		shards = append(shards, sh, sh)
	}
	s.shards = shards
	s.depth++
}
