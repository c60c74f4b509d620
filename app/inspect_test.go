// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"labelstream/app/inspect"
)

// runInspect returns the report, and the error of the run.
func runInspect(t *testing.T, cluster *fakeCluster, settings map[string]string, options inspect.Options) (*inspect.Report, error) {
	t.Helper()
	cfg := loadConfig(t, "http://127.0.0.1:1", settings)
	log, _ := logtest.NewNullLogger()
	var stdout, stderr bytes.Buffer
	options.Output = "json"
	err := Run(t.Context(), cfg, Options{
		Flags: Flags{Command: "inspect", Kubeconfig: writeKubeconfig(t, cluster.URL), Inspect: options}, Log: log, Stdout: &stdout, Stderr: &stderr,
	})
	if stdout.Len() == 0 {
		return nil, err
	}
	var report inspect.Report
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil {
		t.Fatalf("standard output %q: %v", &stdout, err)
	}
	return &report, err
}

// TestInspect reads all and sends nothing: there is no receiver.
func TestInspect(t *testing.T) {
	report, err := runInspect(t, newFakeCluster(t, "a", "b"), nil, inspect.Options{Kind: "pod"})
	if err != nil {
		t.Fatal(err)
	}
	wantKeys := []inspect.Key{{
		Key: "app", Kind: "pods", Source: "label", Objects: 2, Coverage: 100, Distinct: 2, Exactness: inspect.Exact,
		Longest: 1, Example: "a", Sent: true, Reason: inspect.Filter, Pattern: ".*",
	}}
	if diff := cmp.Diff(wantKeys, report.Keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	total := report.Total
	if total.Objects != 2 || total.Series != 2 || total.SamplesPerDay != 16 || total.Bytes != 2*121 {
		t.Errorf("total %+v", total)
	}
}

// TestInspectIncomplete says in the report and in the error what is missing.
func TestInspectIncomplete(t *testing.T) {
	broken := newFakeCluster(t)
	broken.broken = true
	for _, tt := range []struct {
		name     string
		settings map[string]string
		options  inspect.Options
		report   bool
		want     string
	}{
		{"a kind is missing", map[string]string{"LABELS_RESOURCES": "pods,rollouts.argoproj.io"}, inspect.Options{}, true,
			`LABELSTREAM_LABELS_RESOURCES: "rollouts.argoproj.io": the server has no such resource`},
		{"there is no time", map[string]string{"ONCE_TIMEOUT": "1s"}, inspect.Options{}, true, "not done within LABELSTREAM_ONCE_TIMEOUT (1s)"},
		{"another kind", nil, inspect.Options{Kind: "nodes"}, false, "--kind=nodes is none of the kinds that the settings choose"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cluster := newFakeCluster(t, "a")
			if tt.settings["ONCE_TIMEOUT"] != "" {
				cluster = broken
			}
			report, err := runInspect(t, cluster, tt.settings, tt.options)
			if err == nil || !strings.Contains(err.Error(), tt.want) || (report != nil) != tt.report {
				t.Fatalf("error %v, want %s; report %v", err, tt.want, report)
			}
			if report != nil && !strings.Contains(strings.Join(report.Notes, "\n"), "Not all was read: "+tt.want) {
				t.Errorf("notes %q, want %s", report.Notes, tt.want)
			}
		})
	}
}
