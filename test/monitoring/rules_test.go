// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"labelstream/test/prometheus"
)

func mustReadRules(t *testing.T) *Rules {
	t.Helper()
	rules, err := ReadRules(filepath.Join(Dir, "prometheusrule.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// promtool runs it in a directory with the rules in alerts.yaml and their tests.
func promtool(t *testing.T, rules *Rules, args ...string) (said string, err error) {
	t.Helper()
	// The first run on a machine builds it.
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	program, err := prometheus.Promtool(ctx, os.Stderr)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = t.TempDir()
	err = errors.Join(err, rules.Write(filepath.Join(cmd.Dir, "alerts.yaml")), os.CopyFS(cmd.Dir, os.DirFS("testdata")))
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestRules(t *testing.T) {
	if said, err := promtool(t, mustReadRules(t), "check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml"); err != nil {
		t.Errorf("promtool check rules: %v\n%s", err, said)
	}
}

// TestAlerts runs the cases of all alerts, and demands that those of each notice
// where it fires never or always.
func TestAlerts(t *testing.T) {
	if said, err := promtool(t, mustReadRules(t), "test", "rules", "alerts_test.yaml"); err != nil {
		t.Errorf("promtool test rules: %v\n%s", err, said)
	}
	for i, rule := range mustReadRules(t).Alerts() {
		t.Run(rule.Alert, func(t *testing.T) {
			t.Parallel()
			for what, expr := range map[string]string{"never": "vector(1) < 0", "always": "vector(1)"} {
				rules := mustReadRules(t)
				rules.Groups[0].Rules[i].Expr = expr
				said, err := promtool(t, rules, "test", "rules", "alerts_test.yaml")
				if err == nil || !strings.Contains(said, "alertname: "+rule.Alert+", ") {
					t.Errorf("the cases pass, or fail by another alert, where this one fires %s: %v\n%s", what, err, said)
				}
			}
		})
	}
}

// TestRunbooks finds the section that each alert names.
func TestRunbooks(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range mustReadRules(t).Alerts() {
		want := "https://git.example.com/labelstream/blob/main/docs/operations.md#" + strings.ToLower(rule.Alert)
		if got := rule.Annotations["runbook_url"]; got != want {
			t.Errorf("the runbook of %s is %q, want %q", rule.Alert, got, want)
		}
		if !strings.Contains(string(text), "\n### "+rule.Alert+"\n") {
			t.Errorf("docs/operations.md has no section %s", rule.Alert)
		}
	}
}
