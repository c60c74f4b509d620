package main

import (
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
)

// launchCommand, as the first argument, makes this program a launcher.
const launchCommand = "launch"

// usage is what a finished process took.
type usage struct {
	CPU      time.Duration // user and system
	Wall     time.Duration
	PeakRSS  int64 // bytes
	ExitCode int
	// LauncherPeak is the peak of the launcher's own memory when it started the
	// process, in bytes: less than that cannot be measured.
	LauncherPeak int64
}

// launchProcess runs a command through a launcher: this program again, which
// starts the command, waits for it and tells its resource usage.
//
// The detour is for the memory. A process starts its life as a copy of the one
// that starts it, sharing its memory until exec, and Linux counts the peak of
// that memory as the new process's own (ru_maxrss survives exec). This
// process grows as it works. A launcher is new, holds almost nothing, and tells
// how much that is. VmHWM of /proc would be free of this, but it is gone when
// the process has ended, and the peak may come at the end.
func launchProcess(ctx context.Context, environment []string, program string, args ...string) (usage, string, error) {
	self, err := os.Executable()
	if err != nil {
		return usage{}, "", fmt.Errorf("find the launcher: %w", err)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return usage{}, "", fmt.Errorf("start the launcher: %w", err)
	}
	defer reader.Close()
	var output, errs tail
	command := exec.CommandContext(ctx, self, append([]string{launchCommand, program}, args...)...)
	command.Env = append(cleanEnvironment(), environment...)
	command.Stdout, command.Stderr = &output, &errs
	command.ExtraFiles = []*os.File{writer}
	err = command.Start()
	writer.Close()
	if err != nil {
		return usage{}, "", fmt.Errorf("start the launcher: %w", err)
	}
	var u usage
	// The pipe holds the few bytes of a usage, so the launcher never waits for us.
	waited := command.Wait()
	decoded := json.NewDecoder(reader).Decode(&u)
	name := filepath.Base(program)
	if waited != nil || decoded != nil {
		return u, "", fmt.Errorf("launch %s: %w\n%s", name, errors.Join(waited, decoded, context.Cause(ctx)), &errs)
	}
	if u.ExitCode != 0 {
		return u, "", fmt.Errorf("%s ended with exit code %d:\n%s", name, u.ExitCode, &errs)
	}
	if u.PeakRSS <= u.LauncherPeak {
		return u, "", fmt.Errorf("measure %s: its peak memory of %d bytes is not more than the launcher's %d", name, u.PeakRSS, u.LauncherPeak)
	}
	return u, output.String(), nil
}

// cleanEnvironment leaves out what would change a measured program: settings of
// the Go runtime and of labelstream, and proxies.
func cleanEnvironment() []string {
	clean := []string{}
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			clean = append(clean, name+"="+value)
		}
	}
	return clean
}

// launch is the launcher: it runs the command and writes its usage, in JSON, to
// file descriptor 3. It gives its own exit code.
func launch(command []string) int {
	const usageDescriptor = 3
	syscall.CloseOnExec(usageDescriptor)
	// The child is to be killed with the launcher, and the kernel means the
	// thread by that.
	runtime.LockOSThread()
	child := exec.Command(command[0], command[1:]...)
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	start := time.Now()
	if err := child.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// What it is after the start is at least what the child began with.
	own, err := ownPeak()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	waited := child.Wait()
	wall := time.Since(start)
	var exit *exec.ExitError
	if waited != nil && !errors.As(waited, &exit) {
		fmt.Fprintln(os.Stderr, waited)
		return 1
	}
	u := usage{
		CPU:          child.ProcessState.UserTime() + child.ProcessState.SystemTime(),
		Wall:         wall,
		PeakRSS:      child.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10,
		ExitCode:     child.ProcessState.ExitCode(),
		LauncherPeak: own,
	}
	if err := json.NewEncoder(os.NewFile(usageDescriptor, "usage")).Encode(u); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// ownPeak is the peak of this process's resident memory, in bytes.
func ownPeak() (int64, error) { return statusField(os.Getpid(), "VmHWM") }
