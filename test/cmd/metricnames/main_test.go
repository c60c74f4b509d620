package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// repository writes a small one that is in order, with some files in place of
// its own.
func repository(t *testing.T, files map[string]string) string {
	t.Helper()
	all := map[string]string{
		"go.mod":              "module m",
		"a/metrics.go":        "package a\nvar a, b = \"labelstream_seen_total\", \"Not labelstream_other_total.\"\nvar c = \"labelstream_took_seconds\"",
		"a/metrics_test.go":   `package a; var name = "labelstream_tested"`,
		"test/go.mod":         "module n",
		"test/main.go":        `package main; var name = "labelstream_other_module"`,
		"README.md":           "",
		"CHANGELOG.md":        "`labelstream_former_total` is `labelstream_seen_total` now",
		"docs/operations.md":  "`labelstream_seen_total` and `labelstream_took_seconds`, of `/bin/labelstream`",
		"manifests/rule.yaml": "expr: rate(labelstream_took_seconds_bucket[5m]) / labelstream_took_seconds_count",
		"manifests/dash.json": `{"expr": "labelstream_took_seconds_sum > 0"}`,
	}
	for path, text := range files {
		all[path] = text
	}
	root := t.TempDir()
	for path, text := range all {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestCompare(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"all in order": {},
		"used and not declared": {
			files: map[string]string{
				"manifests/rule.yaml": "first: line\nexpr: labelstream_seen_bytes > labelstream_gone",
				"manifests/dash.json": `{"expr": "labelstream_tested + labelstream_other_module"}`,
				"README.md":           "`labelstream_seen_*`",
			},
			want: []string{
				"README.md:1: labelstream_seen_ is no metric of the code",
				"manifests/dash.json:1: labelstream_tested is no metric of the code",
				"manifests/dash.json:1: labelstream_other_module is no metric of the code",
				"manifests/rule.yaml:2: labelstream_seen_bytes is no metric of the code",
				"manifests/rule.yaml:2: labelstream_gone is no metric of the code",
			},
		},
		"declared and not documented": {
			files: map[string]string{"docs/operations.md": "`labelstream_seen_total`", "docs/daemon.md": "`labelstream_took_seconds`"},
			want:  []string{"a/metrics.go:3: labelstream_took_seconds is not in docs/operations.md"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := compare(repository(t, test.files))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("mistakes (-want +got):\n%s", diff)
			}
		})
	}
}
