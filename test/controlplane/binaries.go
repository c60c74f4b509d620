// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"labelstream/test/cache"
)

// Version is that of the API server.
const Version = "v1.37.2"

const (
	module      = "labelstream/test"
	etcdName    = "etcd"
	serverName  = "kube-apiserver"
	managerName = "kube-controller-manager"
)

// binaries returns the directory that holds kube-apiserver, kube-controller-manager and
// etcd, and builds them first if no run before did. It is named after all that the
// binaries depend on.
func binaries(ctx context.Context) (string, error) {
	source, key, err := sources(ctx)
	if err != nil {
		return "", err
	}
	return cache.Dir(ctx, cache.Entry{
		Key: key, Holds: "kube-apiserver, kube-controller-manager and etcd",
		Fill: func(ctx context.Context, dir string) error { return build(ctx, source, dir) },
	})
}

// sources returns the directory of this module and a key that changes when its
// binaries would.
func sources(ctx context.Context) (dir, key string, err error) {
	out, err := output(exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Path}}\n{{.Dir}}"))
	if err != nil {
		return "", "", fmt.Errorf("find the module %s: %w", module, err)
	}
	path, dir, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if path != module {
		return "", "", fmt.Errorf("the working directory is in the module %q; run this in %s", path, module)
	}
	version, err := output(exec.CommandContext(ctx, "go", "env", "GOVERSION"))
	if err != nil {
		return "", "", fmt.Errorf("ask for Go's version: %w", err)
	}
	sum, err := os.ReadFile(filepath.Join(dir, "go.sum"))
	if err != nil {
		return "", "", fmt.Errorf("read what the binaries depend on: %w", err)
	}
	hash := sha256.New()
	fmt.Fprintf(hash, "%s %s %s %s\n%s", version, runtime.GOOS, runtime.GOARCH, Version, sum)
	return dir, fmt.Sprintf("%.8x", hash.Sum(nil)), nil
}

func output(cmd *exec.Cmd) ([]byte, error) {
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil, fmt.Errorf("%s: %w\n%s", cmd, err, exit.Stderr)
	}
	return out, err
}

// build puts the binaries into dir.
func build(ctx context.Context, source, dir string) error {
	fmt.Fprintln(os.Stderr, "building kube-apiserver, kube-controller-manager and etcd from their Go modules (once, some minutes)")
	major, minor, _ := strings.Cut(strings.TrimPrefix(Version, "v"), ".")
	minor, _, _ = strings.Cut(minor, ".")
	const version = "-X k8s.io/component-base/version."
	ldflags := []string{"-s -w", version + "gitVersion=" + Version, version + "gitMajor=" + major, version + "gitMinor=" + minor}
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags", strings.Join(ldflags, " "), "-o", dir,
		"k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes/cmd/kube-controller-manager", "./cmd/etcd")
	cmd.Dir = source
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the control plane: %w\n%s", err, said)
	}
	return nil
}
