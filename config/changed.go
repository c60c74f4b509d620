// SPDX-License-Identifier: Apache-2.0

package config

import (
	"maps"
	"os"
	"slices"
	"strings"
)

// maxShown bounds a value in bytes where it is shown.
const maxShown = 500

// Setting is a variable and its value, as far as that may be shown.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// changed returns the settings that the environment gives another value than their
// default, which may be the preset's.
func changed(settings []*setting) []Setting {
	all := []Setting{}
	for _, s := range settings {
		name := prefix + "_" + s.name
		if text, ok := os.LookupEnv(name); ok && text != s.tag("default") {
			all = append(all, Setting{name, s.shown(text)})
		}
	}
	return all
}

// shown is what the environment has, without what may be secret.
func (s *setting) shown(text string) string {
	switch value := s.value.Interface().(type) {
	case URL:
		return value.Redacted()
	case Headers:
		return strings.Join(slices.Sorted(maps.Keys(value)), ", ") + " (values not shown)"
	}
	switch {
	case s.tag("secret") != "":
		return "(not shown)"
	case len(text) > maxShown:
		return strings.ToValidUTF8(text[:maxShown], "") + "…"
	default:
		return text
	}
}
