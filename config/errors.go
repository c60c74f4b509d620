// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kelseyhightower/envconfig"
)

// invalidValues is the error of a Decode: everything that is wrong with one
// variable, each made by shown or hidden.
type invalidValues []string

func (i invalidValues) Error() string { return strings.Join(i, ", ") }

// shown says that a value, or an item of a list, is not accepted. There is a reason
// where what is accepted does not say it.
func shown(value, reason string) string {
	if reason == "" {
		return fmt.Sprintf("=%q", value)
	}
	return fmt.Sprintf("=%q: %s", value, reason)
}

// hidden is shown without the value.
func hidden(reason string) string { return ": " + reason }

// secret is the reason of a value that may be one.
const secret = "not shown, as it may hold a secret"

// validation collects what is wrong with the environment.
type validation struct {
	settings map[string]*setting
	// flags are those that have set a setting.
	flags map[string]string
	// invalid are the settings that have an error of their own.
	invalid map[string]bool
	errs    []error
}

// addf adds an error that does not belong to one setting.
func (v *validation) addf(format string, args ...any) {
	v.errs = append(v.errs, fmt.Errorf(format, args...))
}

// written is the setting's name as the user has written it: the flag's or the
// variable's.
func (v *validation) written(name string) string {
	return cmp.Or(v.flags[name], prefix+"_"+name)
}

// add adds an error of one setting, which shown or hidden has made. A flag that is
// for two settings has it once.
func (v *validation) add(name, problem string) {
	v.invalid[name] = true
	text := v.written(name) + problem + "; want "
	if !slices.ContainsFunc(v.errs, func(err error) bool { return strings.HasPrefix(err.Error(), text) }) {
		v.addf("%s%s", text, v.settings[name].accepts())
	}
}

// addConflict adds an error of two settings, unless one of them has an error of
// its own and is not what was meant.
func (v *validation) addConflict(first, second, problem string) {
	if !v.invalid[first] && !v.invalid[second] {
		v.addf("%s and %s %s", v.written(first), v.written(second), problem)
	}
}

// addParse adds the error of a value that did not parse. Numbers, durations and
// truth values are wrong as a whole, the other types say which part of them is.
func (v *validation) addParse(name string, err *envconfig.ParseError) {
	problems := invalidValues{shown(err.Value, "")}
	errors.As(err.Err, &problems)
	for _, problem := range problems {
		v.add(name, problem)
	}
}
