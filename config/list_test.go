// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

func TestList(t *testing.T) {
	for value, want := range map[string]List{
		"": nil, " ,, ": nil, "a": {"a"}, " a , b ,, ": {"a", "b"}, " , \n ,": {",", ","},
		"a,b\nc": {"a,b", "c"}, "a\r\n\r\nb\r\n": {"a", "b"}, "a,b\n": {"a", "b"},
		"(?i)app,^x(?:y|z){2,3}$,": {"(?i)app", "^x(?:y|z){2,3}$"},
		"(a,b),c":                  {"(a,b)", "c"}, "(a,(b,c)),d": {"(a,(b,c))", "d"}, "a),b": {"a)", "b"}, "a(,b": {"a(,b"},
		"[(,],c": {"[(,]", "c"}, "[{],c": {"[{]", "c"}, "[],],c": {"[],]", "c"}, "[^],],c": {"[^],]", "c"}, "[^,],c": {"[^,]", "c"},
		`[\],],c`: {`[\],]`, "c"}, "[[:alpha:],],c": {"[[:alpha:],]", "c"}, "[[:alpha:]],c": {"[[:alpha:]]", "c"}, "[[:],c": {"[[:]", "c"},
		`a\,b,c`: {`a\,b`, "c"}, `a\\,b`: {`a\\`, "b"}, `\(a,b\)`: {`\(a`, `b\)`}, `\[a,b`: {`\[a`, "b"},
		`a\`: {`a\`}, "a[,b": {"a[,b"}, "[": {"["}, "[^": {"[^"}, `[\`: {`[\`},
	} {
		var got List
		if err := got.Decode(value); err != nil {
			t.Fatalf("Decode(%q): %v", value, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("Decode(%q): -want +got\n%s", value, d)
		}
	}
}

// FuzzList checks that nothing of a list gets lost but separators and the white
// space around items, and that an item of one list is a list of that item.
func FuzzList(f *testing.F) {
	for _, value := range []string{"a,b", "a\n b", "^.{1,20}$,[,],(a,b)", `a\,b\`, "[[:alpha:],],[^],]", " ,,\n", "\xff[\\"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		var items List
		if err := items.Decode(value); err != nil {
			t.Fatalf("Decode(%q): %v", value, err)
		}
		separator := ","
		if strings.Contains(strings.TrimSpace(value), "\n") {
			separator = "\n"
		}
		if got, want := bare(strings.Join(items, separator)), bare(value); got != want {
			t.Errorf("the items of %q are %q: %q remains, want %q", value, items, got, want)
		}
		for _, item := range items {
			if item == "" || item != strings.TrimSpace(item) {
				t.Errorf("item %q of %q is not trimmed", item, value)
			}
			if separator != "," {
				continue
			}
			if again := split(item); !slices.Equal(again, []string{item}) {
				t.Errorf("item %q of %q splits into %q", item, value, again)
			}
		}
	})
}

// bare returns value without what may separate items.
func bare(value string) string {
	return strings.Map(func(r rune) rune {
		if r == ',' || unicode.IsSpace(r) {
			return -1
		}
		return r
	}, value)
}
