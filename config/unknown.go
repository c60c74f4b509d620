package config

import (
	"regexp"
	"slices"
	"strings"
)

// Kubernetes sets these in every pod for each Service in its namespace, so also
// for one that is named labelstream, or labelstream-something.
var (
	serviceLink = regexp.MustCompile(`^` + prefix + `_([A-Z0-9_]+_)?` +
		`(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)$`)
	servicePort    = regexp.MustCompile(`^` + prefix + `_[A-Z0-9_]+_PORT$`)
	servicePortURL = regexp.MustCompile(`^(tcp|udp|sctp)://`)
)

// findUnknown adds each variable with our prefix that is no setting, with the
// setting whose name is nearest. Its value may be a secret: it is not shown.
func findUnknown(environ []string, settings []setting, m *mistakes) {
	for _, entry := range slices.Sorted(slices.Values(environ)) {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, prefix+"_") || isServiceLink(name, value) {
			continue
		}
		known := func(s setting) bool { return s.name == name }
		if !slices.ContainsFunc(settings, known) {
			m.addf("%s is no setting; the nearest is %s", name, nearest(name, settings))
		}
	}
}

// isServiceLink tells LABELSTREAM_SOME_PORT, which is a URL in a service link,
// from a setting that somebody believes in.
func isServiceLink(name, value string) bool {
	if name == prefix+"_PORT" || serviceLink.MatchString(name) {
		return true
	}
	return servicePort.MatchString(name) && servicePortURL.MatchString(value)
}

// nearest returns the setting that the fewest edits make of name; of equals, the
// first.
func nearest(name string, settings []setting) string {
	best := slices.MinFunc(settings, func(a, b setting) int {
		return edits(name, a.name) - edits(name, b.name)
	})
	return best.name
}

// edits returns how many bytes must be inserted, removed or replaced to make b of
// a.
func edits(a, b string) int {
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
