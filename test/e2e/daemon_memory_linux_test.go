package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// peakRSS is the most memory that the process has had resident so far, in bytes.
func (p *process) peakRSS(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kibibytes int64
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kibibytes); err == nil {
			return kibibytes << 10
		}
	}
	t.Fatalf("no VmHWM in the process's status:\n%s", status)
	return 0
}
