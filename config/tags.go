package config

// LabelSource are the settings of labels, and those of annotations.
type LabelSource struct {
	// Enabled says whether the chosen resources give such a series at all.
	Enabled bool
	// Filters and Exclude decide which keys are sent, see Keep.
	Filters, Exclude Patterns
	// Resources are the kinds to read: plural, plural.group or *.group.
	Resources List
}

// Keep reports whether a tag of this key is sent: one of Filters matches
// somewhere in it, and none of Exclude does. It does not look at Enabled.
func (t *LabelSource) Keep(key string) bool {
	return t.Filters.matchAny(key) && !t.Exclude.matchAny(key)
}

// labelSource and annotationSource are LabelSource with the defaults of each; Go converts
// between structs that differ in nothing but tags.
type (
	labelSource struct {
		Enabled   bool     `split_words:"true" default:"true" desc:"send labels" accepts:"true or false"`
		Filters   Patterns `split_words:"true" default:".*" desc:"label keys to send: those that any of the patterns matches somewhere" accepts:"a list of Go regular expressions, at least one while labels are enabled"`
		Exclude   Patterns `split_words:"true" desc:"label keys to leave out, though a filter matches" accepts:"a list of Go regular expressions"`
		Resources List     `split_words:"true" default:"pods,namespaces" desc:"kinds whose labels are sent" accepts:"a list of plural, plural.group or *.group, such as pods or deployments.apps, at least one while labels are enabled"`
	}
	annotationSource struct {
		Enabled   bool     `split_words:"true" default:"false" desc:"send annotations" accepts:"true or false"`
		Filters   Patterns `split_words:"true" default:".*" desc:"annotation keys to send: those that any of the patterns matches somewhere" accepts:"a list of Go regular expressions, at least one while annotations are enabled"`
		Exclude   Patterns `split_words:"true" default:"last-applied-configuration$" desc:"annotation keys to leave out, though a filter matches" accepts:"a list of Go regular expressions"`
		Resources List     `split_words:"true" default:"pods,namespaces" desc:"kinds whose annotations are sent" accepts:"a list of plural, plural.group or *.group, such as pods or deployments.apps, at least one while annotations are enabled"`
	}
)

// spec is what envconfig fills, in the order of the data's way.
type spec struct {
	Labels      labelSource
	Annotations annotationSource
	*Config
}

func newSpec() *spec { return &spec{Config: new(Config)} }

// config returns what was read into s.
func (s *spec) config() *Config {
	s.Config.Labels = LabelSource(s.Labels)
	s.Config.Annotations = LabelSource(s.Annotations)
	return s.Config
}
