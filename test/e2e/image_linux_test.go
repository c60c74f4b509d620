// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/test/controlplane"
	"labelstream/test/receiver"
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
	p.bindAccount(t, account, printedRoles(t, own, "--once"))
	config, err := p.Config(controlplane.Admin)
	if err != nil {
		t.Fatal(err)
	}
	server, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}

	// The receiver's authority is the only one that this image trusts.
	root := assemble(t, "GOARCH="+runtime.GOARCH, "CA_FILE="+authority)
	mount(t, filepath.Join(root, "var/run/secrets/kubernetes.io/serviceaccount"), map[string]string{
		"token": p.accountToken(t, account), "ca.crt": string(config.CAData), "namespace": account,
	})
	protect(t, root)
	before := contents(t, root)

	r := contained(t, root, nil, "--version")
	if want := "labelstream v1.2.3 (commit 0123abc, 2026-01-02T03:04:05Z)\n"; r.code != 0 || r.stdout != want || r.stderr != "" {
		t.Errorf("--version ends with %d and says %q %q, want %q", r.code, r.stdout, r.stderr, want)
	}
	// There is no destination.
	contained(t, root, nil, "--once").mustEndWith(t, 2)
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

// assemble makes what the image holds, and returns where it is. The variables are
// make's.
func assemble(t *testing.T, variables ...string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "rootfs")
	args := []string{"-C", "../..", "rootfs", "ROOTFS=" + root, "VERSION=v1.2.3", "COMMIT=0123abc", "DATE=2026-01-02T03:04:05Z"}
	cmd := exec.CommandContext(t.Context(), "make", append(args, variables...)...)
	// What the make that runs the tests was told is not meant for this one.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains([]string{"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"}, name)
	})
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, said)
	}
	return root
}

// contents are the files below a directory, with their modes and sums.
func contents(t *testing.T, root string) []string {
	t.Helper()
	var all []string
	tree := os.DirFS(root)
	err := fs.WalkDir(tree, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		sum := ""
		if !entry.IsDir() {
			content, err := fs.ReadFile(tree, path)
			if err != nil {
				return err
			}
			sum = fmt.Sprintf(" %x", sha256.Sum256(content))
		}
		all = append(all, info.Mode().String()+" "+path+sum)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// newTLSReceiver is a receiver behind TLS, and the file of the authority of its
// certificate.
func newTLSReceiver(t *testing.T) (r *receiver.Receiver, url, authority string) {
	t.Helper()
	r = receiver.New(receiver.Options{})
	server := httptest.NewTLSServer(r)
	t.Cleanup(func() {
		server.Close()
		for _, err := range r.Violations() {
			t.Errorf("remote_write: %v", err)
		}
	})
	dir := t.TempDir()
	mount(t, dir, map[string]string{"authority": string(certificateOf(server))})
	return r, server.URL + "/api/v1/write", filepath.Join(dir, "authority")
}

// mount writes files that everybody may read into a directory, new or not.
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
	change := func(ctx context.Context, mode string) {
		if said, err := exec.CommandContext(ctx, "chmod", "-R", mode, root).CombinedOutput(); err != nil {
			t.Errorf("chmod %s: %v\n%s", mode, err, said)
		}
	}
	change(t.Context(), "a-w")
	// The test's own context has ended.
	t.Cleanup(func() { change(context.Background(), "u+w") })
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
