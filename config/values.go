package config

import (
	"math"
	"net/url"
	"strconv"
	"strings"
)

type (
	// Bytes is a size such as 1MiB.
	Bytes int
	// URL is an absolute http or https URL.
	URL struct{ *url.URL }
	// Names is how label names are written.
	Names string
	// UnsafeValues is what happens to values with characters that HTML escapes.
	UnsafeValues string
	// Changes is what tells of changes.
	Changes string
	// Protocol is a version of remote_write, or auto.
	Protocol string
	// OnRefused is what happens to a batch that is refused.
	OnRefused string
)

// Decode reads a size for envconfig: a whole number of bytes, or one followed by
// a unit. KB and MB are powers of 1000; KiB and MiB are powers of 1024, and may
// be written Ki and Mi as Kubernetes does.
func (b *Bytes) Decode(value string) error {
	text := strings.TrimSpace(value)
	digits := strings.TrimRight(text, "BKMi")
	factor, ok := unitBytes(text[len(digits):])
	n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 63)
	if !ok || err != nil || n > math.MaxInt/factor {
		return wrongValues{{shown: value}}
	}
	*b = Bytes(n * factor)
	return nil
}

func unitBytes(unit string) (bytes uint64, ok bool) {
	switch unit {
	case "", "B":
		return 1, true
	case "KB":
		return 1e3, true
	case "MB":
		return 1e6, true
	case "KiB", "Ki":
		return 1 << 10, true
	case "MiB", "Mi":
		return 1 << 20, true
	}
	return 0, false
}

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
		return wrongValues{{hidden: true, reason: "no such URL, and not shown as it may hold a secret"}}
	}
	return wrongValues{{shown: value}}
}

func isEndpoint(u *url.URL) bool {
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return false
	}
	return u.Port() == "" || isPort(u.Port())
}

func isPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil
}

// Redacted returns the URL without user, password, query and fragment, for logs
// and errors; "" where there is no URL.
func (u URL) Redacted() string {
	if u.URL == nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}
