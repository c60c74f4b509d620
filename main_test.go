// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
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
	t.Setenv("LABELSTREAM_NAMESPACES", "")
	const version, lists, takesNone = "labelstream dev (commit unknown, unknown)\n", "; --help lists the flags\n", " takes no argument, and %q is one\n"
	for _, tt := range []struct {
		args           string
		code           int
		stdout, stderr string
	}{
		{"--version", 0, version, ""},
		{"-version", 0, version, ""},
		{"version", 0, version, ""},
		{"--onse", 2, "", "unknown flag --onse; the closest is --once, and --help lists all\n"},
		{"--dest=x", 2, "", "unknown flag --dest; the closest is --destination, and --help lists all\n"},
		{"-x", 2, "", "unknown shorthand flag: 'x' in -x" + lists},
		{"--kubeconfig", 2, "", "flag needs an argument: --kubeconfig" + lists},
		{"chek", 2, "", "unknown command \"chek\"; the closest is check, and --help lists all\n"},
		{"--once now", 2, "", "unknown command \"now\"; the closest is once, and --help lists all\n"},
		{"rbac rbac", 2, "", fmt.Sprintf("labelstream rbac"+takesNone, "rbac")},
		{"version now", 2, "", fmt.Sprintf("labelstream version"+takesNone, "now")},
		{"completion tcsh", 2, "", "labelstream completion tcsh: want one of bash, zsh, fish\n"},
		{"completion", 2, "", "labelstream completion: want one of bash, zsh, fish\n"},
		{"once --no-send", 2, "", "labelstream once does not take --no-send; labelstream once --help lists its flags\n"},
		{"--kind pods", 2, "", "labelstream does not take --kind; labelstream --help lists its flags\n"},
		{"check -o xml", 2, "", "--output=\"xml\"; check has text, json\n"},
		{"-once --namespaces=shop -n a_b", 2, "", "--namespaces=\"a_b\"; want a list of namespace names\n"},
	} {
		code, stdout, stderr := runAll(t, strings.Fields(tt.args)...)
		if code != tt.code || stdout != tt.stdout || stderr != tt.stderr {
			t.Errorf("%s: exit code %d, output %q, %q; want %+v", tt.args, code, stdout, stderr, tt)
		}
	}
}

// TestFlagsAreDocumented wants docs/configuration.md to say of each command and of
// each flag what the help does, which is the same by both ways to ask for it.
func TestFlagsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	document := string(text)
	_, overview, _ := runAll(t, "--help")
	names := []string{""}
	for _, row := range regexp.MustCompile(`(?m)^  ([a-z]+)  +(.+)$`).FindAllStringSubmatch(overview, -1) {
		names = append(names, row[1])
		if want := fmt.Sprintf("| `labelstream %s` | %s |", row[1], row[2]); !strings.Contains(document, want) {
			t.Errorf("docs/configuration.md lacks the line\n%s", want)
		}
	}
	flags := 0
	for _, name := range names {
		code, help, stderr := runAll(t, strings.Fields("help "+name)...)
		if code != 0 || stderr != "" || !strings.Contains(help, "\nExamples:\n") && name != "version" {
			t.Errorf("help %s: exit code %d, stderr %q, and\n%s", name, code, stderr, help)
		}
		if _, same, _ := runAll(t, append(strings.Fields(name), "--help")...); name != "" && same != help {
			t.Errorf("%s --help is not help %[1]s:\n%s", name, same)
		}
		for _, flag := range regexp.MustCompile(`(?m)^  (?:-.,|   ) --(\S+(?: \S+)?)   +([^:\n]+)`).FindAllStringSubmatch(help, -1) {
			flags++
			if want := fmt.Sprintf("| `--%s` | %s", flag[1], flag[2]); !strings.Contains(document, want) {
				t.Errorf("docs/configuration.md lacks the line\n%s", want)
			}
		}
	}
	if len(names) != 8 || flags == 0 {
		t.Errorf("%d commands and %d flags", len(names), flags)
	}
}

// TestFlagsWin wants what flags set to be what runs, before the environment.
func TestFlagsWin(t *testing.T) {
	for _, name := range []string{"DESTINATION", "PRESET", "LABELS_RESOURCES", "ANNOTATIONS_RESOURCES", "LABELS_FILTERS", "LABELS_EXCLUDE", "NAMESPACES"} {
		t.Setenv("LABELSTREAM_"+name, "") // puts it back in the end
	}
	t.Setenv("LABELSTREAM_LABELS_RESOURCES", "pods")
	t.Setenv("LABELSTREAM_ANNOTATIONS_ENABLED", "true")
	code, stdout, stderr := runAll(t, strings.Fields("rbac --once --resources=nodes --resources=jobs --preset=mimir -n shop,bank --include=^a$ --exclude=b")...)
	if code != 0 || stderr != "" || strings.Contains(stdout, "pods") || strings.Count(stdout, "- jobs\n") != 2 || strings.Count(stdout, "- nodes\n") != 1 {
		t.Errorf("exit code %d, stderr %q, and the roles\n%s", code, stderr, stdout)
	}
	want := map[string]string{
		"DESTINATION": "", "PRESET": "mimir", "LABELS_RESOURCES": "nodes,jobs", "ANNOTATIONS_RESOURCES": "nodes,jobs",
		"LABELS_FILTERS": "^a$", "LABELS_EXCLUDE": "b", "NAMESPACES": "shop,bank",
	}
	for name, value := range want {
		if got := os.Getenv("LABELSTREAM_" + name); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	code, _, stderr = runAll(t, "rbac", "--resources=*")
	if lines := strings.Split(stderr, "\n"); code != exitUsage || !strings.HasPrefix(stderr, `--resources="*": name the kinds`) || len(lines) != 2 {
		t.Errorf("exit code %d, and %q", code, stderr)
	}
}

// TestCompletion wants bash to offer what the table has.
func TestCompletion(t *testing.T) {
	_, script, _ := runAll(t, "completion", "bash")
	for line, want := range map[string]string{
		"labelstream c":                    "check completion",
		"labelstream check --n":            "--no-send --namespaces",
		"labelstream check -n a -o ":       "text json",
		"labelstream inspect --output = c": "csv",
		"labelstream --preset m":           "mimir",
		"labelstream once --context ":      "",
		"labelstream help s":               "settings",
	} {
		words := strings.Split(line, " ")
		complete := fmt.Sprintf("%s\nCOMP_WORDS=(\"$@\") COMP_CWORD=%d; _labelstream; echo -n \"${COMPREPLY[*]}\"", script, len(words)-1)
		got, err := exec.Command("bash", append([]string{"-c", complete, "bash"}, words...)...).CombinedOutput()
		if err != nil || string(got) != want {
			t.Errorf("%q: %v, %q, want %q", line, err, got, want)
		}
	}
	_, zsh, _ := runAll(t, "completion", "zsh")
	_, fish, _ := runAll(t, "completion", "fish")
	if !strings.HasSuffix(zsh, script) || !strings.Contains(fish, "\ncomplete -c labelstream -n '__fish_seen_subcommand_from check' -l output -s o -xa 'text json' -d 'format of the output'\n") {
		t.Errorf("zsh has\n%s\nfish has\n%s", zsh, fish)
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
		{"help", "help settings", right, 0},
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
			code, stdout, stderr := runAll(t, strings.Fields(tt.arg)...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if told := stdout + stderr; strings.Contains(told, canary) || told == "" {
				t.Errorf("the output tells a secret, or nothing:\n%s", told)
			}
		})
	}
}
