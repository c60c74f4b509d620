package main

import (
	"fmt"
	"syscall"
	"time"
	"unsafe"
)

// processTime is the processor time of a process that runs, of all its threads,
// user and system. /proc has it in hundredths of a second only, which is as much
// as a thousand events take.
func processTime(pid int) (time.Duration, error) {
	// As clock_getcpuclockid makes it: the process's number, inverted, and the
	// clock that the scheduler keeps.
	const scheduler = 2
	clock := uintptr(^pid<<3 | scheduler)
	var t syscall.Timespec
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
		return 0, fmt.Errorf("read the processor time of process %d: %w", pid, errno)
	}
	return time.Duration(t.Nano()), nil
}
