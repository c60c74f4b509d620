package config

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// Patterns is a List of Go regular expressions.
type Patterns []*regexp.Regexp

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
		patterns = append(patterns, pattern)
	}
	if invalid != nil {
		return invalid
	}
	*p = patterns
	return nil
}

func (p Patterns) matchAny(key string) bool {
	for _, pattern := range p {
		if pattern.MatchString(key) {
			return true
		}
	}
	return false
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

// matchesNoKey reports whether no key of a label or annotation can match the
// pattern: its program is run with every character that keys have.
func matchesNoKey(pattern string) bool {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return true
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return true
	}
	search := keySearch{program: program, seen: make(map[step]bool)}
	start := uint32(program.Start)
	return !search.matches(step{pc: start}) && !search.matches(step{pc: start, inside: true})
}

// keyCharacters are those of keys but for the slash, of which a key has one at
// most, and not as its first character.
const keyCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

type keySearch struct {
	program *syntax.Prog
	seen    map[step]bool
}

// step is a place in the program, and how it was reached.
type step struct {
	pc uint32
	// inside says that characters of the key come before, slash that the slash is
	// among them, ended that none may follow.
	inside, slash, ended bool
}

// matches reports whether a key leads from the step to a match. Where the step was
// seen before, the answer is given there.
func (k *keySearch) matches(s step) bool {
	if k.seen[s] {
		return false
	}
	k.seen[s] = true
	inst := &k.program.Inst[s.pc]
	next := s
	next.pc = inst.Out
	switch inst.Op {
	case syntax.InstMatch:
		return true
	case syntax.InstFail:
		return false
	case syntax.InstAlt, syntax.InstAltMatch:
		other := s
		other.pc = inst.Arg
		return k.matches(next) || k.matches(other)
	case syntax.InstEmptyWidth:
		op := syntax.EmptyOp(inst.Arg)
		next.ended = s.ended || op&(syntax.EmptyEndText|syntax.EmptyEndLine) != 0
		return (!s.inside || op&(syntax.EmptyBeginText|syntax.EmptyBeginLine) == 0) && k.matches(next)
	case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
		return !s.ended && k.reads(inst, next)
	}
	return k.matches(next)
}

// reads reports whether a key goes on with a character of the instruction.
func (k *keySearch) reads(inst *syntax.Inst, next step) bool {
	slash := next
	slash.slash = true
	if next.inside && !next.slash && inst.MatchRune('/') && k.matches(slash) {
		return true
	}
	next.inside = true
	return strings.ContainsFunc(keyCharacters, inst.MatchRune) && k.matches(next)
}
