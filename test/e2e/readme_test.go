// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"labelstream/test/controlplane"
	"labelstream/test/prometheus"
)

// written is the destination that documents name.
const written = "http://localhost:9090/api/v1/write"

// TestReadme runs the README's commands for one's own cluster as they stand, in a
// shell: all but the build, whose result they are about, and with a receiver of its
// own. While the daemon runs, so do the commands of all documents that ask it
// something or run labelstream.
func TestReadme(t *testing.T) {
	t.Parallel()
	p := ownPlane(t)
	p.namespace(t, "shop")
	p.create(t, "shop", "web", "1")
	j := newJournal(t)
	inv := invocation{plane: p, user: controlplane.Admin}
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	if err := errors.Join(os.Mkdir(bin, 0o700), os.Symlink(shared.binary, filepath.Join(bin, "labelstream"))); err != nil {
		t.Fatal(err)
	}
	script := "set -e\ncd '" + dir + "'\n" + strings.ReplaceAll(firstTry(t), written, j.URL())
	r := launchProgram(t, inv, "/bin/sh", "-c", script)
	j.await(t, "the pod from the backfill, and from the daemon", func(samples []sample) bool {
		pod := slices.DeleteFunc(slices.Clone(samples), func(s sample) bool { return !strings.HasPrefix(s.Series, "kube_pod_labels{") })
		return len(pod) == 2 && !slices.ContainsFunc(pod, func(s sample) bool { return s.Object != "web" })
	})
	// Each command has served a status; the daemon came last.
	served := servedAt.FindAllStringSubmatch(r.stderr.String(), -1)
	env := append(inv.with(settings{"DESTINATION": j.URL()}).environment(t), "PATH="+bin+":"+os.Getenv("PATH"))
	local := strings.NewReplacer("localhost:8080", served[len(served)-1][1], written, j.URL())
	for _, command := range documented(t) {
		cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", local.Replace(command))
		cmd.Dir, cmd.Env = dir, env
		out, err := cmd.Output()
		if err != nil || len(out) == 0 && !strings.Contains(command, "> ") {
			t.Errorf("%s: %v, it prints %q", command, err, out)
		}
	}
	r.signal(t, syscall.SIGTERM)
	r.wait(t).mustSucceed(t)
	// head may cut the pod off.
	if out := r.stdout.String(); !strings.Contains(out, "kube_namespace_labels{") {
		t.Errorf("the dry run has printed\n%s", out)
	}
}

// TestReadmeVersions wants README to name what the tests run.
func TestReadmeVersions(t *testing.T) {
	text := mustRead(t, "../../README.md")
	for name, version := range map[string]string{
		"Kubernetes":         strings.TrimPrefix(controlplane.Version, "v"),
		"Prometheus":         "3." + strings.TrimPrefix(prometheus.Version, "v0.3"),
		"VictoriaMetrics":    strings.TrimPrefix(victoriaMetrics.Version, "v"),
		"kube-state-metrics": strings.TrimPrefix(kubeStateMetrics.Version, "v"),
	} {
		if !strings.Contains(text, "| "+name+" | "+version) {
			t.Errorf("README does not say that it was tested with %s %s", name, version)
		}
	}
	if !strings.Contains(text, "Debian's "+prometheus.DebianVersion) {
		t.Errorf("README does not say that it was tested with Debian's %s", prometheus.DebianVersion)
	}
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// firstTry is the README's script, which begins where bin/labelstream is. Its last
// command replaces the shell, so that it gets the shell's signals.
func firstTry(t *testing.T) string {
	t.Helper()
	block := regexp.MustCompile("(?s)```sh\nmake build\n([^`]*\n)(bin/labelstream [^\n]*)\n```\n").FindStringSubmatch(mustRead(t, "../../README.md"))
	if block == nil || !strings.Contains(block[1], written) {
		t.Fatalf("the README has no commands from make build on, with the destination %s", written)
	}
	return block[1] + "exec " + block[2] + "\n"
}

var (
	shellBlock = regexp.MustCompile("(?ms)^ *```sh\n(.*?)^ *```$")
	// runnable needs neither kubectl, nor pods that run, nor the webhook.
	runnable  = regexp.MustCompile(`(?m)^ *((?:labelstream|curl|cut) .*)$`)
	elsewhere = regexp.MustCompile(`kubectl|webhook`)
)

// documented are the commands of documents that can be run as they stand.
func documented(t *testing.T) (commands []string) {
	t.Helper()
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, "../../README.md") {
		for _, block := range shellBlock.FindAllStringSubmatch(mustRead(t, file), -1) {
			for _, line := range runnable.FindAllStringSubmatch(block[1], -1) {
				if !elsewhere.MatchString(line[1]) {
					commands = append(commands, line[1])
				}
			}
		}
	}
	if len(commands) < 10 {
		t.Errorf("documents have %d commands to run: the test does not find them", len(commands))
	}
	return commands
}
