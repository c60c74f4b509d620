// SPDX-License-Identifier: Apache-2.0

// Package e2e runs the built binary against a real API server and a receiver
// of remote_write, and compares what arrives with what the cluster holds.
package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"labelstream/test/cache"
	"labelstream/test/chart"
	"labelstream/test/controlplane"
	"labelstream/test/prometheus"
)

const (
	// maxUsers is how many users there are for tests to grant rights to.
	maxUsers = 100
	// patience bounds waits that end much sooner unless a test has failed.
	patience = 2 * time.Minute
)

// suite is what the tests share.
type suite struct {
	binary string
	// plane is the control plane of tests that leave it as it is.
	plane *plane
}

// shared is set by TestMain alone.
var shared suite

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "labelstream-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := shared.start(ctx, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if code != 0 {
		fmt.Fprintln(os.Stderr, "the logs of the control plane are kept in", shared.plane.KeepLogs())
		shared.plane.WriteLogs(os.Stderr, 30)
	}
	if err := shared.plane.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

func (s *suite) start(ctx context.Context, dir string) (err error) {
	if s.binary, err = binary(ctx, dir); err != nil {
		return err
	}
	if err = prometheus.Provide(ctx, os.Stderr, prometheus.Current, prometheus.Debian); err != nil {
		return err
	}
	for _, p := range []cache.Program{kubeStateMetrics.Program, victoriaMetrics.Program, chart.Helm} {
		if _, err = p.Path(ctx); err != nil {
			return err
		}
	}
	s.plane, err = newPlane(ctx)
	return err
}

// binary returns the path of the binary to test: LABELSTREAM_BINARY, or one
// that is built now.
func binary(ctx context.Context, dir string) (string, error) {
	if path := os.Getenv("LABELSTREAM_BINARY"); path != "" {
		return filepath.Abs(path)
	}
	path := filepath.Join(dir, "labelstream")
	out, err := exec.CommandContext(ctx, "go", "build", "-C", "../..", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build labelstream: %w\n%s", err, out)
	}
	return path, nil
}

// plane is a control plane with the administrator's clients.
type plane struct {
	*controlplane.ControlPlane
	client  *kubernetes.Clientset
	dynamic *dynamic.DynamicClient
	// users counts those that tests have taken.
	users atomic.Int32
}

func newPlane(ctx context.Context, flags ...string) (*plane, error) {
	var users []string
	for i := range maxUsers {
		users = append(users, user(int32(i)))
	}
	cp, err := controlplane.Start(ctx, controlplane.Options{Users: users, APIServerFlags: flags})
	if err != nil {
		return nil, err
	}
	config, err := cp.Config(controlplane.Admin)
	if err != nil {
		return nil, err
	}
	p := &plane{ControlPlane: cp}
	if p.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	config.ContentType = "application/vnd.kubernetes.protobuf"
	if p.client, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	return p, nil
}

func user(i int32) string { return fmt.Sprintf("user-%02d", i) }

// ownPlane is a control plane for a test that disturbs it, or needs flags of its
// own.
func ownPlane(t *testing.T, flags ...string) *plane {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p, err := newPlane(ctx, flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			p.WriteLogs(t.Output(), 30)
		}
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	return p
}
