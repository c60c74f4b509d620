// SPDX-License-Identifier: Apache-2.0

// Command demo shows labelstream at work: it fills a small API server of its own
// with what examples/ describes, runs labelstream's commands against that and a
// receiver, and prints what they say and what arrives. With -cluster=real it shows
// a backfill of a real control plane. Where KUBECONFIG is set it reads that cluster,
// sends nothing, and prints what would be sent.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"labelstream/test/loopback"
	"labelstream/test/receiver"
)

// examples lies beside this module.
const examples = "../examples"

func main() {
	cluster := flag.String("cluster", "", "real for a real control plane, which takes minutes to build")
	flag.Parse()
	loopback.Main("demo", func(ctx context.Context) error { return run(ctx, *cluster, os.Stdout, os.Stderr) })
}

// run prints to files as they are, so that labelstream finds out whether they are a
// terminal.
func run(ctx context.Context, cluster string, stdout, stderr io.Writer) error {
	dir, err := os.MkdirTemp("", "labelstream-demo-")
	if err != nil {
		return fmt.Errorf("make a directory for the demo: %w", err)
	}
	defer os.RemoveAll(dir)
	binary, err := product(ctx, dir)
	if err != nil {
		return err
	}
	d := &demo{binary: binary, dir: dir, stdout: stdout, stderr: stderr}
	switch {
	case os.Getenv("KUBECONFIG") != "":
		return d.readOwn(ctx)
	case cluster == "real":
		return d.showReal(ctx)
	case cluster == "":
		return d.tell(ctx)
	}
	return fmt.Errorf("cluster %q: write CLUSTER=real for a real control plane, KUBECONFIG=file for your own, or neither", cluster)
}

// product returns the path of labelstream: LABELSTREAM_BINARY, or one that is
// built now.
func product(ctx context.Context, dir string) (string, error) {
	if path := os.Getenv("LABELSTREAM_BINARY"); path != "" {
		return path, nil
	}
	path := filepath.Join(dir, "labelstream")
	if out, err := exec.CommandContext(ctx, "go", "build", "-C", "..", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build labelstream: %w\n%s", err, out)
	}
	return path, nil
}

type demo struct {
	binary, dir    string
	stdout, stderr io.Writer
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.stdout, "\n==> "+format+"\n", args...)
}

// readOwn shows what would be sent of the cluster that KUBECONFIG names.
func (d *demo) readOwn(ctx context.Context) error {
	d.say("reading the cluster of %s; nothing is changed and nothing is sent", os.Getenv("KUBECONFIG"))
	// What is the demo's own is no setting, which labelstream would refuse.
	env := slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "LABELSTREAM_BINARY=")
	})
	return d.execute(d.command(ctx, env, d.binary, "--once", "--dry-run"))
}

// command is one that prints where the demo does.
func (d *demo) command(ctx context.Context, env []string, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = d.stdout, d.stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	// labelstream may take 20 s to send what it holds.
	cmd.WaitDelay = 30 * time.Second
	return cmd
}

func (d *demo) execute(cmd *exec.Cmd) error {
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w", strings.Join(cmd.Args, " "), err)
	}
	return nil
}

// mustBeValid returns an error where nothing was received, or anything that breaks
// the protocol.
func mustBeValid(r *receiver.Server) error {
	if violations := r.Violations(); len(violations) > 0 {
		return fmt.Errorf("the receiver met remote_write that is not valid: %w", errors.Join(violations...))
	}
	if r.Samples() == 0 {
		return errors.New("labelstream succeeded, but the receiver got nothing")
	}
	return nil
}

// environment is that of labelstream's processes: these settings, and what tells a
// terminal's abilities.
func (d *demo) environment(settings []string) []string {
	return append(settings[:len(settings):len(settings)], "HOME="+d.dir,
		"PATH="+filepath.Dir(d.binary)+":"+os.Getenv("PATH"), "TERM="+cmp.Or(os.Getenv("TERM"), "dumb"), "NO_COLOR="+os.Getenv("NO_COLOR"))
}
