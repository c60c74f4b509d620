// SPDX-License-Identifier: Apache-2.0

package config

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// serviceLink is what Kubernetes sets in every pod for each Service in its
// namespace, so also for one that is named labelstream, or labelstream-something.
var serviceLink = regexp.MustCompile(`^` + prefix + `_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|` +
	`PORT_[0-9]+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?|PORT=(tcp|udp|sctp)://.*)(=|$)`)

const nothing = "nothing, it is not needed"

// renamed says what to write instead of the settings that are gone.
var renamed = map[string]string{
	"WATCH_ENABLED":         "CHANGES=watch, or CHANGES=none for false",
	"WEBHOOK_ENABLED":       "CHANGES=webhook",
	"ONCE":                  "--once as an argument",
	"WEBHOOK_SELF_SIGNED":   "nothing: without WEBHOOK_CERT_DIR the certificate is self-signed",
	"WEBHOOK_CERT_FILE":     "WEBHOOK_CERT_DIR, with tls.crt in it",
	"WEBHOOK_KEY_FILE":      "WEBHOOK_CERT_DIR, with tls.key in it",
	"WEBHOOK_SECRET":        "WEBHOOK_NAME",
	"WEBHOOK_SERVICE":       "WEBHOOK_NAME",
	"WEBHOOK_CONFIGURATION": "WEBHOOK_NAME",
	"LEASE_NAMESPACE":       "POD_NAMESPACE",
	"POD_NAME":              nothing,
	"WEBHOOK_RECONNECT":     nothing,
	"MAX_BYTES_PER_SEND":    nothing,
	"LEASE_DURATION":        nothing,
	"RENEW_DEADLINE":        nothing,
	"RETRY_PERIOD":          nothing,
}

// addUnknown adds each variable with our prefix that is not a setting, with what
// to write instead. Its value may be a secret: it is not shown.
func (v *validation) addUnknown(environ []string) {
	for _, entry := range slices.Sorted(slices.Values(environ)) {
		variable, _, _ := strings.Cut(entry, "=")
		name, ours := strings.CutPrefix(variable, prefix+"_")
		if !ours || v.settings[name] != nil || serviceLink.MatchString(entry) {
			continue
		}
		if instead, ok := renamed[name]; ok {
			v.addf("%s is not a setting any more; write %s", variable, instead)
		} else {
			v.addf("%s is not a setting; the closest is %s_%s", variable, prefix, Closest(name, slices.Collect(maps.Keys(v.settings))))
		}
	}
}

// Closest returns which of the names was most likely meant by name: one that begins
// with it, or else the one with the smallest distance. The names are not empty. Of
// several it is the first by the alphabet.
func Closest(name string, names []string) string {
	distance := func(other string) int {
		if name != "" && strings.HasPrefix(other, name) {
			return 0
		}
		return levenshtein(name, other)
	}
	return slices.MinFunc(slices.Sorted(slices.Values(names)), func(a, b string) int { return distance(a) - distance(b) })
}

// levenshtein returns how many bytes must be inserted, removed or replaced to turn
// a into b.
func levenshtein(a, b string) int {
	// row[j] is the distance from the part of a that was read to b[:j].
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
