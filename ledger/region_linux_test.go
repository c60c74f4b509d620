package ledger

import (
	"os"
	"syscall"
	"testing"
	"unsafe"
)

// resident returns how much of a region the kernel holds in memory, in bytes.
func resident(t *testing.T, region []entry) int {
	t.Helper()
	page := os.Getpagesize()
	pages := make([]byte, (len(region)*entryBytes+page-1)/page)
	_, _, errno := syscall.Syscall(syscall.SYS_MINCORE, uintptr(unsafe.Pointer(unsafe.SliceData(region))),
		uintptr(len(region)*entryBytes), uintptr(unsafe.Pointer(unsafe.SliceData(pages))))
	if errno != 0 {
		t.Fatal("mincore: ", errno)
	}
	sum := 0
	for _, p := range pages {
		sum += int(p&1) * page
	}
	return sum
}

// What Bytes says is what the kernel has given, up to a page for each shard.
func TestMemoryIsGivenBack(t *testing.T) {
	var s store
	defer s.clear()
	check := func(when string) {
		t.Helper()
		sum := 0
		for i := 0; i < len(s.shards); i += 1 << (s.depth - s.shards[i].depth) {
			sum += resident(t, s.shards[i].region)
		}
		least, shards := s.slots*entryBytes, len(s.shards)
		// A shard that shrinks page by page leaves none behind; where pages
		// are larger than what it grows by, it may hold one in part.
		if most := least + shards*(os.Getpagesize()-pageSlots*entryBytes); sum < least || sum > most {
			t.Errorf("%s: %d bytes resident in %d places, want %d to %d", when, sum, shards, least, most)
		}
	}
	const objects = 50_000
	for id := range uint64(objects) {
		s.insert(keyOf(id), 1)
	}
	check("filled")
	s.filter(func(e *entry) bool { return e.key%8 == 0 })
	check("an eighth kept at once")
	for id := range uint64(objects) {
		s.insert(keyOf(objects+id), 1)
	}
	check("filled again")
	for id := range uint64(objects) {
		s.remove(keyOf(objects + id))
	}
	check("removed one by one")
	s.filter(func(*entry) bool { return false })
	check("emptied")
	if s.slots != 0 {
		t.Errorf("%d slots are in use of an empty store", s.slots)
	}
}
