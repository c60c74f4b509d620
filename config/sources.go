package config

// LabelSource are the settings of labels, and those of annotations.
type LabelSource struct {
	// Enabled says whether the chosen resources give such a series at all.
	Enabled bool
	// Filters and Exclude decide which keys are sent, see Rank.
	Filters, Exclude Patterns
	// Resources are the kinds to read: plural, plural.group or *.group.
	Resources List
}

// Rank reports whether a label or annotation of this key is sent: one of Filters
// matches somewhere in it, and none of Exclude does. The rank is the index of the
// first that matches: where not all labels can be sent, those of a low rank are.
// Rank does not look at Enabled.
func (s *LabelSource) Rank(key string) (rank int, ok bool) {
	rank, excluded := s.Filters.first(key), s.Exclude.first(key)
	return rank, rank >= 0 && excluded < 0
}

// labelSource and annotationSource are LabelSource with the tags of each. Go
// converts between structs that differ in nothing but tags.
type (
	labelSource struct {
		Enabled   bool     `split_words:"true" default:"true" desc:"send labels"`
		Filters   Patterns `split_words:"true" default:".*" desc:"label keys to send: those that any of the patterns matches somewhere" also:"at least one while labels are enabled"`
		Exclude   Patterns `split_words:"true" desc:"label keys to leave out, though a filter matches"`
		Resources List     `split_words:"true" default:"pods,namespaces" desc:"kinds whose labels are sent" match:"resource" also:"at least one while labels are enabled"`
	}
	annotationSource struct {
		Enabled   bool     `split_words:"true" default:"false" desc:"send annotations"`
		Filters   Patterns `split_words:"true" default:".*" desc:"annotation keys to send: those that any of the patterns matches somewhere" also:"at least one while annotations are enabled"`
		Exclude   Patterns `split_words:"true" default:"^kubectl\\.kubernetes\\.io/last-applied-configuration$" desc:"annotation keys to leave out, though a filter matches"`
		Resources List     `split_words:"true" default:"pods,namespaces" desc:"kinds whose annotations are sent" match:"resource" also:"at least one while annotations are enabled"`
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
