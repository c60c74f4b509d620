// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"os"
	"regexp"
	"testing"

	"sigs.k8s.io/yaml"
)

var promql = regexp.MustCompile("(?s)```promql\n(.*?)```")

// TestReadmeQueries asks promtool for what README's queries give at 30m of three pods:
// one that was relabelled a moment ago, one that is as it was, and one that lived for
// an instant.
func TestReadmeQueries(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	queries := promql.FindAllStringSubmatch(string(text), -1)
	if len(queries) != 2 {
		t.Fatalf("README has %d queries, want 2", len(queries))
	}
	type sample struct {
		Labels string  `json:"labels"`
		Value  float64 `json:"value"`
	}
	type test struct {
		Expr    string   `json:"expr"`
		At      string   `json:"eval_time"`
		Samples []sample `json:"exp_samples"`
	}
	series := func(series, values string) map[string]string {
		return map[string]string{"series": series, "values": values}
	}
	content, err := yaml.Marshal(map[string]any{"evaluation_interval": "1m", "tests": []any{map[string]any{
		"interval": "1m",
		"input_series": []any{
			series(`container_cpu_usage_seconds_total{namespace="shop", pod="web", container="web"}`, "0+30x60"),
			series(`container_cpu_usage_seconds_total{namespace="shop", pod="web", container="proxy"}`, "0+15x60"),
			series(`container_cpu_usage_seconds_total{namespace="shop", pod="web", container=""}`, "0+45x60"),
			series(`container_cpu_usage_seconds_total{namespace="shop", pod="db", container="db"}`, "0+60x60"),
			series(`kube_pod_labels{namespace="shop", pod="db", uid="1", label_team="data"}`, "1x60"),
			series(`kube_pod_labels{namespace="shop", pod="web", uid="2", label_team="shop", label_app="old"}`, "1x28"),
			series(`kube_pod_labels{namespace="shop", pod="web", uid="2", label_team="shop", label_app="new"}`, "_x28 1x30"),
			series(`kube_pod_labels{namespace="shop", pod="job", uid="3", label_team="data"}`, "_x9 1 stale"),
		},
		"promql_expr_test": []test{
			{queries[0][1], "30m", []sample{{`{label_team="data"}`, 1}, {`{label_team="shop"}`, 0.75}}},
			{queries[1][1], "30m", []sample{{`{label_team="data"}`, 2}, {`{label_team="shop"}`, 1}}},
		},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	file := t.TempDir() + "/readme_test.yaml"
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := promtool(t, mustReadRules(t), "test", "rules", file); err != nil {
		t.Errorf("promtool: %v\n%s", err, said)
	}
}
