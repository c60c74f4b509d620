package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRunFlags(t *testing.T) {
	t.Setenv("LABELSTREAM_DESTINATION", "http://127.0.0.1:1/api/v1/write")
	tests := []struct {
		name           string
		args           []string
		code           int
		stdout, stderr string
	}{
		{"version", []string{"--version"}, 0, "labelstream dev (commit unknown, unknown)\n", ""},
		{"unknown flag", []string{"--twice"}, 2, "", "flag provided but not defined: -twice; --help lists the flags, commands and settings\n"},
		{"argument of a command", []string{"rbac", "now"}, 2, "", `"now" is neither a flag nor a command; --help lists the flags, commands and settings` + "\n"},
		{"command twice", []string{"rbac", "rbac"}, 2, "", `"rbac" is neither a flag nor a command; --help lists the flags, commands and settings` + "\n"},
		{"argument", []string{"--once", "now"}, 2, "", `"now" is neither a flag nor a command; --help lists the flags, commands and settings` + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), tt.args, &stdout, &stderr); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if diff := cmp.Diff([]string{tt.stdout, tt.stderr}, []string{stdout.String(), stderr.String()}); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
		})
	}
}

// TestFlagsAreDocumented wants docs/configuration.md to say of each flag what
// the help does.
func TestFlagsAreDocumented(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	document, err := os.ReadFile("docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	help := regexp.MustCompile(`(?m)^  -(.+)\n    \t(.+)$`).FindAllStringSubmatch(stdout.String(), -1)
	if len(help) == 0 {
		t.Fatal("the help has no flags")
	}
	for _, flag := range help {
		if row := fmt.Sprintf("| `--%s` | %s |", flag[1], flag[2]); !strings.Contains(string(document), row) {
			t.Errorf("docs/configuration.md lacks the line\n%s", row)
		}
	}
}

func TestRunHelpNamesFlagsAndSettings(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &stdout, &stderr); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"-once", "-dry-run", "-kubeconfig", "-version", "rbac", "LABELSTREAM_DESTINATION"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("the help lacks %s", want)
		}
	}
	if stderr.Len() > 0 {
		t.Errorf("stderr: %s", &stderr)
	}
}

func TestRunReportsAllMistakes(t *testing.T) {
	t.Setenv("LABELSTREAM_PAGE_SIZE", "many")
	t.Setenv("LABELSTREAM_DESTINATIONS", "http://collector/")
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"--once"}, &stdout, &stderr); code != exitUsage {
		t.Errorf("exit code %d, want %d", code, exitUsage)
	}
	for _, want := range []string{"LABELSTREAM_PAGE_SIZE", "LABELSTREAM_DESTINATION:", "LABELSTREAM_DESTINATIONS is not a setting"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("stderr lacks %q:\n%s", want, &stderr)
		}
	}
}

// Whatever is set, no secret is on any output: of the help, of wrong settings,
// or of a run that fails.
func TestRunTellsNoSecret(t *testing.T) {
	const canary = "canary"
	file := filepath.Join(t.TempDir(), "client.yaml")
	if err := os.WriteFile(file, []byte("bearer_token: *"+canary+"\nproxy_url: http://u:"+canary+"@host:port/"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	right := map[string]string{"DESTINATION": "http://u:" + canary + "@host/?token=" + canary, "HEADERS": "X-Key=" + canary}
	for _, tt := range []struct {
		name     string
		args     []string
		settings map[string]string
		code     int
	}{
		{"help", []string{"--help"}, right, 0},
		{"no cluster", []string{"--once"}, right, exitFailed},
		{"wrong URL", []string{"--once"}, map[string]string{"DESTINATION": "u:" + canary + "@host"}, exitUsage},
		{"wrong headers", []string{"--once"}, map[string]string{"HEADERS": canary + ",Host=" + canary}, exitUsage},
		{"wrong file", []string{"--once"}, map[string]string{"HTTP_CLIENT_CONFIG_FILE": file}, exitUsage},
		{"no setting", []string{"--once"}, map[string]string{"BEARER_TOKEN": canary}, exitUsage},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, value := range tt.settings {
				t.Setenv("LABELSTREAM_"+name, value)
			}
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), tt.args, &stdout, &stderr); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if told := stdout.String() + stderr.String(); strings.Contains(told, canary) || told == "" {
				t.Errorf("the output tells a secret, or nothing:\n%s", told)
			}
		})
	}
}
