package controlplane

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// process is a child that ends when it is killed, or with its parent.
type process struct {
	name string
	log  string
	cmd  *exec.Cmd
	// done is closed when the process has ended and was waited for.
	done chan struct{}
}

// spawn starts a program whose output is appended to a log.
func spawn(log, program string, args ...string) (*process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open a log: %w", err)
	}
	p := &process{name: filepath.Base(program), log: log, cmd: exec.Command(program, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = file, file
	p.cmd.SysProcAttr = endWithParent()
	started := make(chan error)
	go func() {
		defer close(p.done)
		defer file.Close()
		// The kernel takes the end of the thread that started a child for the
		// end of its parent, so this thread has to stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		<-p.done
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return p, nil
}

// kill ends the process and waits for it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// tail returns the last lines of a log, or why there are none.
func tail(path string, lines int) []byte {
	text, err := os.ReadFile(path)
	if err != nil {
		return []byte(err.Error() + "\n")
	}
	rest := bytes.TrimRight(text, "\n")
	at := len(rest)
	for range lines {
		at = bytes.LastIndexByte(rest[:at], '\n')
		if at < 0 {
			return text
		}
	}
	return text[at+1:]
}
