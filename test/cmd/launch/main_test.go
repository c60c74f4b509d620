package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"labelstream/test/process"
)

const heldBytes = 64 << 20

// TestMain is also a program that uses memory, and prints its peak.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "hold" {
		memory := touch(heldBytes)
		a, err := process.AccountOf(os.Getpid())
		fmt.Println(a.Peak, err)
		runtime.KeepAlive(memory)
		os.Exit(3)
	}
	os.Exit(m.Run())
}

// touch gives memory that is resident.
func touch(bytes int) []byte {
	memory := make([]byte, bytes)
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
	}
	return memory
}

// TestPeakIsOfTheProcessAlone launches from a process that is larger than what is
// measured.
func TestPeakIsOfTheProcessAlone(t *testing.T) {
	launcher := filepath.Join(t.TempDir(), "launch")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", launcher, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	mine := touch(2 * heldBytes)
	// Programs with the race detector sleep for a second before they end.
	command := exec.CommandContext(t.Context(), launcher, os.Args[0], "hold")
	command.Env = []string{"GORACE=atexit_sleep_ms=0"}
	text, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	var u usage
	if err := json.Unmarshal(text, &u); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	var told int64
	if _, err := fmt.Sscan(u.Output, &told); err != nil {
		t.Fatalf("output %q: %v", u.Output, err)
	}
	// The process may grow a little after it has told.
	if slack := int64(8 << 20); u.Peak < told-slack || u.Peak > told+slack {
		t.Errorf("a peak of %d bytes is measured, the process told %d", u.Peak, told)
	}
	if u.Floor <= 0 || u.Floor >= heldBytes/2 || u.CPU <= 0 || u.Wall <= 0 || u.ExitCode != 3 {
		t.Errorf("usage %+v", u)
	}
	runtime.KeepAlive(mine)
}
