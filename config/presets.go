// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// presets are the defaults that the setting PRESET puts in place of the tags',
// which are those of PresetCloudZero.
// docs/receivers.md says where each limit comes from.
var presets = []struct {
	name     Preset
	defaults map[string]string
}{
	{PresetPrometheus, map[string]string{
		"SERIES": "kube-state-metrics", "UNSAFE_VALUES": "keep", "RESYNC_INTERVAL": "4m", "MAX_KEYS": "0", "STALE_MARKERS": "true"}},
	{PresetMimir, map[string]string{
		"SERIES": "kube-state-metrics", "UNSAFE_VALUES": "keep", "RESYNC_INTERVAL": "4m", "MAX_KEYS": "0", "STALE_MARKERS": "true",
		"NAMES": "underscore", "MAX_LABELS_PER_SERIES": "30", "LABEL_NAME_MAX_BYTES": "1024"}},
	{PresetVictoriaMetrics, map[string]string{
		"SERIES": "kube-state-metrics", "UNSAFE_VALUES": "keep", "RESYNC_INTERVAL": "4m", "MAX_KEYS": "0", "STALE_MARKERS": "true",
		"MAX_LABELS_PER_SERIES": "40", "LABEL_NAME_MAX_BYTES": "256", "VALUE_MAX_BYTES": "4096", "PROTOCOL": "1.0"}},
}

// apply gives the settings the defaults of a preset.
func (p Preset) apply(settings []*setting) {
	for _, preset := range presets {
		for _, s := range settings {
			if value, ok := preset.defaults[s.name]; ok && preset.name == p {
				s.setDefault(value)
			}
		}
	}
}

func (s *setting) setDefault(value string) {
	tag := string(s.field.Tag)
	old := fmt.Sprintf("default:%q", s.tag("default"))
	s.field.Tag = reflect.StructTag(strings.Replace(tag, old, fmt.Sprintf("default:%q", value), 1))
}

// presetValues are the values of the settings that any preset has a default for.
func presetValues(settings []*setting) map[string]any {
	values := make(map[string]any)
	for _, preset := range presets {
		for _, s := range settings {
			if _, ok := preset.defaults[s.name]; ok {
				values[s.name] = fmt.Sprint(s.value.Interface())
			}
		}
	}
	return values
}

// defaults are the setting's own default, "" for none, and those of the presets
// that have another, such as "4m with PRESET=prometheus, mimir".
func (s *setting) defaults() []string {
	all := []string{s.tag("default")}
	for _, preset := range presets {
		value, ok := preset.defaults[s.name]
		text := value + " with PRESET="
		at := slices.IndexFunc(all, func(other string) bool { return strings.HasPrefix(other, text) })
		switch {
		case !ok:
		case at < 0:
			all = append(all, text+string(preset.name))
		default:
			all[at] += ", " + string(preset.name)
		}
	}
	return all
}

// Discarded says which settings make series or labels that the receiver of the preset
// takes with a success and discards.
func (c *Config) Discarded() (texts []string) {
	if c.Preset != PresetCloudZero {
		return nil
	}
	switch {
	case c.Series == FormKubeStateMetrics:
		texts = append(texts, prefix+"_SERIES: of this form the collector keeps kube_pod_labels alone, want cloudzero, or another PRESET")
	case !strings.HasPrefix(c.MetricPrefix, "cloudzero_"):
		texts = append(texts, prefix+"_METRIC_PREFIX: the collector keeps metrics that begin with cloudzero_, want that, or another PRESET")
	}
	for _, name := range slices.Sorted(maps.Keys(c.ExternalLabels)) {
		if !strings.HasPrefix(name, "label_") {
			texts = append(texts, prefix+"_EXTERNAL_LABELS: the collector keeps labels that begin with label_, want label_"+name+", or another PRESET")
		}
	}
	return texts
}
