// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func releaseBinary() error {
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the running binary: %w", err)
	}
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("read what is mapped: %w", err)
	}
	defer maps.Close()
	regions, err := cleanRegions(maps, binary)
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

// cleanRegions finds where file is mapped, cannot be written to, and was not, in
// the format of proc_pid_smaps(5). Only such pages are the same when they are read
// again: in a position-independent binary the loader writes addresses to
// constants, before it protects them.
func cleanRegions(smaps io.Reader, file string) ([]region, error) {
	var regions []region
	var current *region // the one whose details follow, nil if it is not wanted
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) < 2:
		case !strings.HasSuffix(fields[0], ":"):
			current = nil
			if len(fields) != 6 || fields[5] != file || strings.Contains(fields[1], "w") {
				continue
			}
			r, err := parseRegion(fields[0])
			if err != nil {
				return nil, err
			}
			current = &r
		case fields[0] == "Anonymous:" && fields[1] == "0" && current != nil:
			regions = append(regions, *current)
		}
	}
	return regions, lines.Err()
}

func parseRegion(text string) (r region, err error) {
	first, last, _ := strings.Cut(text, "-")
	start, err := strconv.ParseUint(first, 16, 64)
	if err != nil {
		return r, fmt.Errorf("read what is mapped: %w", err)
	}
	end, err := strconv.ParseUint(last, 16, 64)
	if err != nil {
		return r, fmt.Errorf("read what is mapped: %w", err)
	}
	return region{start: uintptr(start), end: uintptr(end)}, nil
}
