// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// resize makes a region larger or smaller, in place where the system can and
// else by moving its pages: nothing is copied. A nil region and one of no slots
// are the same. Slots that are added are empty.
//
// Regions are mapped, not allocated: a heap that is mostly the ledger would let
// the garbage collector wait until as much again is garbage. Where the system
// has no more to give, resize panics, as an allocation would.
func resize(region []entry, slots int) []entry {
	memory := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(region))), len(region)*entryBytes)
	size := slots * entryBytes
	var err error
	switch {
	case size == 0:
		err = unix.Munmap(memory)
		memory = nil
	case len(memory) == 0:
		memory, err = unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err == nil {
			// A huge page would fill the whole of what a region needs in part.
			_ = unix.Madvise(memory, unix.MADV_NOHUGEPAGE)
		}
	default:
		memory, err = unix.Mremap(memory, size, unix.MREMAP_MAYMOVE)
	}
	if err != nil {
		panic(fmt.Errorf("map %d bytes for the ledger, see ulimit -v and vm.max_map_count: %w", size, err))
	}
	return unsafe.Slice((*entry)(unsafe.Pointer(unsafe.SliceData(memory))), slots)
}
