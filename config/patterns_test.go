// SPDX-License-Identifier: Apache-2.0

package config

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPatternsThatMatchNoKey has patterns as other formats write them.
func TestPatternsThatMatchNoKey(t *testing.T) {
	for value, want := range map[string][]string{
		`"^team$"`:          {`"\"^team$\"": NO, write ^team$`},
		`'^team$'`:          {`"'^team$'": NO, write ^team$`},
		`"^team$,^app$"`:    {`"\"^team$": NO, write ^team$`, `"^app$\"": NO, write ^app$`},
		`'team|app'`:        {`"'team|app'": NO, write team|app`},
		"\ufeff^team$\napp": {`"\ufeff^team$": NO, write ^team$`},
		"- ^team$\n- app":   {`"- ^team$": NO, write ^team$`, `"- app": NO, write app`},
		`- "^team$"`:        {`"- \"^team$\"": NO, write ^team$`},
		`^app$ ^team$`:      {`"^app$ ^team$": NO, write ^app$,^team$`},
		`^app$\,^team$`:     {`"^app$\\,^team$": NO, write ^app$,^team$`},
		`/^team$/`:          {`"/^team$/": NO, write ^team$`},
		`/team/`:            {`"/team/": NO, write team`},
		`app=web`:           {`"app=web": NO`},
		`(ä|é)+`:            {`"(ä|é)+": NO`},
		`[^ -~]|[ ]`:        {`"[^ -~]|[ ]": NO`},
		`(a/){2}`:           {`"(a/){2}": NO`},
	} {
		var p Patterns
		err := p.Decode(value)
		if err == nil {
			t.Errorf("%s is accepted", value)
			continue
		}
		got := strings.ReplaceAll(err.Error(), "can match no key (letters, digits, . _ - and one /)", "NO")
		if d := cmp.Diff("="+strings.Join(want, ", ="), got); d != "" {
			t.Errorf("%s: -want +got\n%s", value, d)
		}
	}
}

func TestPatternsThatMatchSomeKey(t *testing.T) {
	for _, value := range []string{
		".*", "^", "$", "^$", "$^", "^team$", "(?i)^TEAM$", "(?m)^team$", "/team$", "^[^/]+/team$", `\bteam\b`, `\.io/`,
		"[[:alpha:]]", "[^a]", "ä?team", "(ä|team)", "x{0}", "(ä ){0,2}team", `^app\.kubernetes\.io/`, "a|b c", "(?s).", "(^a|b$)",
		"^.{1,20}$", "a-b_c", "",
	} {
		var p Patterns
		if err := p.Decode(value); err != nil {
			t.Errorf("%q: %v", value, err)
		}
	}
}

// TestUnmatched has patterns whose keys all match an earlier pattern too, or are
// excluded: they have matched.
func TestUnmatched(t *testing.T) {
	cfg := loaded(t, with(map[string]string{
		"LABELS_FILTERS": "^app,^app$,^team$,.*", "LABELS_EXCLUDE": "pp$,internal", "ANNOTATIONS_ENABLED": "true", "ANNOTATIONS_FILTERS": "owner",
	}))
	want := map[string][]string{
		"LABELSTREAM_LABELS_FILTERS": {"^app", "^app$", "^team$"}, "LABELSTREAM_LABELS_EXCLUDE": {"pp$", "internal"}, "LABELSTREAM_ANNOTATIONS_FILTERS": {"owner"},
	}
	if d := cmp.Diff(want, cfg.Unmatched()); d != "" {
		t.Errorf("before any key: -want +got\n%s", d)
	}
	cfg.Labels.Rank("app")
	cfg.Annotations.Enabled = false
	want = map[string][]string{"LABELSTREAM_LABELS_FILTERS": {"^team$"}, "LABELSTREAM_LABELS_EXCLUDE": {"internal"}}
	if d := cmp.Diff(want, cfg.Unmatched()); d != "" {
		t.Errorf("after app: -want +got\n%s", d)
	}
}

// FuzzMatchesNoKey wants no pattern refused that matches a key.
func FuzzMatchesNoKey(f *testing.F) {
	f.Add("^team$", "team")
	f.Add(`^a\.b/(c|d)+$|x`, "a.b/ccd")
	f.Add("(?i)K[^/]*$", "example.com/k-1")
	f.Add(`(^|/)team\b`, "x/team-a")
	f.Fuzz(func(t *testing.T, pattern, key string) {
		compiled, err := regexp.Compile(pattern)
		if err != nil || !regexp.MustCompile(`^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?$`).MatchString(key) {
			return
		}
		if compiled.MatchString(key) && matchesNoKey(pattern) {
			t.Errorf("%q matches %q, and is said to match no key", pattern, key)
		}
	})
}
