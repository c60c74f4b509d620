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

// received is what the demo prints last, without the samples' times.
const received = `
==> received: 24 series
cloudzero_cronjob_labels{label_app="reports",label_team="data",namespace="analytics",resource_type="cronjob",workload="nightly-report"} 1
cloudzero_deployment_labels{label_app="api",label_team="checkout",namespace="production",resource_type="deployment",workload="api"} 1
cloudzero_deployment_labels{label_app="web",label_team="platform",namespace="production",resource_type="deployment",workload="web"} 1
cloudzero_namespace_annotations{label_owner="data@example.com",namespace="analytics",resource_type="namespace"} 1
cloudzero_namespace_annotations{label_owner="platform@example.com",namespace="production",resource_type="namespace"} 1
cloudzero_namespace_annotations{label_owner="qa@example.com",namespace="staging",resource_type="namespace"} 1
cloudzero_namespace_labels{label_environment="prod",label_team="data",namespace="analytics",resource_type="namespace"} 1
cloudzero_namespace_labels{label_environment="prod",label_team="platform",namespace="production",resource_type="namespace"} 1
cloudzero_namespace_labels{label_environment="staging",label_team="qa",namespace="staging",resource_type="namespace"} 1
cloudzero_node_labels{label_team="platform","label_topology.kubernetes.io/zone"="eu-central-1a",node="node-a-1",resource_type="node"} 1
cloudzero_pod_annotations{label_owner="frontend@example.com",namespace="production",pod="web-6d5f7c9b8-2xkq7",resource_type="pod"} 1
cloudzero_pod_annotations{label_owner="frontend@example.com",namespace="production",pod="web-6d5f7c9b8-9wz4m",resource_type="pod"} 1
cloudzero_pod_annotations{namespace="analytics",pod="nightly-report-29381940-v7c2d",resource_type="pod"} 1
cloudzero_pod_annotations{namespace="production",pod="api-7f8d9c6b5-h4n2t",resource_type="pod"} 1
cloudzero_pod_annotations{namespace="staging",pod="web-5c8b7d6f4-k8j5p",resource_type="pod"} 1
cloudzero_pod_labels{label_app="api",label_team="checkout",namespace="production",pod="api-7f8d9c6b5-h4n2t",resource_type="pod"} 1
cloudzero_pod_labels{label_app="reports",label_team="data",namespace="analytics",pod="nightly-report-29381940-v7c2d",resource_type="pod"} 1
cloudzero_pod_labels{label_app="web",label_team="platform",namespace="production",pod="web-6d5f7c9b8-2xkq7",resource_type="pod"} 1
cloudzero_pod_labels{label_app="web",label_team="platform",namespace="production",pod="web-6d5f7c9b8-9wz4m",resource_type="pod"} 1
cloudzero_pod_labels{label_app="web",label_team="qa",namespace="staging",pod="web-5c8b7d6f4-k8j5p",resource_type="pod"} 1
cloudzero_rollout_argoproj_io_labels{label_app="web",label_team="qa",namespace="staging",resource_type="rollout.argoproj.io",workload="web"} 1
cloudzero_service_labels{label_app="api",label_team="checkout",namespace="production",resource_type="service",workload="api"} 1
cloudzero_service_labels{label_app="web",label_team="platform",namespace="production",resource_type="service",workload="web"} 1
cloudzero_service_labels{label_app="web",label_team="qa",namespace="staging",resource_type="service",workload="web"} 1
`

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
	got, _, done := strings.Cut("\n==> received"+got, "\n==> done in ")
	if !found || !done {
		t.Fatalf("the output is not whole:\n%s", &stdout)
	}
	// How the series are spread over requests is the sender's business.
	withoutTimes := func(text string) string {
		return count.ReplaceAllString(sampleAt.ReplaceAllString(text, ""), "received: $1 series")
	}
	if diff := cmp.Diff(withoutTimes(received), withoutTimes(got)); diff != "" {
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
