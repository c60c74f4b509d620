package record

import (
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

// series is what all series of one metric have in common: labels that sort before
// the object's, and labels that sort after.
type series struct {
	before, after []fixedLabel
	names         labelNames
}

// fixedLabel is a label that every series of the metric has.
type fixedLabel struct {
	name string
	// encoded is the label where its value is fixed too. Else it is of the object.
	encoded []byte
	of      func(*Object) []byte
}

func constant(name, value string) fixedLabel {
	return fixedLabel{name: name, encoded: AppendLabel(nil, name, value)}
}

var notInMetricName = regexp.MustCompile(`[^a-zA-Z0-9_:]`)

func newSeries(kind *Kind, cfg *config.Config, suffix string, keep func(key string) bool) series {
	metric := cfg.MetricPrefix + notInMetricName.ReplaceAllLiteralString(kind.Metric, "_") + suffix
	fixed := []fixedLabel{
		constant("__name__", metric),
		constant("resource_type", kind.Type),
		{name: kind.NameLabel, of: func(o *Object) []byte { return o.Name }},
	}
	if kind.Namespaced {
		fixed = append(fixed, fixedLabel{name: namespaceLabel, of: func(o *Object) []byte { return o.Namespace }})
	}
	for name, value := range cfg.ExternalLabels {
		taken := slices.ContainsFunc(fixed, func(l fixedLabel) bool { return l.name == name })
		if !taken && !strings.HasPrefix(name, labelPrefix) {
			fixed = append(fixed, constant(name, value))
		}
	}
	slices.SortFunc(fixed, func(a, b fixedLabel) int { return strings.Compare(a.name, b.name) })
	split := slices.IndexFunc(fixed, func(l fixedLabel) bool { return l.name > labelPrefix })
	return series{before: fixed[:split], after: fixed[split:], names: labelNames{keep: keep, names: cfg.Names}}
}

// count is the number of labels that every series has.
func (s *series) count() int { return len(s.before) + len(s.after) }

func appendFixed(dst []byte, labels []fixedLabel, o *Object) []byte {
	for i := range labels {
		if l := &labels[i]; l.of == nil {
			dst = append(dst, l.encoded...)
		} else {
			dst = AppendLabel(dst, l.name, valid(l.of(o)))
		}
	}
	return dst
}
