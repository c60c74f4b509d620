package config

import (
	"fmt"
	"io"

	"github.com/kelseyhightower/envconfig"
)

const usageFormat = `Settings are read from the environment. Lists are separated by newlines, or by
commas outside of brackets and braces. Durations are written like 90s, 10m or 1h.
{{range .}}
{{usage_key .}}{{with usage_default .}} (default: {{.}}){{end}}
    {{usage_description .}}
    accepted: {{.Tags.Get "accepts"}}
{{end}}`

// Usage writes what every setting is for, its default, and what it accepts. The
// error is w's.
func Usage(w io.Writer) error {
	if err := envconfig.Usagef(prefix, newSpec(), w, usageFormat); err != nil {
		return fmt.Errorf("write the settings' usage: %w", err)
	}
	return nil
}
