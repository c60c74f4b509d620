package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
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

// install copies a program in pieces of 32 KiB, as an image is unpacked. Of a file
// that was written in large pieces, or into mapped memory as the linker does it, the
// page cache has larger folios, and the kernel maps up to 20 MiB more of it.
func install(from, to string) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy a program to measure: %w", err)
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return fmt.Errorf("copy a program to measure: %w", err)
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	// Without their own ways to copy, the buffer is used.
	if _, err := io.CopyBuffer(struct{ io.Writer }{target}, struct{ io.Reader }{source}, make([]byte, 32<<10)); err != nil {
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
