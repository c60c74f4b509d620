// SPDX-License-Identifier: Apache-2.0

package record

import (
	"regexp"
	"slices"
	"strings"

	"labelstream/config"
)

const namespaceLabel = "namespace"

// series is what all series of one metric have in common: labels that sort before
// the object's, and labels that sort after. The object's begin with a prefix that no
// other label begins with.
type series struct {
	before, after []fixedLabel
	names         labelNames
	// external are the external labels that are named like the object's.
	external []namedLabel
	// maxLabels is how many labels there may be.
	maxLabels int
}

// fixedLabel is a label that every series of the metric has.
type fixedLabel struct {
	name string
	// encoded is the label, or where of gives its value, the name alone.
	encoded []byte
	of      func(*Object) []byte
}

func constant(name, value string) fixedLabel {
	return fixedLabel{name: name, encoded: AppendLabel(nil, name, value)}
}

func ofObject(name string, of func(*Object) []byte) fixedLabel {
	return fixedLabel{name: name, encoded: appendName(nil, name), of: of}
}

var notInMetricName = regexp.MustCompile(`[^a-zA-Z0-9_:]`)

func newSeries(kind *Kind, cfg *config.Config, suffix string, names labelNames) series {
	s := series{names: names, maxLabels: cfg.MaxLabelsPerSeries}
	metric := cfg.MetricPrefix + notInMetricName.ReplaceAllLiteralString(kind.Metric, "_") + suffix
	fixed := []fixedLabel{
		constant("__name__", metric),
		ofObject(kind.NameLabel, func(o *Object) []byte { return o.Name }),
	}
	if kind.Type != "" {
		fixed = append(fixed, constant("resource_type", kind.Type))
	}
	if kind.Namespaced {
		fixed = append(fixed, ofObject(namespaceLabel, func(o *Object) []byte { return o.Namespace }))
	}
	if kind.UID {
		fixed = append(fixed, ofObject("uid", func(o *Object) []byte { return o.UID }))
	}
	for name, value := range cfg.ExternalLabels {
		switch {
		case strings.HasPrefix(name, names.prefix):
			s.external = append(s.external, namedLabel{name: name, value: []byte(value), rank: always})
		case !slices.ContainsFunc(fixed, func(l fixedLabel) bool { return l.name == name }):
			fixed = append(fixed, constant(name, value))
		}
	}
	slices.SortFunc(fixed, func(a, b fixedLabel) int { return strings.Compare(a.name, b.name) })
	split := slices.IndexFunc(fixed, func(l fixedLabel) bool { return l.name > names.prefix })
	if split < 0 {
		split = len(fixed)
	}
	s.before, s.after = fixed[:split], fixed[split:]
	return s
}

// count is the number of labels that every series has.
func (s *series) count() int { return len(s.before) + len(s.after) }

// tooMany is how many of the labels that are not fixed are beyond the limit.
func (s *series) tooMany(count int) int {
	if s.maxLabels == 0 {
		return 0
	}
	return min(max(0, s.count()+count-s.maxLabels), count)
}

func appendFixed(dst []byte, labels []fixedLabel, o *Object) []byte {
	for i := range labels {
		l := &labels[i]
		dst = append(dst, l.encoded...)
		if l.of != nil {
			dst = appendText(dst, valid(l.of(o)))
		}
	}
	return dst
}
