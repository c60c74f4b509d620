package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runAll runs the program to its end.
func runAll(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestRunFlags(t *testing.T) {
	t.Setenv("LABELSTREAM_DESTINATION", "http://127.0.0.1:1/api/v1/write")
	const usage = "; --help lists the flags, commands and settings\n"
	for _, tt := range []struct {
		args           string
		code           int
		stdout, stderr string
	}{
		{"--version", 0, "labelstream dev (commit unknown, unknown)\n", ""},
		{"--twice", 2, "", "flag provided but not defined: -twice" + usage},
		{"rbac now", 2, "", `"now" is neither a flag nor a command` + usage},
		{"rbac rbac", 2, "", `"rbac" is neither a flag nor a command` + usage},
		{"--once now", 2, "", `"now" is neither a flag nor a command` + usage},
	} {
		code, stdout, stderr := runAll(t, strings.Fields(tt.args)...)
		if code != tt.code || stdout != tt.stdout || stderr != tt.stderr {
			t.Errorf("%s: exit code %d, output %q, %q; want %+v", tt.args, code, stdout, stderr, tt)
		}
	}
}

// TestFlagsAreDocumented wants docs/configuration.md to say of each flag what
// the help does, and the help to name commands and settings, too.
func TestFlagsAreDocumented(t *testing.T) {
	code, stdout, stderr := runAll(t, "--help")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, stderr %q", code, stderr)
	}
	document, err := os.ReadFile("docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range regexp.MustCompile(`(?m)^  -(.+)\n    \t(.+)$`).FindAllStringSubmatch(stdout, -1) {
		if row := fmt.Sprintf("| `--%s` | %s |", flag[1], flag[2]); !strings.Contains(string(document), row) {
			t.Errorf("docs/configuration.md lacks the line\n%s", row)
		}
	}
	for _, want := range []string{"\n  -once\n", "\n  -dry-run\n", "\n  -kubeconfig ", "\n  -version\n", "rbac", "LABELSTREAM_DESTINATION"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the help lacks %s", want)
		}
	}
}

func TestRunReportsAllMistakes(t *testing.T) {
	t.Setenv("LABELSTREAM_PAGE_SIZE", "many")
	t.Setenv("LABELSTREAM_DESTINATIONS", "http://collector/")
	code, _, stderr := runAll(t, "--once")
	if code != exitUsage {
		t.Errorf("exit code %d, want %d", code, exitUsage)
	}
	for _, want := range []string{"LABELSTREAM_PAGE_SIZE", "LABELSTREAM_DESTINATION:", "LABELSTREAM_DESTINATIONS is not a setting"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("stderr lacks %q:\n%s", want, stderr)
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
		arg      string
		settings map[string]string
		code     int
	}{
		{"help", "--help", right, 0},
		{"no cluster", "--once", right, exitFailed},
		{"wrong URL", "--once", map[string]string{"DESTINATION": "u:" + canary + "@host"}, exitUsage},
		{"wrong headers", "--once", map[string]string{"HEADERS": canary + ",Host=" + canary}, exitUsage},
		{"wrong file", "--once", map[string]string{"HTTP_CLIENT_CONFIG_FILE": file}, exitUsage},
		{"no setting", "--once", map[string]string{"BEARER_TOKEN": canary}, exitUsage},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, value := range tt.settings {
				t.Setenv("LABELSTREAM_"+name, value)
			}
			code, stdout, stderr := runAll(t, tt.arg)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if told := stdout + stderr; strings.Contains(told, canary) || told == "" {
				t.Errorf("the output tells a secret, or nothing:\n%s", told)
			}
		})
	}
}
