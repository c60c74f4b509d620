// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
)

// Selector selects objects by their labels; the zero value selects all.
type Selector struct{ selector labels.Selector }

// Decode reads a selector for envconfig.
func (s *Selector) Decode(value string) (err error) {
	if s.selector, err = labels.Parse(value); err != nil {
		return invalidValues{shown(value, err.Error())}
	}
	return nil
}

// parseSelector returns what is wrong with a selector.
func parseSelector(text string) error { return new(Selector).Decode(text) }

// Equal reports whether two selectors are written alike.
func (s Selector) Equal(other Selector) bool { return s.String() == other.String() }

// Empty reports whether all objects are selected.
func (s Selector) Empty() bool { return s.selector == nil || s.selector.Empty() }

// Matches reports whether an object with these labels is selected.
func (s Selector) Matches(of labels.Labels) bool { return s.selector == nil || s.selector.Matches(of) }

// String is the selector as an API server reads it.
func (s Selector) String() string {
	if s.selector == nil {
		return ""
	}
	return s.selector.String()
}

// With selects what s selects, and what a selector that is valid does.
func (s Selector) With(text string) Selector {
	more, err := labels.ParseToRequirements(text)
	if err != nil {
		panic(err) // only a bug: selectors are validated when they are read
	}
	if s.selector == nil {
		s.selector = labels.NewSelector()
	}
	return Selector{s.selector.Add(more...)}
}

// SplitResource returns the name and the selector of an item of Resources, such as
// pods[team in (a,b)]. Without brackets there is no selector.
func SplitResource(item string) (name, selector string) {
	name, selector, found := strings.Cut(item, "[")
	selector, closed := strings.CutSuffix(selector, "]")
	if found && !closed {
		return item, ""
	}
	return strings.TrimSpace(name), selector
}

// ReadsNamespaces reports whether other kinds cannot be read without the namespaces.
func (c *Config) ReadsNamespaces() bool {
	return len(c.InheritNamespaceLabels) > 0 || !c.NamespaceSelector.Empty()
}

// Rename gives a key another one.
type Rename struct{ From, To string }

// Renames is a List of key=key.
type Renames []Rename

// Decode reads a list of key=key for envconfig. Its error names every item that cannot
// be one.
func (r *Renames) Decode(value string) error {
	var renames Renames
	var invalid invalidValues
	for _, item := range split(value) {
		from, to, reason := pair(item)
		switch isKnown := func(known Rename) bool { return known.From == from }; {
		case reason != "":
		case slices.ContainsFunc(renames, isKnown):
			reason = twice
		case from == to:
			reason = "changes nothing"
		}
		if reason != "" {
			invalid = append(invalid, shown(item, reason))
		}
		renames = append(renames, Rename{from, to})
	}
	if invalid != nil {
		return invalid
	}
	*r = renames
	return nil
}
