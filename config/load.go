package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"text/template"

	"github.com/kelseyhightower/envconfig"
)

// prefix stands before every variable's name, with a _ between them.
const prefix = "LABELSTREAM"

// Load reads the settings from the process's environment, with their defaults,
// and validates them. dryRun says that nothing will be sent, so that there may
// be no DESTINATION. The error holds all mistakes, each on a line of its own
// that names the variable, its value and what is accepted; it holds no value of
// an unknown variable, and no user, password or query of a URL.
//
// While Load runs, variables whose value does not parse are missing from the
// environment: nothing else may use it meanwhile.
func Load(dryRun bool) (*Config, error) {
	s := newSpec()
	settings, err := settingsOf(s)
	if err != nil {
		return nil, err
	}
	m := newMistakes(settings)
	if err := parse(s, m); err != nil {
		return nil, err
	}
	cfg := s.config()
	validate(cfg, dryRun, m)
	findUnknown(os.Environ(), settings, m)
	if err := m.err(); err != nil {
		return nil, err
	}
	return cfg, nil
}

// parse fills s. envconfig stops at the first value that does not parse, so that
// variable is taken out of the environment (its default stands in for it) and
// parsing starts over, until all others are read; then it is put back.
func parse(s *spec, m *mistakes) (err error) {
	removed := make(map[string]string)
	defer func() { err = errors.Join(err, restore(removed)) }()
	for {
		err := envconfig.Process(prefix, s)
		if err == nil {
			return nil
		}
		bad, ok := errors.AsType[*envconfig.ParseError](err)
		if !ok {
			return fmt.Errorf("read the settings from the environment: %w", err)
		}
		value, isSet := os.LookupEnv(bad.KeyName)
		if !isSet {
			return fmt.Errorf("read the default of %s: %w", bad.KeyName, bad.Err)
		}
		m.addParse(bad)
		removed[bad.KeyName] = value
		if err := os.Unsetenv(bad.KeyName); err != nil {
			return fmt.Errorf("take %s out of the environment: %w", bad.KeyName, err)
		}
	}
}

func restore(removed map[string]string) error {
	var errs []error
	for name, value := range removed {
		if err := os.Setenv(name, value); err != nil {
			errs = append(errs, fmt.Errorf("put %s back into the environment: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// setting is what the tags say of one variable.
type setting struct {
	name    string
	accepts string
}

// settingsOf returns the variables that s is read from, in order. envconfig
// tells them to a template only.
func settingsOf(s *spec) ([]setting, error) {
	var settings []setting
	add := func(name string, tags reflect.StructTag) string {
		settings = append(settings, setting{name: name, accepts: tags.Get("accepts")})
		return ""
	}
	each, err := template.New("settings").Funcs(template.FuncMap{"add": add}).
		Parse(`{{range .}}{{add .Key .Tags}}{{end}}`)
	if err == nil {
		err = envconfig.Usaget(prefix, s, io.Discard, each)
	}
	if err != nil {
		return nil, fmt.Errorf("list the settings: %w", err)
	}
	return settings, nil
}
