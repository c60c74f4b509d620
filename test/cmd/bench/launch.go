// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"labelstream/test/process"
)

// launched is what a process took that ran to its end.
type launched struct {
	CPU, Wall time.Duration
	Peak      int64 // bytes
	// Floor is the peak of the launcher when it had started the process, in bytes:
	// less than that cannot be measured.
	Floor    int64
	ExitCode int
	Output   string
}

// launch runs a program to its end, through the launcher: this program, with the
// argument "launch".
//
// That is for the memory. A process starts its life as a copy of the one that starts
// it, sharing its memory until exec, and Linux counts the peak of that memory as
// the new process's own (ru_maxrss survives exec). A program that measures grows
// as it works; the launcher holds almost nothing, and tells how much that is. VmHWM
// of /proc would be free of this, but it is gone when the process has ended, and the
// peak may come at the end.
func launch(ctx context.Context, launcher string, environment []string, program string, args ...string) (l launched, err error) {
	var output, errs bytes.Buffer
	command := exec.CommandContext(ctx, launcher, append([]string{"launch", program}, args...)...)
	command.Env = append(cleanEnvironment(), environment...)
	command.Stdout, command.Stderr = &output, &errs
	err = command.Run()
	if err == nil {
		err = json.Unmarshal(output.Bytes(), &l)
	}
	name := filepath.Base(program)
	switch {
	case err != nil:
		return l, fmt.Errorf("launch %s: %w\n%s", name, errors.Join(err, context.Cause(ctx)), &errs)
	case l.ExitCode != 0:
		return l, fmt.Errorf("%s ended with exit code %d:\n%s", name, l.ExitCode, &errs)
	case l.Peak <= l.Floor:
		return l, fmt.Errorf("measure %s: its peak memory of %d bytes is not more than the launcher's %d", name, l.Peak, l.Floor)
	}
	return l, nil
}

// runLaunched is the launcher's side: it runs a command, and prints in JSON what
// that took.
func runLaunched(command []string) error {
	// The child is to be killed with this process, and the kernel means the thread
	// by that.
	runtime.LockOSThread()
	var output bytes.Buffer
	child := exec.Command(command[0], command[1:]...)
	child.Stdout, child.Stderr = &output, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	start := time.Now()
	if err := child.Start(); err != nil {
		return err
	}
	// What it is after the start is at least what the child began with.
	own, failed := process.AccountOf(os.Getpid())
	err := child.Wait()
	wall := time.Since(start)
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) || failed != nil {
		return errors.Join(err, failed)
	}
	state := child.ProcessState
	return json.NewEncoder(os.Stdout).Encode(launched{
		CPU: state.UserTime() + state.SystemTime(), Wall: wall, Peak: state.SysUsage().(*syscall.Rusage).Maxrss << 10,
		Floor: own.Peak, ExitCode: state.ExitCode(), Output: output.String(),
	})
}
