// SPDX-License-Identifier: Apache-2.0

// Package process runs the servers that tests need, as children that do not
// outlive the test.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

const pollInterval = 50 * time.Millisecond

// Process is a child that ends when it is killed, or, on Linux, with its
// parent.
type Process struct {
	name string
	log  string
	cmd  *exec.Cmd
	// done is closed when the process has ended and was waited for.
	done chan struct{}
}

// Start starts a program whose output is appended to a log file.
func Start(log, program string, args ...string) (*Process, error) {
	return StartWith(nil, log, program, args...)
}

// StartWith starts a program in an environment, nil for that of this process.
func StartWith(environment []string, log, program string, args ...string) (*Process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open a log: %w", err)
	}
	p := &Process{name: filepath.Base(program), log: log, cmd: exec.Command(program, args...), done: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = environment, file, file
	ended, err := Begin(p.cmd)
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	go func() {
		defer close(p.done)
		defer file.Close()
		<-ended
	}()
	return p, nil
}

// Begin starts a command that, on Linux, ends with its parent. The channel gets
// the error of its Wait.
func Begin(cmd *exec.Cmd) (<-chan error, error) {
	cmd.SysProcAttr = endWithParent()
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		// The kernel takes the end of the thread that started a child for the
		// end of its parent, so this thread has to stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return ended, nil
}

// Pid is the number of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Kill ends the process without a word, as a crash would, and waits for it.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop asks the process to end and waits for it. The error is that it did not end
// with success, with the end of the log.
func (p *Process) Stop() error {
	// A process that has ended already cannot be told, and its state says how.
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.done
	if !p.cmd.ProcessState.Success() {
		return fmt.Errorf("stop %s: %s; its log ends:\n%s", p.name, p.cmd.ProcessState, Tail(p.log, 20))
	}
	return nil
}

// Await repeats a check until it succeeds. The error is that the process has
// ended or the context has, with the end of the log.
func (p *Process) Await(ctx context.Context, check func(context.Context) error) error {
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		failure := error(nil)
		select {
		case <-p.done:
			failure = errors.New(p.cmd.ProcessState.String())
		case <-ctx.Done():
			failure = fmt.Errorf("%w (last: %w)", context.Cause(ctx), err)
		case <-time.After(pollInterval):
			continue
		}
		return fmt.Errorf("wait for %s to be ready: %w; its log ends:\n%s", p.name, failure, Tail(p.log, 20))
	}
}

// Tail returns the last lines of a log, or why there are none.
func Tail(path string, lines int) []byte {
	text, err := os.ReadFile(path)
	if err != nil {
		return []byte(err.Error() + "\n")
	}
	all := bytes.SplitAfter(text, []byte("\n"))
	// Behind the last line break there is nothing, or one more line.
	return bytes.Join(all[max(0, len(all)-lines-1):], nil)
}
