package record

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"labelstream/config"
)

// tagPrefix stands before every tag's key, for annotations too: what the
// backend groups by must not depend on where a team wrote it. No identity
// label begins with it, so a series is the labels that sort before it, the
// tags, and the labels that sort after.
const tagPrefix = "label_"

const namespaceLabel = "namespace"

// series is what all series of one metric have in common.
type series struct {
	before, after []static
	namespaced    bool
}

// static is a label that does not come from a tag. Its value is fixed, or the
// object's name or namespace.
type static struct {
	name  string
	value string
	from  valueFrom
}

type valueFrom int

const (
	fromValue valueFrom = iota
	fromName
	fromNamespace
)

var notInMetricName = regexp.MustCompile(`[^a-zA-Z0-9_:]`)

func newSeries(kind *Kind, cfg *config.Config, suffix string) series {
	metric := cfg.MetricPrefix + notInMetricName.ReplaceAllLiteralString(kind.Metric, "_") + suffix
	statics := []static{
		{name: "__name__", value: metric},
		{name: "resource_type", value: kind.Type},
		{name: kind.NameLabel, from: fromName},
	}
	if kind.Namespaced {
		statics = append(statics, static{name: namespaceLabel, from: fromNamespace})
	}
	for _, name := range sortedNames(cfg.ExternalLabels) {
		taken := slices.ContainsFunc(statics, func(s static) bool { return s.name == name })
		if !taken && !strings.HasPrefix(name, tagPrefix) {
			statics = append(statics, static{name: name, value: cfg.ExternalLabels[name]})
		}
	}
	slices.SortFunc(statics, func(a, b static) int { return strings.Compare(a.name, b.name) })
	tags, _ := slices.BinarySearchFunc(statics, tagPrefix, func(s static, name string) int {
		return strings.Compare(s.name, name)
	})
	return series{before: statics[:tags], after: statics[tags:], namespaced: kind.Namespaced}
}

// count is the number of labels that do not come from tags.
func (s *series) count(o *Object) int {
	n := len(s.before) + len(s.after)
	if s.namespaced && len(o.Namespace) == 0 {
		n--
	}
	return n
}

func (s *series) append(dst []byte, statics []static, o *Object) []byte {
	for i := range statics {
		switch s := &statics[i]; s.from {
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

func sortedNames(m map[string]string) []string {
	return slices.Sorted(maps.Keys(m))
}
