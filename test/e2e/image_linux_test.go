package e2e

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/test/controlplane"
)

// imageUser is who the image runs as.
const imageUser = 65532

// TestImageRuns runs what the image holds as a pod would: with nothing else in its
// file system than that and the token of its service account, of which it can
// change nothing.
func TestImageRuns(t *testing.T) {
	t.Parallel()
	const account = "image"
	p := shared.plane
	p.namespace(t, account)
	p.pods(t, 1, func(int) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: account, Name: "web"} })
	s, destination, authority := newTLSReceiver(t)
	own := settings{"NAMESPACES": account, "POD_NAMESPACE": account, "DESTINATION": destination}
	p.bindAccount(t, account, printedRoles(t, account, own, "--once"))
	config, err := p.Config(controlplane.Admin)
	if err != nil {
		t.Fatal(err)
	}
	server, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}

	// The receiver's authority is the only one that this image trusts.
	root := assemble(t, "../..", "GOARCH="+runtime.GOARCH, "CA_FILE="+authority)
	mount(t, filepath.Join(root, "var/run/secrets/kubernetes.io/serviceaccount"), map[string]string{
		"token": p.accountToken(t, account), "ca.crt": string(config.CAData), "namespace": account,
	})
	protect(t, root)
	before := contents(t, root)

	r := contained(t, root, nil, "--version")
	if want := "labelstream v1.2.3 (commit 0123abc, 2026-01-02T03:04:05Z)\n"; r.code != 0 || r.stdout != want || r.stderr != "" {
		t.Errorf("--version ends with %d and says %q %q, want %q", r.code, r.stdout, r.stderr, want)
	}
	contained(t, root, []string{
		"KUBERNETES_SERVICE_HOST=" + server.Hostname(), "KUBERNETES_SERVICE_PORT=" + server.Port(),
		"LABELSTREAM_STATUS_ADDRESS=127.0.0.1:0", "LABELSTREAM_NAMESPACES=" + account, "LABELSTREAM_DESTINATION=" + destination,
	}, "--once").mustSucceed(t)
	compareSeries(t, s.All(), []string{
		`cloudzero_namespace_labels{"label_kubernetes.io/metadata.name"="image",namespace="image",resource_type="namespace"}`,
		`cloudzero_pod_labels{namespace="image",pod="web",resource_type="pod"}`,
	})
	if diff := cmp.Diff(before, contents(t, root)); diff != "" {
		t.Errorf("the file system has changed (-before +after):\n%s", diff)
	}
}

// mount writes files that everybody may read into a new directory.
func mount(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// protect takes the right to write from all below a directory, whoever owns it,
// until the test ends.
func protect(t *testing.T, root string) {
	t.Helper()
	all := func(change func(mode fs.FileMode) fs.FileMode) error {
		return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			return os.Chmod(path, change(info.Mode().Perm()))
		})
	}
	if err := all(func(mode fs.FileMode) fs.FileMode { return mode &^ 0o222 }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := all(func(mode fs.FileMode) fs.FileMode { return mode | 0o200 }); err != nil {
			t.Error(err)
		}
	})
}

// contained runs the image's binary to its end, with root as its whole file
// system and as the image's user, of whom there is a user namespace where the
// tests do not run as root.
func contained(t *testing.T, root string, env []string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/labelstream", args...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "/", slices.Concat([]string{"HOME=/"}, env), &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: imageUser, Gid: imageUser}
	} else {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: imageUser, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: imageUser, HostID: os.Getegid(), Size: 1}}
	}
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatalf("run the image's binary in %s, as root or in a user namespace, one of which must be allowed here: %v", root, err)
	}
	return result{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
}
