// SPDX-License-Identifier: Apache-2.0

package config

import (
	"maps"
	"os"
	"regexp"
	"slices"
)

var classicLabel = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// checkTogether adds what is wrong with settings that are valid one by one.
func checkTogether(cfg *Config, dryRun bool, v *validation) {
	if cfg.Destination.URL == nil && !dryRun && !v.invalid["DESTINATION"] {
		v.add("DESTINATION", hidden("is required"))
	}
	if !cfg.Labels.Enabled && !cfg.Annotations.Enabled {
		v.addConflict("LABELS_ENABLED", "ANNOTATIONS_ENABLED", "are both false, so nothing would be sent; want one of them true")
	}
	checkSource("LABELS", &cfg.Labels, v)
	checkSource("ANNOTATIONS", &cfg.Annotations, v)
	for _, name := range cfg.Namespaces {
		if slices.Contains(cfg.NamespacesExclude, name) {
			v.addf("%s and %s both name %q; want it in one of them", v.written("NAMESPACES"), v.written("NAMESPACES_EXCLUDE"), name)
		}
	}
	if cfg.Series == FormKubeStateMetrics {
		cfg.useKubeStateMetrics(v)
	}
	if cfg.OwnerLabels {
		cfg.Labels.Added = []string{OwnerKind, OwnerName, WorkloadKind, WorkloadName}
	}
	if cfg.InheritedLabel != "" {
		cfg.Labels.Added = append(cfg.Labels.Added, cfg.InheritedLabel)
	}
	if cfg.Names == NamesUnderscore {
		checkClassicLabels(cfg.ExternalLabels, v)
	}
	if cfg.LeaderElection && cfg.Changes == ChangesWebhook {
		v.addConflict("LEADER_ELECTION", "CHANGES", "are true and webhook; want CHANGES=watch, or one replica without election")
	}
}

// checkSource refuses empty lists of what is enabled: they are more likely meant
// for everything than for nothing.
func checkSource(topic string, source *LabelSource, v *validation) {
	filters, resources := topic+"_FILTERS", topic+"_RESOURCES"
	if source.Enabled && len(source.Filters) == 0 && !v.invalid[filters] {
		v.add(filters, shown(os.Getenv(prefix+"_"+filters), "is empty"))
	}
	if source.Enabled && len(source.Resources) == 0 {
		v.add(resources, shown(os.Getenv(prefix+"_"+resources), "is empty"))
	}
}

func checkClassicLabels(labels Pairs, v *validation) {
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if !classicLabel.MatchString(name) {
			v.add("EXTERNAL_LABELS", shown(name, "needs SERIES=cloudzero with NAMES=raw"))
		}
	}
}

// useKubeStateMetrics sets what the form of the series decides: the names of its
// metrics are given, and those of its labels are classic.
func (c *Config) useKubeStateMetrics(v *validation) {
	for _, name := range []string{"METRIC_PREFIX", "NAMES"} {
		if _, set := os.LookupEnv(prefix + "_" + name); set {
			v.addConflict(name, "SERIES", "do not go together, since SERIES is kube-state-metrics, which gives the names itself; want SERIES=cloudzero, or the former not set")
		}
	}
	c.MetricPrefix, c.Names = "kube_", NamesUnderscore
}
