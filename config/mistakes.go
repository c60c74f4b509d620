package config

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/kelseyhightower/envconfig"
)

// wrongValue is a value, or an item of a list, that is not accepted.
type wrongValue struct {
	// shown is what an error may show; nothing where hidden.
	shown  string
	hidden bool
	// reason says what is wrong, where what is accepted does not say it.
	reason string
}

// wrongValues is the error of a Decode: all that is wrong with one variable.
type wrongValues []wrongValue

func (w wrongValues) Error() string {
	var reasons []string
	for _, v := range w {
		reasons = append(reasons, v.reason)
	}
	return strings.Join(reasons, ", ")
}

// mistakes collects what is wrong with the environment.
type mistakes struct {
	accepts map[string]string
	// wrong are the variables that have a mistake.
	wrong map[string]bool
	errs  []error
}

func newMistakes(settings []setting) *mistakes {
	m := &mistakes{accepts: make(map[string]string), wrong: make(map[string]bool)}
	for _, s := range settings {
		m.accepts[s.name] = s.accepts
	}
	return m
}

// err returns all mistakes, nil where there is none.
func (m *mistakes) err() error { return errors.Join(m.errs...) }

// addf adds a mistake that is not one variable's alone.
func (m *mistakes) addf(format string, args ...any) {
	m.errs = append(m.errs, fmt.Errorf(format, args...))
}

// add adds a variable's mistake.
func (m *mistakes) add(variable string, v wrongValue) {
	m.wrong[variable] = true
	text := variable
	if !v.hidden {
		text += fmt.Sprintf("=%q", v.shown)
	}
	if v.reason != "" {
		text += ": " + v.reason
	}
	m.addf("%s; want %s", text, m.accepts[variable])
}

// addValue adds the mistake of a setting whose whole value is not accepted.
func (m *mistakes) addValue(name, reason string) {
	variable := prefix + "_" + name
	m.add(variable, wrongValue{shown: os.Getenv(variable), reason: reason})
}

// addItem adds the mistake of one item in a setting that is a list.
func (m *mistakes) addItem(name, item, reason string) {
	m.add(prefix+"_"+name, wrongValue{shown: item, reason: reason})
}

// addMissing adds that a required setting has no value, unless it has one that
// is wrong.
func (m *mistakes) addMissing(name string) {
	variable := prefix + "_" + name
	if !m.wrong[variable] {
		m.add(variable, wrongValue{hidden: true, reason: "is required"})
	}
}

// addParse adds what envconfig could not parse. Numbers, durations and truth
// values are wrong as a whole, the other types say what part of them is.
func (m *mistakes) addParse(bad *envconfig.ParseError) {
	values, ok := errors.AsType[wrongValues](bad.Err)
	if !ok {
		values = wrongValues{{shown: bad.Value}}
	}
	for _, v := range values {
		m.add(bad.KeyName, v)
	}
}
