// SPDX-License-Identifier: Apache-2.0

package config

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the tables of docs/configuration.md anew")

const document = "../docs/configuration.md"

// tables are the places of the document where settings stand: those that follow
// the place before, up to the one that is named.
var tables = regexp.MustCompile(`(?s)(<!-- settings up to ([A-Z_]+) -->\n).*?(<!-- end of settings -->)`)

// TestConfigurationDocument wants every setting in the document, as the tags of
// the structs say it, and in their order.
func TestConfigurationDocument(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	left := rows()
	want := tables.ReplaceAllStringFunc(string(text), func(place string) string {
		parts := tables.FindStringSubmatch(place)
		last := slices.IndexFunc(left, func(row string) bool { return strings.Contains(row, "`"+prefix+"_"+parts[2]+"`") })
		if last < 0 {
			t.Errorf("%s: %s is no setting that is left for a table", document, parts[2])
			return place
		}
		table := "\n| setting | default | |\n|---|---|---|\n" + strings.Join(left[:last+1], "") + "\n"
		left = left[last+1:]
		return parts[1] + table + parts[3]
	})
	if len(left) > 0 {
		t.Errorf("%s has no table for\n%s", document, strings.Join(left, ""))
	}
	if *update && !t.Failed() {
		if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(string(text), "\n")); diff != "" {
		t.Errorf("%s is not what the settings say, run make docs (-want +got):\n%s", document, diff)
	}
}

// rows are the settings as lines of a table.
func rows() []string {
	var lines []string
	for _, s := range settingsOf(new(environment)) {
		value := s.tag("default")
		if value != "" {
			value = "`" + value + "`"
		}
		for _, other := range s.defaults()[1:] {
			value += "; " + other
		}
		lines = append(lines, fmt.Sprintf("| `%s_%s` | %s | %s. Accepted: %s |\n", prefix, s.name, value, s.tag("desc"), s.accepts()))
	}
	return lines
}

// variable is a setting in a text, or the end of its name behind another that
// begins in the same way.
var variable = regexp.MustCompile(`\b` + prefix + `_([A-Z0-9_]*[A-Z0-9])|…(_[A-Z0-9_]*[A-Z0-9])`)

// strangers are variables of the tests.
var strangers = []string{"BINARY", "SOAK"}

// TestDocumentsNameSettings wants every variable that a document names to be a
// setting. The change log may name those that are gone.
func TestDocumentsNameSettings(t *testing.T) {
	var files []string
	for _, pattern := range []string{"../*.md", "../docs/*.md", "../manifests/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	known := settingNames()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		names := slices.Concat(known, strangers)
		if filepath.Base(file) == "CHANGELOG.md" {
			names = slices.AppendSeq(names, maps.Keys(renamed))
		}
		for _, match := range variable.FindAllStringSubmatch(string(text), -1) {
			whole, name, suffix := match[0], match[1], match[2]
			isSetting := slices.Contains(names, name)
			endsOne := slices.ContainsFunc(names, func(name string) bool { return strings.HasSuffix("_"+name, suffix) })
			if suffix == "" && !isSetting || suffix != "" && !endsOne {
				t.Errorf("%s names %s, which is no setting", file, whole)
			}
		}
	}
}
