// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"io"
	"strings"
)

const usageHeader = `Settings are read from the environment. Lists are separated by newlines, or by
commas outside of brackets and braces. Durations are written like 90s, 10m or 1h.

`

// Usage writes what every setting is for, its default, and what it accepts. The
// error is w's.
func Usage(w io.Writer) error {
	var text strings.Builder
	text.WriteString(usageHeader)
	for _, s := range settingsOf(new(environment)) {
		fmt.Fprintf(&text, "%s_%s", prefix, s.name)
		if value := strings.TrimPrefix(strings.Join(s.defaults(), "; "), "; "); value != "" {
			fmt.Fprintf(&text, " (default: %s)", value)
		}
		fmt.Fprintf(&text, "\n    %s\n    accepted: %s\n", s.tag("desc"), s.accepts())
	}
	if _, err := io.WriteString(w, text.String()); err != nil {
		return fmt.Errorf("write the settings' usage: %w", err)
	}
	return nil
}
