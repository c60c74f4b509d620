// SPDX-License-Identifier: Apache-2.0

// Package controlplane runs a real etcd and a real kube-apiserver on loopback
// ports, built from their Go modules, for tests and demonstrations.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"labelstream/test/loopback"
	"labelstream/test/process"
)

// Admin is the user that may do everything, by the group system:masters.
const Admin = "admin"

// Options chooses how a control plane runs.
type Options struct {
	// Users are further names to log in as. They have no rights until a test
	// grants them some; RBAC is on.
	Users []string
	// APIServerFlags come after the flags that are always set, and override them.
	APIServerFlags []string
}

// ControlPlane is a running etcd and API server. Its methods may be called
// from any goroutine.
type ControlPlane struct {
	opts Options
	bin  string
	dir  string

	etcdPort, peerPort, port int

	mu       sync.Mutex
	etcd     *process.Process
	server   *process.Process
	manager  *process.Process
	keepLogs bool
}

// Start builds the binaries if no run before did (some minutes),
// starts them, and returns when the API server is ready (some seconds). The
// context bounds Start alone; the caller ends the processes with Stop, and on
// Linux they end with the caller too. An error holds the end of the log of the
// process that failed.
func Start(ctx context.Context, opts Options) (*ControlPlane, error) {
	bin, err := binaries(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "labelstream-controlplane-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the control plane: %w", err)
	}
	c := &ControlPlane{opts: opts, bin: bin, dir: dir}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *ControlPlane) start(ctx context.Context) error {
	if err := c.writeCredentials(); err != nil {
		return err
	}
	ports, err := loopback.FreePorts(3)
	if err != nil {
		return err
	}
	c.etcdPort, c.peerPort, c.port = ports[0], ports[1], ports[2]
	if c.etcd, err = c.spawnEtcd(); err != nil {
		return err
	}
	if err := c.awaitEtcd(ctx); err != nil {
		return err
	}
	if c.server, err = c.spawnServer(); err != nil {
		return err
	}
	return c.awaitServer(ctx, c.server)
}

// Kill ends the API server without a word, as a crash would, and returns when
// it has ended. Etcd keeps running.
func (c *ControlPlane) Kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server != nil {
		c.server.Kill()
		c.server = nil
	}
}

// Restart kills the API server if it still runs, starts it on the same port
// with the same certificate, and returns when it is ready.
func (c *ControlPlane) Restart(ctx context.Context) error {
	c.Kill()
	server, err := c.spawnServer()
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.server = server
	c.mu.Unlock()
	return c.awaitServer(ctx, server)
}

// StartControllers starts a kube-controller-manager with these controllers, such as
// "deployment-controller". It does not wait until they work. Stop ends it.
func (c *ControlPlane) StartControllers(names ...string) error {
	kubeconfig := c.path("controllers.kubeconfig")
	if err := c.WriteKubeconfig(kubeconfig, Admin); err != nil {
		return err
	}
	manager, err := process.Start(c.logPath(managerName), filepath.Join(c.bin, managerName),
		"--kubeconfig="+kubeconfig, "--controllers="+strings.Join(names, ","), "--leader-elect=false", "--secure-port=0")
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.manager = manager
	return nil
}

// KeepLogs makes Stop leave the logs where they are, and returns where that is.
func (c *ControlPlane) KeepLogs() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keepLogs = true
	return c.dir
}

// WriteLogs writes the last lines of the processes' logs.
func (c *ControlPlane) WriteLogs(w io.Writer, lines int) {
	for _, name := range []string{etcdName, serverName, managerName} {
		fmt.Fprintf(w, "==> the end of the log of %s\n%s", name, process.Tail(c.logPath(name), lines))
	}
}

// Stop ends the processes, returns when they have ended, and removes their
// files.
func (c *ControlPlane) Stop() error {
	c.Kill()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.manager != nil {
		c.manager.Kill()
		c.manager = nil
	}
	if c.etcd != nil {
		c.etcd.Kill()
		c.etcd = nil
	}
	remove := c.dir
	if c.keepLogs {
		remove = c.path("etcd")
	}
	if err := os.RemoveAll(remove); err != nil {
		return fmt.Errorf("remove the files of the control plane: %w", err)
	}
	return nil
}

func (c *ControlPlane) path(name string) string { return filepath.Join(c.dir, name) }

func (c *ControlPlane) logPath(name string) string { return c.path(name + ".log") }

func address(scheme string, port int) string { return fmt.Sprintf("%s://127.0.0.1:%d", scheme, port) }
