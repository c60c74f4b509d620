// SPDX-License-Identifier: Apache-2.0

// Package inspect counts the keys of labels and annotations that a backfill reads,
// says which are worth sending, and what they would break at the receiver. It is
// pure: no I/O but the writer that a report is given, no clock.
package inspect

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"labelstream/record"
)

// Options say what a report shows. The kinds that are read, and what is sent of
// them, are for the settings to say.
type Options struct {
	// Kind is the only one to read, by its resource, plural or singular; "" means all.
	Kind string
	// Key is a Go regular expression that matches somewhere in the keys to show.
	Key string
	// MinCoverage is the least share of its kind's objects that a key has, in percent.
	MinCoverage float64
	// Output is one of Outputs; "" means the first.
	Output string
	// NoExamples keeps values out of the report, ShowAnnotations puts those of
	// annotations into it.
	NoExamples, ShowAnnotations bool
}

// Outputs are the forms of a report.
var Outputs = []string{"table", "wide", "json", "yaml", "csv", "html"}

// Validate returns an error that says which option is wrong.
func (o *Options) Validate() error {
	if _, err := regexp.Compile(o.Key); err != nil {
		return fmt.Errorf("--key: %w", err)
	}
	if !(o.MinCoverage >= 0 && o.MinCoverage <= 100) {
		return fmt.Errorf("--min-coverage=%v: want a percentage, 0 to 100", o.MinCoverage)
	}
	return nil
}

// Reads reports whether a kind is to be read.
func (o *Options) Reads(kind *record.Kind) bool {
	plural, _, _ := strings.Cut(kind.Resource, ".")
	return o.Kind == "" || slices.Contains([]string{kind.Resource, plural, kind.Type}, o.Kind)
}
