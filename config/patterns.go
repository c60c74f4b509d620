// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync/atomic"
)

// Pattern is a Go regular expression.
type Pattern struct {
	*regexp.Regexp
	// matched says that it has matched a key.
	matched atomic.Bool
}

// Patterns is a List of Go regular expressions.
type Patterns []*Pattern

// first returns the index of the first pattern that matches somewhere in a key, -1
// where none does. It tries all of them: each remembers whether it has matched.
func (p Patterns) first(key string) int {
	first := -1
	for i, pattern := range slices.Backward(p) {
		if pattern.MatchString(key) {
			pattern.matched.Store(true)
			first = i
		}
	}
	return first
}

// Match reports whether any of the patterns matches somewhere in a key.
func (p Patterns) Match(key string) bool { return p.first(key) >= 0 }

// Unmatched returns the patterns of what is enabled that have matched no key so far,
// by their variable. It leaves out the defaults.
func (c *Config) Unmatched() map[string][]string {
	var env environment
	if c.Labels.Enabled {
		env.Labels = labelSource(c.Labels)
	}
	if c.Annotations.Enabled {
		env.Annotations = annotationSource(c.Annotations)
	}
	env.Config.InheritNamespaceLabels, env.Config.LowercaseValues = c.InheritNamespaceLabels, c.LowercaseValues
	unmatched := make(map[string][]string)
	for _, s := range settingsOf(&env) {
		patterns, _ := s.value.Interface().(Patterns)
		for _, pattern := range patterns {
			if text := pattern.String(); !pattern.matched.Load() && text != s.tag("default") {
				unmatched[prefix+"_"+s.name] = append(unmatched[prefix+"_"+s.name], text)
			}
		}
	}
	return unmatched
}

// Decode compiles a list of patterns for envconfig. Its error names every
// pattern that does not compile, or that can match no key.
func (p *Patterns) Decode(value string) error {
	var patterns Patterns
	var invalid invalidValues
	for _, item := range split(value) {
		pattern, reason := compile(item)
		if reason != "" {
			invalid = append(invalid, shown(item, reason))
		}
		patterns = append(patterns, &Pattern{Regexp: pattern})
	}
	if invalid != nil {
		return invalid
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
	switch {
	case err != nil:
		return nil, err.Error()
	case len(splitCommas(item)) > 1:
		return nil, "separated by newlines and by commas"
	case matchesNoKey(item):
		return nil, "can match no key (letters, digits, . _ - and one /)" + correction(item)
	}
	return pattern, ""
}

// decoration is what other formats allow around a text: quotes and a byte order
// mark.
const decoration = "\"'`\ufeff"

// correction proposes patterns without decoration, slashes around them, the dash
// of a YAML list, and escaped commas.
func correction(item string) string {
	item = strings.TrimPrefix(strings.Trim(item, decoration), "- ")
	item = strings.ReplaceAll(strings.Trim(item, decoration+"/"), `\,`, " ")
	patterns := strings.Fields(item)
	if len(patterns) == 0 || slices.ContainsFunc(patterns, matchesNoKey) {
		return ""
	}
	return ", write " + strings.Join(patterns, ",")
}

// keyCharacters are those of keys but for the slash, of which a key has one at most.
const keyCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

// matchesNoKey reports whether no key of a label or annotation can match the
// pattern, because of the characters that it wants. Where it wants them is not
// looked at.
func matchesNoKey(pattern string) bool {
	re, err := syntax.Parse(pattern, syntax.Perl)
	return err != nil || slashes(re) > 1
}

// slashes returns how many slashes a text must have at least to match. A character
// that no key has counts for two slashes, since no key has two.
func slashes(re *syntax.Regexp) int {
	n := 0
	switch re.Op {
	case syntax.OpNoMatch:
		return 2
	case syntax.OpLiteral:
		for _, r := range re.Rune {
			n += slashesIn([]rune{r, r})
		}
	case syntax.OpCharClass:
		n = slashesIn(re.Rune)
	case syntax.OpCapture, syntax.OpPlus:
		n = slashes(re.Sub[0])
	case syntax.OpRepeat:
		n = re.Min * slashes(re.Sub[0])
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			n += slashes(sub)
		}
	case syntax.OpAlternate:
		n = 2
		for _, sub := range re.Sub {
			n = min(n, slashes(sub))
		}
	}
	return min(n, 2)
}

// slashesIn returns what one character within the ranges costs at least.
func slashesIn(ranges []rune) int {
	n := 2
	for i := 0; i < len(ranges); i += 2 {
		within := func(r rune) bool { return ranges[i] <= r && r <= ranges[i+1] }
		if strings.ContainsFunc(keyCharacters, within) {
			return 0
		}
		if within('/') {
			n = 1
		}
	}
	return n
}
