// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/url"
	"strings"
)

type (
	// URL is an absolute http or https URL.
	URL struct{ *url.URL }
	// Preset is a receiver that has defaults of its own.
	Preset string
	// Form is the form of series.
	Form string
	// Names is how keys become label names.
	Names string
	// UnsafeValues is what happens to values with characters that HTML escapes.
	UnsafeValues string
	// Changes is what tells of changes between two lists.
	Changes string
	// Protocol is a version of remote_write, or auto.
	Protocol string
	// OnRefused is what happens to a refused batch.
	OnRefused string
)

// Decode reads an absolute http or https URL for envconfig; nothing is none. No
// error holds the URL's user, password or query.
func (u *URL) Decode(value string) error {
	value = strings.TrimSpace(value)
	if value == "" {
		*u = URL{}
		return nil
	}
	parsed, err := url.Parse(value)
	if err == nil && isEndpoint(parsed) {
		*u = URL{parsed}
		return nil
	}
	if strings.ContainsAny(value, "@?#") {
		return invalidValues{hidden(secret)}
	}
	return invalidValues{shown(value, "")}
}

func isEndpoint(u *url.URL) bool {
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return false
	}
	return u.Port() == "" || isPort(u.Port())
}

// Redacted returns the URL without user, password, query and fragment, for logs
// and errors; "" where there is no URL.
func (u URL) Redacted() string {
	if u.URL == nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}
