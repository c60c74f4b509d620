package ledger

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

// newRegion reserves the slots of one shard, all of them empty. They are
// mapped, not allocated: a heap of which most is the ledger would let the
// garbage collector wait until as much again is garbage. A page takes memory
// from the first write to it until [giveBack].
//
// Where the system has no more to give it panics, as an allocation would.
func newRegion() []entry {
	const size = regionSlots * entryBytes
	mem, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		panic(fmt.Errorf("map %d bytes for the ledger, see ulimit -v and vm.max_map_count: %w", size, err))
	}
	// A huge page would fill the whole of regions of which half is in use. A
	// kernel without huge pages knows no such advice, and needs none.
	_ = syscall.Madvise(mem, syscall.MADV_NOHUGEPAGE)
	return unsafe.Slice((*entry)(unsafe.Pointer(unsafe.SliceData(mem))), regionSlots)
}

// freeRegion ends a region.
func freeRegion(region []entry) {
	if err := syscall.Munmap(regionBytes(region)); err != nil {
		panic(fmt.Errorf("unmap %d bytes of the ledger: %w", len(region)*entryBytes, err))
	}
}

// giveBack returns to the system the whole pages behind the first used slots.
// The slots there must be empty, and stay so.
func giveBack(region []entry, used int) {
	page := os.Getpagesize()
	from := (used*entryBytes + page - 1) / page * page
	mem := regionBytes(region)
	if from >= len(mem) {
		return
	}
	// A refusal leaves the pages with us, empty; they will be used again.
	_ = syscall.Madvise(mem[from:], syscall.MADV_DONTNEED)
}

func regionBytes(region []entry) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(region))), len(region)*entryBytes)
}
