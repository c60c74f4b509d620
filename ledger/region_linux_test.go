// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"os"
	"syscall"
	"testing"
	"unsafe"
)

// TestMemoryIsGivenBack compares what Bytes says with what the kernel holds.
func TestMemoryIsGivenBack(t *testing.T) {
	l := newLedger(t)
	for _, objects := range []uint64{50_000, 6000, 90_000, 10} {
		list(l, 0, objects)
		region, page := l.entries.slots, os.Getpagesize()
		pages := make([]byte, (l.Bytes()+page-1)/page)
		_, _, errno := syscall.Syscall(syscall.SYS_MINCORE, uintptr(unsafe.Pointer(unsafe.SliceData(region))),
			uintptr(l.Bytes()), uintptr(unsafe.Pointer(unsafe.SliceData(pages))))
		if errno != 0 {
			t.Fatal("mincore: ", errno)
		}
		held := 0
		for _, p := range pages {
			held += int(p & 1)
		}
		if held != len(pages) {
			t.Errorf("%d objects: %d of %d pages are in memory", objects, held, len(pages))
		}
	}
}
