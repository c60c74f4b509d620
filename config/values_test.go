// SPDX-License-Identifier: Apache-2.0

package config

import (
	"strings"
	"testing"
)

func TestURLRedacted(t *testing.T) {
	for value, want := range map[string]string{
		"":                                      "",
		"http://collector":                      "http://collector",
		"HTTPS://Collector/a":                   "https://Collector/a",
		"http://[::1]:9090/w":                   "http://[::1]:9090/w",
		"http://h/a%2Fb?t=x#f":                  "http://h/a%2Fb",
		"http://user:pw@h:1/w?token=x&tenant=y": "http://h:1/w",
	} {
		var u URL
		if err := u.Decode(value); err != nil {
			t.Errorf("Decode(%q): %v", value, err)
		}
		if got := u.Redacted(); got != want {
			t.Errorf("Redacted of %q = %q, want %q", value, got, want)
		}
	}
}

// FuzzLoad checks that whatever the values, Load gives either settings or an
// error whose every line begins with a variable and never shows a password.
func FuzzLoad(f *testing.F) {
	f.Add("http", "user", "@host", ".*,[,]", "a=b,c=d", "pods,*.apps", "a\nb", "1MiB")
	f.Add("ftp", "a/", "b@c?d#e", "(", "__a=\xff", "*", "A,a,a", "-1")
	f.Add("", "", "", "", "", "", "", "")
	f.Fuzz(func(t *testing.T, scheme, user, rest, filters, pairs, resources, namespaces, number string) {
		const password = "correct-horse"
		settings := map[string]string{
			"DESTINATION":        scheme + "://" + user + ":" + password + "@" + rest,
			"LABELS_FILTERS":     filters,
			"EXTERNAL_LABELS":    pairs,
			"LABELS_RESOURCES":   resources,
			"NAMESPACES":         namespaces,
			"NAMESPACES_EXCLUDE": pairs,
			"METRIC_PREFIX":      scheme,
			"BATCH_SIZE":         number,
			"SEND_INTERVAL":      number,
			"STATUS_ADDRESS":     rest,
		}
		for name, value := range settings {
			settings[name] = strings.ReplaceAll(value, "\x00", "0") // no environment holds it
		}
		setenv(t, settings)
		cfg, err := Load(false)
		if (cfg == nil) == (err == nil) {
			t.Fatalf("Load = %v, %v, want one of them", cfg, err)
		}
		if err == nil {
			return
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			if !strings.HasPrefix(line, "LABELSTREAM_") || strings.Contains(line, password) {
				t.Errorf("%q is not a variable and what is wrong with it, without the password", line)
			}
		}
	})
}
