// Command demo shows a backfill: it starts a real control plane on loopback,
// fills it with what examples/ describes, runs labelstream against a receiver,
// and prints what arrived. Where KUBECONFIG is set it reads that cluster
// instead, sends nothing, and prints what would be sent.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"labelstream/test/controlplane"
	"labelstream/test/loopback"
	"labelstream/test/receiver"
)

// examples lies beside this module.
const examples = "../examples"

// account is the user that examples/access.yaml gives rights to.
const account = "labelstream"

func main() {
	loopback.Main("demo", func(ctx context.Context) error { return run(ctx, os.Stdout, os.Stderr) })
}

func run(ctx context.Context, stdout, stderr io.Writer) error {
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
	if os.Getenv("KUBECONFIG") != "" {
		return d.print(ctx)
	}
	return d.show(ctx)
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

// print shows what would be sent of the cluster that KUBECONFIG names.
func (d *demo) print(ctx context.Context) error {
	d.say("reading the cluster of %s; nothing is changed and nothing is sent", os.Getenv("KUBECONFIG"))
	// What is the demo's own is no setting, which labelstream would refuse.
	env := slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "LABELSTREAM_BINARY=")
	})
	return d.labelstream(ctx, env, "--once", "--dry-run")
}

// show runs the whole demo, and stops what it has started.
func (d *demo) show(ctx context.Context) (err error) {
	begun := time.Now()
	d.say("starting etcd and kube-apiserver %s on loopback", controlplane.Version)
	plane, err := controlplane.Start(ctx, controlplane.Options{Users: []string{account}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plane.Stop()) }()
	r, err := receiver.Start(receiver.New(receiver.Options{}))
	if err != nil {
		return err
	}
	defer r.Down()

	d.say("creating the cluster that examples/ describes")
	if err := d.populate(ctx, plane); err != nil {
		return err
	}
	kubeconfig := filepath.Join(d.dir, "kubeconfig")
	if err := plane.WriteKubeconfig(kubeconfig, account); err != nil {
		return err
	}
	if err := d.backfill(ctx, kubeconfig, r.URL()); err != nil {
		return err
	}
	if err := d.report(r); err != nil {
		return err
	}
	d.say("done in %v; stopping the control plane", time.Since(begun).Round(100*time.Millisecond))
	return nil
}

// settings are those that the demo is run with. The destination comes last,
// since its port is another each time.
var settings = []string{
	"LABELSTREAM_LABELS_RESOURCES=pods,namespaces,nodes,services,deployments,cronjobs,rollouts.argoproj.io",
	"LABELSTREAM_LABELS_FILTERS=^app$,^team$,^environment$,^topology",
	"LABELSTREAM_ANNOTATIONS_ENABLED=true",
	"LABELSTREAM_ANNOTATIONS_RESOURCES=pods,namespaces",
	"LABELSTREAM_ANNOTATIONS_FILTERS=^owner$",
	"LABELSTREAM_NAMESPACES_EXCLUDE=default,kube-system,kube-public,kube-node-lease",
	"LABELSTREAM_ONCE_TIMEOUT=1m",
	"LABELSTREAM_STATUS_ADDRESS=127.0.0.1:0",
	"LABELSTREAM_LOG_FORMAT=text",
}

func (d *demo) backfill(ctx context.Context, kubeconfig, destination string) error {
	d.say("running labelstream --once")
	chosen := append(settings[:len(settings):len(settings)], "LABELSTREAM_DESTINATION="+destination)
	for _, setting := range chosen {
		fmt.Fprintln(d.stdout, "   ", setting)
	}
	fmt.Fprintln(d.stdout)
	return d.labelstream(ctx, append(chosen, "KUBECONFIG="+kubeconfig, "HOME="+d.dir), "--once")
}

func (d *demo) labelstream(ctx context.Context, env []string, args ...string) error {
	cmd := exec.CommandContext(ctx, d.binary, args...)
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = d.stdout, d.stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	// It may take 20 s to send what it holds.
	cmd.WaitDelay = 30 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run labelstream: %w", err)
	}
	return nil
}

// report prints what was received. It is an error to have received nothing, or
// anything that breaks the protocol.
func (d *demo) report(r *receiver.Server) error {
	if violations := r.Violations(); len(violations) > 0 {
		return fmt.Errorf("the receiver met remote_write that is not valid: %w", errors.Join(violations...))
	}
	if r.Samples() == 0 {
		return errors.New("labelstream succeeded, but the receiver got nothing")
	}
	d.say("received: %d series in %d requests", len(r.Series()), r.Accepted())
	return r.Print(d.stdout)
}
