// SPDX-License-Identifier: Apache-2.0

package config

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

type (
	// List is separated by newlines, or by commas outside brackets and braces.
	List []string
	// Pairs is a List of name=value.
	Pairs map[string]string
)

// Decode reads a list for envconfig. Items lose the white space around them;
// those of nothing else are dropped.
func (l *List) Decode(value string) error {
	*l = split(value)
	return nil
}

// Decode reads a list of name=value for envconfig, in which `\,` is a comma of
// the value. Its error names every item that cannot be a label.
func (p *Pairs) Decode(value string) error {
	pairs := make(Pairs)
	var invalid invalidValues
	for _, item := range split(value) {
		name, value, reason := pair(item)
		if pairs[name] != "" {
			reason = twice
		}
		if reason != "" {
			invalid = append(invalid, shown(item, reason))
			continue
		}
		pairs[name] = value
	}
	if invalid != nil {
		return invalid
	}
	*p = pairs
	return nil
}

const twice = "has a name that was given before"

// pair returns an item's two sides, or what is wrong with it.
func pair(item string) (name, value, reason string) {
	name, value, found := strings.Cut(item, "=")
	name = strings.TrimSpace(name)
	value = strings.ReplaceAll(strings.TrimSpace(value), `\,`, ",")
	switch {
	case !found || name == "" || value == "":
		return "", "", "is not name=value"
	case strings.HasPrefix(name, "__"):
		return "", "", "has a reserved name"
	case !utf8.ValidString(item):
		return "", "", "is not UTF-8"
	case strings.ContainsAny(name, decoration+" \t"):
		return "", "", "has a name with a quote or a space"
	}
	return name, value, ""
}

// split returns the items of a list: its lines where it has several, else what
// stands between its commas.
func split(value string) []string {
	value = strings.TrimSpace(value)
	parts := strings.Split(value, "\n")
	if len(parts) == 1 {
		parts = splitCommas(value)
	}
	var items []string
	for _, part := range parts {
		if part = strings.TrimSpace(part); part != "" {
			items = append(items, part)
		}
	}
	return items
}

// token is what splitCommas reads at once: an escaped character, a regular
// expression's character class (where a ] that comes first is a member, and which
// runs to the end where nothing closes it), or a character.
var token = regexp.MustCompile(`(?s)\\.|\[\^?\]?(?:\\.|\[:[^\]]*:\]|[^\]\\])*\]?|.`)

// splitCommas splits at the commas that are not escaped and not within (), [],
// {}. Brackets need not match: what is left open runs to the end.
func splitCommas(value string) []string {
	var parts []string
	start, depth := 0, 0
	for _, at := range token.FindAllStringIndex(value, -1) {
		switch value[at[0]:at[1]] {
		case "(", "{":
			depth++
		case ")", "}":
			depth = max(depth-1, 0)
		case ",":
			if depth == 0 {
				parts = append(parts, value[start:at[0]])
				start = at[1]
			}
		}
	}
	return append(parts, value[start:])
}
