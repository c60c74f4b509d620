// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"labelstream/test/process"
)

type programs struct{ synthetic, sink, metalist, bare, launch, labelstream, versus string }

// build compiles what is measured and what it is measured with into the
// directory. LABELSTREAM_BINARY spares labelstream that.
func build(ctx context.Context, directory, versus string) (programs, error) {
	p := programs{labelstream: os.Getenv("LABELSTREAM_BINARY"), versus: versus}
	for _, one := range []struct {
		program           *string
		name, dir, source string
	}{
		{&p.synthetic, "synthetic", ".", "./cmd/synthetic"},
		{&p.sink, "sink", ".", "./cmd/sink"},
		{&p.metalist, "metalist", ".", "./cmd/metalist"},
		{&p.bare, "bare", ".", "./cmd/bare"},
		{&p.launch, "launch", ".", "./cmd/bench"},
		{&p.labelstream, "labelstream", "..", "."},
		{&p.versus, "versus", "", ""},
	} {
		built := *one.program
		if built == "" && one.source == "" {
			continue
		}
		if built == "" {
			built = filepath.Join(directory, one.name+".linked")
			if _, err := goTool(ctx, one.dir, "build", "-ldflags", "-s -w", "-o", built, one.source); err != nil {
				return p, err
			}
		}
		*one.program = filepath.Join(directory, one.name)
		if err := install(built, *one.program); err != nil {
			return p, fmt.Errorf("copy a program to measure: %w", err)
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
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	// The wrappers hide the files' own ways to copy, so the buffer is used.
	_, err = io.CopyBuffer(struct{ io.Writer }{target}, struct{ io.Reader }{source}, make([]byte, 32<<10))
	return err
}

// cleanEnvironment leaves out what would change a measured program: settings of
// the Go runtime and of labelstream, and proxies.
func cleanEnvironment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
}

// startHelper starts a program that says "listening on" and its URL in its first
// line, and returns both when it has.
func startHelper(ctx context.Context, log, program string, args ...string) (*process.Process, string, error) {
	// The log of an earlier run has another URL.
	_ = os.Remove(log)
	p, err := process.Start(log, program, args...)
	if err != nil {
		return nil, "", err
	}
	url := ""
	err = p.Await(ctx, func(context.Context) error {
		line, found := strings.CutPrefix(string(process.Tail(log, 1)), "listening on ")
		if !found {
			return errors.New("it has not said its URL")
		}
		url = strings.TrimSpace(line)
		return nil
	})
	if err != nil {
		p.Kill()
	}
	return p, url, err
}

// readMachine describes where the figures come from, without its name.
func readMachine() string {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	memory := process.Field("/proc/meminfo", "MemTotal")
	if kibibytes, err := strconv.ParseFloat(strings.TrimSuffix(memory, " kB"), 64); err == nil {
		memory = fmt.Sprintf("%.1f GiB", kibibytes/(1<<20))
	}
	return fmt.Sprintf("%s, %d cores; memory %s; Linux %s; %s",
		process.Field("/proc/cpuinfo", "model name"), runtime.NumCPU(), memory, strings.TrimSpace(string(kernel)), runtime.Version())
}
