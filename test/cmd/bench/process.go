package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// programs are the paths of the binaries.
type programs struct{ synthetic, sink, metalist, bare, labelstream string }

// build compiles what is measured and what it is measured with into the
// directory. LABELSTREAM_BINARY spares labelstream that.
func build(ctx context.Context, directory string, withoutProduct bool) (programs, error) {
	p := programs{labelstream: os.Getenv("LABELSTREAM_BINARY")}
	for _, one := range []struct {
		program   *string
		name, dir string
		source    string
	}{
		{&p.synthetic, "synthetic", ".", "./cmd/synthetic"},
		{&p.sink, "sink", ".", "./cmd/sink"},
		{&p.metalist, "metalist", ".", "./cmd/metalist"},
		{&p.bare, "bare", ".", "./cmd/bare"},
		{&p.labelstream, "labelstream", "..", "."},
	} {
		if one.program == &p.labelstream && withoutProduct {
			continue
		}
		built := *one.program
		if built == "" {
			built = filepath.Join(directory, one.name+".linked")
			command := exec.CommandContext(ctx, "go", "build", "-o", built, one.source)
			command.Dir = one.dir
			if output, err := command.CombinedOutput(); err != nil {
				return p, fmt.Errorf("build %s (run this in the directory of the test module): %w\n%s", one.name, err, output)
			}
		}
		*one.program = filepath.Join(directory, one.name)
		if err := install(built, *one.program); err != nil {
			return p, err
		}
	}
	return p, nil
}

// install copies a program. The linker writes into mapped memory, which leaves a
// file in the page cache of which the kernel maps some MiB more than of one that
// was written or read, as one of an image is.
func install(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("copy a program to measure: %w", err)
	}
	if err := os.WriteFile(to, text, 0o755); err != nil {
		return fmt.Errorf("copy a program to measure: %w", err)
	}
	return nil
}

// helper is a process that serves while others are measured.
type helper struct {
	command *exec.Cmd
	url     string
	errors  *tail
	drained chan struct{} // closed when its output has ended
}

// startHelper starts a program that says "listening on" and its URL in its first
// line, and returns when it has.
func startHelper(ctx context.Context, program string, args ...string) (*helper, error) {
	command := exec.CommandContext(ctx, program, args...)
	// Should this process be killed, nobody else would end the helper.
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	h := &helper{command: command, errors: &tail{}, drained: make(chan struct{})}
	command.Stderr = h.errors
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(program), err)
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(program), err)
	}
	reader := bufio.NewReader(output)
	line, _ := reader.ReadString('\n')
	url, found := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	go func() {
		defer close(h.drained)
		_, _ = io.Copy(io.Discard, reader)
	}()
	if !found {
		return nil, fmt.Errorf("start %s: it said %q instead of its URL: %w", filepath.Base(program), line, h.stop())
	}
	h.url = url
	return h, nil
}

// stop asks the helper to end and waits for it.
func (h *helper) stop() error {
	// A process that has ended already cannot be told, and Wait says why it did.
	_ = h.command.Process.Signal(syscall.SIGTERM)
	<-h.drained
	if err := h.command.Wait(); err != nil {
		return fmt.Errorf("stop %s: %w\n%s", filepath.Base(h.command.Path), err, h.errors)
	}
	return nil
}

// tail keeps the end of what is written to it.
type tail struct{ text []byte }

const tailBytes = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	if over := len(t.text) - tailBytes; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(bytes.TrimSpace(t.text)) }
