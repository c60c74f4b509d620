package record

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"labelstream/config"
)

// labelPrefix stands before the key of every label, and of every annotation too:
// what the backend groups by must not depend on where a team wrote it. No identity
// label begins with it, so a series is the fixed labels that sort before it, the
// object's labels, and the fixed labels that sort after.
const labelPrefix = "label_"

const namespaceLabel = "namespace"

// series is what all series of one metric have in common.
type series struct {
	before, after []fixedLabel
	namespaced    bool
}

// fixedLabel is a label that every series of the metric has. Its value is fixed
// too, or the object's name or namespace.
type fixedLabel struct {
	name  string
	value string
	from  source
}

type source int

const (
	fromValue source = iota
	fromName
	fromNamespace
)

var notInMetricName = regexp.MustCompile(`[^a-zA-Z0-9_:]`)

func newSeries(kind *Kind, cfg *config.Config, suffix string) series {
	metric := cfg.MetricPrefix + notInMetricName.ReplaceAllLiteralString(kind.Metric, "_") + suffix
	fixed := []fixedLabel{
		{name: "__name__", value: metric},
		{name: "resource_type", value: kind.Type},
		{name: kind.NameLabel, from: fromName},
	}
	if kind.Namespaced {
		fixed = append(fixed, fixedLabel{name: namespaceLabel, from: fromNamespace})
	}
	for _, name := range sortedNames(cfg.ExternalLabels) {
		taken := slices.ContainsFunc(fixed, func(s fixedLabel) bool { return s.name == name })
		if !taken && !strings.HasPrefix(name, labelPrefix) {
			fixed = append(fixed, fixedLabel{name: name, value: cfg.ExternalLabels[name]})
		}
	}
	slices.SortFunc(fixed, func(a, b fixedLabel) int { return strings.Compare(a.name, b.name) })
	split, _ := slices.BinarySearchFunc(fixed, labelPrefix, func(s fixedLabel, name string) int {
		return strings.Compare(s.name, name)
	})
	return series{before: fixed[:split], after: fixed[split:], namespaced: kind.Namespaced}
}

// count is the number of fixed labels.
func (s *series) count(o *Object) int {
	n := len(s.before) + len(s.after)
	if s.namespaced && len(o.Namespace) == 0 {
		n--
	}
	return n
}

func (s *series) append(dst []byte, fixed []fixedLabel, o *Object) []byte {
	for i := range fixed {
		switch s := &fixed[i]; s.from {
		case fromName:
			dst = AppendLabel(dst, s.name, valid(o.Name))
		case fromNamespace:
			if len(o.Namespace) > 0 {
				dst = AppendLabel(dst, s.name, valid(o.Namespace))
			}
		default:
			dst = AppendLabel(dst, s.name, s.value)
		}
	}
	return dst
}

func sortedNames(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
