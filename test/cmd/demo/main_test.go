// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	count    = regexp.MustCompile(`received: (\d+) series in \d+ requests`)
	sampleAt = regexp.MustCompile(`(?m) \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)
)

// varies is what differs from one run to the next, or from one cluster to another, in
// README too: ports, uids, times of day, of samples and of reading.
var varies = regexp.MustCompile(`127\.0\.0\.1:\d+|uid="[^"]*"|\[\d\d:\d\d:\d\d\]|} 1 \d{13}|\d+\.\d\d +\d+ +yes`)

// TestDemo wants a terminal to show what README's first block does, from the first
// command to the exit code.
func TestDemo(t *testing.T) {
	t.Chdir("../..")
	t.Setenv("KUBECONFIG", "")
	t.Setenv("TERM", "dumb")
	screen, terminal, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer screen.Close()
	output := make(chan string)
	go func() {
		text, _ := io.ReadAll(screen) // it ends with an error on Linux
		output <- strings.ReplaceAll(string(text), "\r\n", "\n")
	}()
	err = errors.Join(run(t.Context(), "", terminal, terminal), terminal.Close())
	got := <-output
	if err != nil {
		t.Fatalf("%v\n%s", err, got)
	}
	_, got, _ = strings.Cut(got, "LABELSTREAM_LOG_FORMAT=text\n\n")
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, want, _ := strings.Cut(string(readme), "```console\n")
	want, _, _ = strings.Cut(want, "```\n")
	if diff := cmp.Diff(varies.ReplaceAllString(want, "…"), varies.ReplaceAllString(got, "…")); diff != "" {
		t.Errorf("output (-README +demo):\n%s", diff)
	}
}

// TestRealCluster wants the series of all kinds, annotations included.
func TestRealCluster(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	t.Chdir("../..")
	t.Setenv("KUBECONFIG", "")
	var stdout, stderr bytes.Buffer
	if err := run(ctx, "real", &stdout, &stderr); err != nil {
		t.Fatalf("%v\n%s%s", err, &stdout, &stderr)
	}
	_, got, found := strings.Cut(stdout.String(), "\n==> received")
	got, _, done := strings.Cut("==> received"+got, "\n==> done in ")
	if !found || !done {
		t.Fatalf("the output is not whole:\n%s", &stdout)
	}
	want, err := os.ReadFile("cmd/demo/testdata/received.txt")
	if err != nil {
		t.Fatal(err)
	}
	// How the series are spread over requests is the sender's business.
	got = count.ReplaceAllString(sampleAt.ReplaceAllString(got, ""), "received: $1 series")
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

// TestOwnCluster wants a dry run with the settings of the environment, and not the
// demo's own variable.
func TestOwnCluster(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "labelstream")
	if err := os.WriteFile(binary, []byte("#!/bin/sh\necho $* $KUBECONFIG $LABELSTREAM_BINARY\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", "/a/kubeconfig")
	t.Setenv("LABELSTREAM_BINARY", binary)
	var stdout, stderr bytes.Buffer
	err := run(t.Context(), "", &stdout, &stderr)
	want := "\n==> reading the cluster of /a/kubeconfig; nothing is changed and nothing is sent\n--once --dry-run /a/kubeconfig\n"
	if diff := cmp.Diff(want, stdout.String()); diff != "" || err != nil {
		t.Errorf("error %v, output (-want +got):\n%s%s", err, diff, &stderr)
	}
}
