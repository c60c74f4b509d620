// Command launch runs a command, and prints in JSON what it took.
//
// It is for the memory. A process starts its life as a copy of the one that starts
// it, sharing its memory until exec, and Linux counts the peak of that memory as
// the new process's own (ru_maxrss survives exec). A program that measures grows
// as it works; this one holds almost nothing, and tells how much that is. VmHWM of
// /proc would be free of this, but it is gone when the process has ended, and the
// peak may come at the end.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"labelstream/test/process"
)

// usage is what the process took.
type usage struct {
	CPU, Wall time.Duration
	Peak      int64 // bytes
	// Floor is the peak of this program when it had started the process, in bytes:
	// less than that cannot be measured.
	Floor    int64
	ExitCode int
	Output   string
}

func main() {
	u, err := launch(os.Args[1:])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(u)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "launch:", err)
		os.Exit(1)
	}
}

func launch(command []string) (u usage, err error) {
	if len(command) == 0 {
		return u, errors.New("give a program and its arguments")
	}
	// The child is to be killed with this process, and the kernel means the thread
	// by that.
	runtime.LockOSThread()
	var output bytes.Buffer
	child := exec.Command(command[0], command[1:]...)
	child.Stdout, child.Stderr = &output, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	start := time.Now()
	if err := child.Start(); err != nil {
		return u, err
	}
	// What it is after the start is at least what the child began with.
	own, failed := process.AccountOf(os.Getpid())
	err = child.Wait()
	wall := time.Since(start)
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) || failed != nil {
		return u, errors.Join(err, failed)
	}
	state := child.ProcessState
	return usage{
		CPU: state.UserTime() + state.SystemTime(), Wall: wall, Peak: state.SysUsage().(*syscall.Rusage).Maxrss << 10,
		Floor: own.Peak, ExitCode: state.ExitCode(), Output: output.String(),
	}, nil
}
