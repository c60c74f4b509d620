package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	count    = regexp.MustCompile(`received: (\d+) series in \d+ requests`)
	sampleAt = regexp.MustCompile(`(?m) \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)
)

func TestDemo(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	t.Chdir("../..")
	t.Setenv("KUBECONFIG", "")
	var stdout, stderr bytes.Buffer
	if err := run(ctx, &stdout, &stderr); err != nil {
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
	err := run(t.Context(), &stdout, &stderr)
	want := "\n==> reading the cluster of /a/kubeconfig; nothing is changed and nothing is sent\n--once --dry-run /a/kubeconfig\n"
	if diff := cmp.Diff(want, stdout.String()); diff != "" || err != nil {
		t.Errorf("error %v, output (-want +got):\n%s%s", err, diff, &stderr)
	}
}
