// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// Account is what a process has taken until now.
type Account struct {
	CPU      time.Duration // of all threads, user and system
	Resident int64         // bytes
	Peak     int64         // bytes, the most that were resident since the start
}

// AccountOf reads the account of a running process.
func AccountOf(pid int) (a Account, err error) {
	if a.CPU, err = processorTime(pid); err != nil {
		return a, err
	}
	if a.Resident, err = memory(pid, "VmRSS"); err != nil {
		return a, err
	}
	a.Peak, err = memory(pid, "VmHWM")
	return a, err
}

// processorTime asks the scheduler's clock of the process: /proc has it in
// hundredths of a second only.
func processorTime(pid int) (time.Duration, error) {
	// As clock_getcpuclockid makes it: the process's number, inverted, and the
	// clock that the scheduler keeps.
	const scheduler = 2
	var t syscall.Timespec
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(^pid<<3|scheduler), uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
		return 0, fmt.Errorf("read the processor time of process %d: %w", pid, errno)
	}
	return time.Duration(t.Nano()), nil
}

func memory(pid int, name string) (int64, error) {
	file := fmt.Sprintf("/proc/%d/status", pid)
	kibibytes, err := strconv.ParseInt(strings.TrimSuffix(Field(file, name), " kB"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s of %s: %w", name, file, err)
	}
	return kibibytes << 10, nil
}

// Field finds the value of "name: value" in a file of /proc, "" if there is none.
func Field(file, name string) string {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
