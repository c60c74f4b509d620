package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"labelstream/test/controlplane"
)

// TestReadme runs the README's commands for a first try as they stand, in a shell:
// all but the build, whose result they are about, and with a receiver of its own.
func TestReadme(t *testing.T) {
	t.Parallel()
	p := ownPlane(t)
	p.namespace(t, "shop")
	p.create(t, "shop", "web", "1")
	j := newJournal(t)
	inv := invocation{plane: p, user: controlplane.Admin}
	script := firstTry(t, "http://localhost:9090/api/v1/write", j.URL())
	r := launchProgram(t, inv, "/bin/sh", "-c", script)
	j.await(t, "the pod from the backfill, and from the daemon", func(samples []sample) bool {
		pod := slices.DeleteFunc(slices.Clone(samples), func(s sample) bool { return !strings.HasPrefix(s.Series, "kube_pod_labels{") })
		return len(pod) == 2 && !slices.ContainsFunc(pod, func(s sample) bool { return s.Object != "web" })
	})
	d := r.serving(t)
	d.terminate(t)
	// head may cut the pod off.
	if out := r.stdout.String(); !strings.Contains(out, "kube_namespace_labels{") {
		t.Errorf("the dry run has printed\n%s", out)
	}
}

// firstTry is the script, which begins where bin/labelstream is. Its last command
// replaces the shell, so that it gets the shell's signals.
func firstTry(t *testing.T, destination, receiver string) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```sh\nmake build\n([^`]*\n)(bin/labelstream [^\n]*)\n```\n").FindStringSubmatch(string(text))
	if block == nil || !strings.Contains(block[1], destination) {
		t.Fatalf("the README has no commands from make build on, with the destination %s", destination)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(shared.binary, filepath.Join(dir, "bin", "labelstream")); err != nil {
		t.Fatal(err)
	}
	return "set -e\ncd '" + dir + "'\n" + strings.Replace(block[1], destination, receiver, 1) + "exec " + block[2] + "\n"
}
