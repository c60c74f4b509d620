// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/kelseyhightower/envconfig"
)

// prefix stands before every variable's name, with a _ between them.
const prefix = "LABELSTREAM"

// Flag is a setting that the command line gives.
type Flag struct {
	// Name is the flag's, without dashes, Setting the variable's, without the prefix.
	Name, Setting, Value string
}

// Load reads the settings from flags and from the process's environment, with their
// defaults, and validates them. A flag replaces the variable in the environment.
// dryRun says that nothing will be sent, so that there may be no DESTINATION. The
// error holds everything that is wrong, each on a line of its own that names the flag
// or the variable, its value and what is accepted. It holds no value of an unknown
// variable, and no user, password or query of a URL.
func Load(dryRun bool, flags ...Flag) (*Config, error) {
	v := &validation{settings: make(map[string]*setting), flags: make(map[string]string), invalid: make(map[string]bool)}
	for _, f := range flags {
		// envconfig reads the environment and nothing else.
		if err := os.Setenv(prefix+"_"+f.Setting, f.Value); err != nil {
			return nil, fmt.Errorf("--%s: %w", f.Name, err)
		}
		v.flags[f.Setting] = "--" + f.Name
	}
	var env environment
	settings := settingsOf(&env)
	Preset(os.Getenv(prefix + "_PRESET")).apply(settings)
	for _, s := range settings {
		v.settings[s.name] = s
		if err, ok := errors.AsType[*envconfig.ParseError](s.parse()); ok {
			v.addParse(s.name, err)
		} else {
			v.check(s)
		}
	}
	cfg := env.config()
	cfg.Changed = changed(settings)
	checkAuth(&cfg.Delivery, v)
	checkTogether(cfg, dryRun, v)
	cfg.PresetValues = presetValues(settings)
	v.addUnknown(os.Environ())
	if len(v.errs) > 0 {
		return nil, errors.Join(v.errs...)
	}
	return cfg, nil
}

// setting is one variable.
type setting struct {
	// name is the variable's without the prefix, scope what stands before the part
	// that is made of the field's name.
	name, scope string
	field       reflect.StructField
	value       reflect.Value
}

// settingsOf returns the variables that env is read from, in order.
func settingsOf(env *environment) []*setting {
	return appendSettings(nil, prefix, reflect.ValueOf(env).Elem())
}

func appendSettings(settings []*setting, scope string, group reflect.Value) []*setting {
	for field, value := range group.Fields() {
		_, decodes := value.Addr().Interface().(envconfig.Decoder)
		switch {
		case field.Tag.Get("ignored") != "":
		case field.Anonymous:
			settings = appendSettings(settings, scope, value)
		case field.Type.Kind() == reflect.Struct && !decodes:
			settings = appendSettings(settings, scope+"_"+strings.ToUpper(field.Name), value)
		default:
			s := &setting{scope: scope, field: field, value: value}
			s.name = s.readName()
			settings = append(settings, s)
		}
	}
	return settings
}

// parse reads the variable. Where it does not parse, the value stays zero.
func (s *setting) parse() error {
	alone := s.alone()
	if err := envconfig.Process(s.scope, alone.Interface()); err != nil {
		return err
	}
	s.value.Set(alone.Elem().Field(0))
	return nil
}

// readName asks envconfig, which tells names to templates alone.
func (s *setting) readName() string {
	var name strings.Builder
	if err := envconfig.Usagef(s.scope, s.alone().Interface(), &name, "{{range .}}{{.Key}}{{end}}"); err != nil {
		panic(err) // only a bug here
	}
	return strings.TrimPrefix(name.String(), prefix+"_")
}

// alone returns a pointer to a struct of the setting's field alone: envconfig stops
// at the first value that does not parse, and all of them are wanted.
func (s *setting) alone() reflect.Value {
	return reflect.New(reflect.StructOf([]reflect.StructField{s.field}))
}

func (s *setting) tag(name string) string { return s.field.Tag.Get(name) }
