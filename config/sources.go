// SPDX-License-Identifier: Apache-2.0

package config

import "slices"

// LabelSource are the settings of labels, and those of annotations.
type LabelSource struct {
	// Enabled says whether the chosen resources give such a series at all.
	Enabled bool
	// Filters and Exclude decide which keys are sent, see Rank.
	Filters, Exclude Patterns
	// Resources are the kinds to read: plural, plural.group or *.group.
	Resources List
	// Added are keys that are sent though no filter matches, since another setting asks
	// for them.
	Added []string
}

// Rank reports whether a label or annotation of this key is sent: one of Filters
// matches somewhere in it, and none of Exclude does. The rank is the index of the
// first that matches: where not all labels can be sent, those of a low rank are.
// Rank does not look at Enabled. A key of Added needs no filter.
func (s *LabelSource) Rank(key string) (rank int, ok bool) {
	rank, excluded := s.Filters.first(key), s.Exclude.first(key)
	if slices.Contains(s.Added, key) {
		rank = 0
	}
	return rank, rank >= 0 && excluded < 0
}

// The keys of the labels that OWNER_LABELS adds.
const (
	OwnerKind    = "owner_kind"
	OwnerName    = "owner_name"
	WorkloadKind = "workload_kind"
	WorkloadName = "workload_name"
)

// labelSource and annotationSource are LabelSource with the tags of each. Go
// converts between structs that differ in nothing but tags.
type (
	labelSource struct {
		Enabled   bool     `split_words:"true" default:"true" desc:"send labels"`
		Filters   Patterns `split_words:"true" default:".*" desc:"label keys to send: those that any of the patterns matches somewhere" also:"at least one while labels are enabled"`
		Exclude   Patterns `split_words:"true" desc:"label keys to leave out, though a filter matches"`
		Resources List     `split_words:"true" default:"pods,namespaces" desc:"kinds whose labels are sent" match:"resource" also:"at least one while labels are enabled"`
		Added     []string `ignored:"true"`
	}
	annotationSource struct {
		Enabled   bool     `split_words:"true" default:"false" desc:"send annotations"`
		Filters   Patterns `split_words:"true" default:".*" desc:"annotation keys to send: those that any of the patterns matches somewhere" also:"at least one while annotations are enabled"`
		Exclude   Patterns `split_words:"true" default:"^kubectl\\.kubernetes\\.io/last-applied-configuration$" desc:"annotation keys to leave out, though a filter matches"`
		Resources List     `split_words:"true" default:"pods,namespaces" desc:"kinds whose annotations are sent" match:"resource" also:"at least one while annotations are enabled"`
		Added     []string `ignored:"true"`
	}
)

// environment is what is read, in the order of the documentation.
type environment struct {
	Labels      labelSource
	Annotations annotationSource
	Config
}

// config returns what was read.
func (e *environment) config() *Config {
	e.Config.Labels = LabelSource(e.Labels)
	e.Config.Annotations = LabelSource(e.Annotations)
	return &e.Config
}
