package config

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

type (
	// List is separated by newlines, or by commas outside brackets and braces.
	List []string
	// Patterns is a List of Go regular expressions.
	Patterns []*regexp.Regexp
	// Pairs is a List of name=value.
	Pairs map[string]string
)

// Decode reads a list for envconfig. Items lose the white space around them;
// those of nothing else are dropped.
func (l *List) Decode(value string) error {
	*l = split(value)
	return nil
}

// Decode compiles a list of patterns for envconfig. Its error names every
// pattern that does not compile.
func (p *Patterns) Decode(value string) error {
	var patterns Patterns
	var wrong wrongValues
	for _, item := range split(value) {
		pattern, reason := compile(item)
		if reason != "" {
			wrong = append(wrong, wrongValue{shown: item, reason: reason})
			continue
		}
		patterns = append(patterns, pattern)
	}
	if wrong != nil {
		return wrong
	}
	*p = patterns
	return nil
}

// compile returns the pattern, or what is wrong with it.
func compile(item string) (pattern *regexp.Regexp, reason string) {
	pattern, err := regexp.Compile(item)
	if bad, ok := errors.AsType[*syntax.Error](err); ok {
		return nil, fmt.Sprintf("%s: %q", bad.Code, bad.Expr)
	}
	if err != nil {
		return nil, err.Error()
	}
	// No key holds a comma, so such a pattern would silently match nothing.
	if len(splitCommas(item)) > 1 {
		return nil, "separated by newlines and by commas"
	}
	return pattern, ""
}

func (p Patterns) matchAny(key string) bool {
	for _, pattern := range p {
		if pattern.MatchString(key) {
			return true
		}
	}
	return false
}

// Decode reads a list of name=value for envconfig, in which `\,` is a comma of
// the value. Its error names every item that cannot be a label.
func (p *Pairs) Decode(value string) error {
	pairs := make(Pairs)
	var wrong wrongValues
	for _, item := range split(value) {
		name, value, reason := pair(item)
		if _, twice := pairs[name]; twice && reason == "" {
			reason = "has a name that was given before"
		}
		if reason != "" {
			wrong = append(wrong, wrongValue{shown: item, reason: reason})
			continue
		}
		pairs[name] = value
	}
	if wrong != nil {
		return wrong
	}
	*p = pairs
	return nil
}

// pair returns an item's two sides, or what is wrong with it.
func pair(item string) (name, value, reason string) {
	name, value, found := strings.Cut(item, "=")
	name = strings.TrimSpace(name)
	value = strings.ReplaceAll(strings.TrimSpace(value), `\,`, ",")
	switch {
	case !found:
		return "", "", "has no ="
	case name == "":
		return "", "", "has no name"
	case value == "":
		return "", "", "has no value"
	case strings.HasPrefix(name, "__"):
		return "", "", "has a reserved name"
	case !utf8.ValidString(item):
		return "", "", "is not UTF-8"
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

// splitCommas splits at the commas that are not escaped and not within (), [],
// {}. Within [] it reads what a regular expression's character class reads, for
// `[(]` opens nothing. Brackets need not match: what is left open runs to the
// end.
func splitCommas(value string) []string {
	var parts []string
	start, depth := 0, 0
	for i := 0; i < len(value); i++ {
		switch value[i] {
		case '\\':
			i++
		case '[':
			i += classLen(value[i:]) - 1
		case '(', '{':
			depth++
		case ')', '}':
			depth = max(depth-1, 0)
		case ',':
			if depth == 0 {
				parts = append(parts, value[start:i])
				start = i + 1
			}
		}
	}
	return append(parts, value[start:])
}

// classLen returns the length of the character class that value begins with,
// all of value where it does not end. A ] that comes first is a member.
func classLen(value string) int {
	i := len("[")
	if strings.HasPrefix(value[i:], "^") {
		i++
	}
	if strings.HasPrefix(value[i:], "]") {
		i++
	}
	for i < len(value) {
		switch {
		case value[i] == ']':
			return i + 1
		case value[i] == '\\':
			i += 2
		case strings.HasPrefix(value[i:], "[:"):
			i += namedLen(value[i:])
		default:
			i++
		}
	}
	return len(value)
}

// namedLen returns the length of the [:name:] that value begins with, or of its
// bracket where there is no end to it.
func namedLen(value string) int {
	name := value[len("[:"):]
	if end := strings.Index(name, ":]"); end >= 0 {
		return len("[:") + end + len(":]")
	}
	return len("[")
}
