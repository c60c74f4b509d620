package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// releaseStartup gives back the pages of the binary's code and constants. The
// start of the process registers every type of the Kubernetes API and so maps
// nearly all of them, some 20 MiB; what is needed again is read from the page
// cache when it is touched.
func releaseStartup() error {
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the running binary: %w", err)
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("read what is mapped: %w", err)
	}
	defer maps.Close()
	regions, err := readOnlyRegions(maps, binary)
	if err != nil {
		return err
	}
	for _, r := range regions {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, r.start, r.end-r.start, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("release pages of the binary: %w", errno)
		}
	}
	return nil
}

// region is a range of addresses.
type region struct{ start, end uintptr }

// readOnlyRegions finds where file is mapped and cannot be written to, in the
// format of proc_pid_maps(5). Only such pages are the same when read again.
func readOnlyRegions(maps io.Reader, file string) ([]region, error) {
	var regions []region
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 6 || fields[5] != file || strings.Contains(fields[1], "w") {
			continue
		}
		start, end, _ := strings.Cut(fields[0], "-")
		from, err := strconv.ParseUint(start, 16, 64)
		if err != nil {
			return nil, fmt.Errorf("read what is mapped: %w", err)
		}
		to, err := strconv.ParseUint(end, 16, 64)
		if err != nil {
			return nil, fmt.Errorf("read what is mapped: %w", err)
		}
		regions = append(regions, region{start: uintptr(from), end: uintptr(to)})
	}
	return regions, lines.Err()
}
