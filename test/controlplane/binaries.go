package controlplane

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Version is that of the API server.
const Version = "v1.37.2"

const (
	module     = "labelstream/test"
	etcdName   = "etcd"
	serverName = "kube-apiserver"
)

// binaries returns the directory that holds kube-apiserver and etcd, and
// builds them first if no run before did. It lies in the user's cache, named
// after all that the binaries depend on; a file lock keeps parallel runs from
// building them twice.
func binaries(ctx context.Context, progress io.Writer) (string, error) {
	source, key, err := sources(ctx)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache for kube-apiserver and etcd: %w", err)
	}
	root := filepath.Join(cache, "labelstream")
	dir := filepath.Join(root, key)
	if complete(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", fmt.Errorf("make a cache for kube-apiserver and etcd: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(root, key+".lock"), progress)
	if err != nil {
		return "", err
	}
	defer unlock()
	if complete(dir) {
		return dir, nil
	}
	return dir, build(ctx, source, dir, progress)
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

func complete(dir string) bool {
	_, err := os.Stat(dir)
	return err == nil
}

// build makes dir with both binaries in it, all at once.
func build(ctx context.Context, source, dir string, progress io.Writer) error {
	fmt.Fprintln(progress, "building kube-apiserver and etcd from their Go modules (once, some minutes)")
	unfinished, err := os.MkdirTemp(filepath.Dir(dir), "build-")
	if err != nil {
		return fmt.Errorf("build kube-apiserver and etcd: %w", err)
	}
	defer os.RemoveAll(unfinished)
	major, minor, _ := strings.Cut(strings.TrimPrefix(Version, "v"), ".")
	minor, _, _ = strings.Cut(minor, ".")
	const version = "-X k8s.io/component-base/version."
	ldflags := []string{"-s -w", version + "gitVersion=" + Version, version + "gitMajor=" + major, version + "gitMinor=" + minor}
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags", strings.Join(ldflags, " "), "-o", unfinished,
		"k8s.io/kubernetes/cmd/kube-apiserver", "./cmd/etcd")
	cmd.Dir = source
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build kube-apiserver and etcd: %w\n%s", err, said.Bytes())
	}
	if err := os.Rename(unfinished, dir); err != nil {
		return fmt.Errorf("put kube-apiserver and etcd into the cache: %w", err)
	}
	return nil
}

// lock waits until no other process holds the file's lock, which ends with its
// holder at the latest.
func lock(ctx context.Context, path string, progress io.Writer) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the cache: %w", err)
	}
	for attempt := 0; ; attempt++ {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = file.Close() }, nil
		case !errors.Is(err, syscall.EWOULDBLOCK):
			_ = file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		case attempt == 0:
			fmt.Fprintln(progress, "waiting for another process that builds kube-apiserver and etcd")
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			_ = file.Close()
			return nil, fmt.Errorf("wait for another process that builds kube-apiserver and etcd: %w", context.Cause(ctx))
		}
	}
}
