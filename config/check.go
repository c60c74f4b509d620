// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// shape is what a text may look like.
type shape struct {
	accepts string
	check   func(text string) bool
}

const dnsLabel = `[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?`

// shapes are the shapes by their names in match tags.
var shapes = map[string]shape{
	"address":   {"host:port or :port, with port 0 for any free one", isAddress},
	"key":       {"a label's key", matching(`[^"'\x60\s=,]{0,253}`)},
	"label":     {"a name of lower case letters, digits and -", matching(dnsLabel)},
	"metric":    {"a metric name: letters, digits, _ and :, no digit first", matching(`([a-zA-Z_:][a-zA-Z0-9_:]*)?`)},
	"namespace": {"the name of a namespace", matching(dnsLabel)},
	"path":      {"a path that begins with /, without space, ?, # and %", matching(`/[!"$&->@-~]*`)},
	"resource": {"a list of plural, plural.group or *.group, such as pods or deployments.apps, each with a label selector in brackets if need be: pods[team in (a,b)]",
		func(item string) bool {
			name, selector := SplitResource(item)
			return isResource(name) && (selector == "" || parseSelector(selector) == nil)
		}},
	"subdomain": {"a name of lower case letters, digits, - and .", matching(dnsLabel + `(\.` + dnsLabel + `)*`)},
}

// isResource accepts the name of a resource. Upper case gets through, so that discovery
// can name the plural of a kind.
var isResource = matching(`(?i:` + dnsLabel + `)(\.` + dnsLabel + `)*|\*(\.` + dnsLabel + `)+`)

// matching accepts what a regular expression matches as a whole.
func matching(expression string) func(string) bool {
	return regexp.MustCompile(`^(?:` + expression + `)$`).MatchString
}

func isAddress(text string) bool {
	_, port, err := net.SplitHostPort(text)
	return err == nil && isPort(port)
}

func isPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil
}

// accepts says what the setting accepts, as its tags and its type do.
func (s *setting) accepts() string {
	text := s.tag("accepts")
	kind := "a whole number"
	if s.isDuration() {
		kind = "a duration"
	}
	if or := s.tag("or"); or != "" {
		kind = or + ", or " + kind
	}
	words := strings.Split(s.tag("oneof"), ",")
	last := len(words) - 1
	switch {
	case text != "":
	case s.tag("max") != "":
		text = kind + " from " + s.tag("min") + " to " + s.tag("max")
	case last > 0:
		text = strings.Join(words[:last], ", ") + " or " + words[last]
	case s.field.Type.Kind() == reflect.Bool:
		text = "true or false"
	case s.field.Type == reflect.TypeFor[Patterns]():
		text = "a list of Go regular expressions"
	default:
		text = shapes[s.tag("match")].accepts
	}
	if also := s.tag("also"); also != "" {
		text += ", " + also
	}
	return text
}

// check adds what the tags of a setting do not accept of its value.
func (v *validation) check(s *setting) {
	list, isList := s.value.Interface().(List)
	switch {
	case isList:
		for i, item := range list {
			if !s.acceptsText(item) {
				v.add(s.name, shown(item, s.advice(item)))
			} else if slices.Contains(list[:i], item) {
				v.add(s.name, shown(item, "is there twice")) // it would be read twice
			}
		}
	case s.tag("max") != "":
		if !s.inRange() {
			v.add(s.name, shown(os.Getenv(prefix+"_"+s.name), ""))
		}
	case s.field.Type.Kind() == reflect.String && !s.acceptsText(s.value.String()):
		if s.tag("secret") != "" {
			v.add(s.name, hidden(secret))
		} else {
			v.add(s.name, shown(s.value.String(), ""))
		}
	}
}

// advice says what to do about an item that is written as other tools have it, or
// that belongs elsewhere.
func (s *setting) advice(item string) string {
	topic, isResources := strings.CutSuffix(s.name, "_RESOURCES")
	name, selector := SplitResource(item)
	switch {
	case !isResources:
		return ""
	case selector != "" && isResource(name):
		return strings.TrimPrefix(parseSelector(selector).Error(), "="+strconv.Quote(selector)+": ")
	case item == "*":
		return "name the kinds, or whole groups such as *.apps"
	case strings.ContainsAny(item, "=:[({/_"):
		return "keys go to " + prefix + "_" + topic + "_FILTERS"
	}
	return ""
}

// acceptsText reports whether the setting accepts the text. One without a default
// may be empty.
func (s *setting) acceptsText(text string) bool {
	words, match := s.tag("oneof"), s.tag("match")
	switch {
	case text == "" && s.tag("default") == "":
		return true
	case words != "":
		return slices.Contains(strings.Split(words, ","), text)
	case match != "":
		return shapes[match].check(text)
	}
	return true
}

func (s *setting) inRange() bool {
	n := s.value.Int()
	return s.number("min") <= n && n <= s.number("max") || s.tag("or") != "" && n == s.number("or")
}

// number reads a tag as the setting's own value is read.
func (s *setting) number(tag string) int64 {
	n, err := strconv.ParseInt(s.tag(tag), 10, 64)
	if s.isDuration() {
		var d time.Duration
		d, err = time.ParseDuration(s.tag(tag))
		n = int64(d)
	}
	if err != nil {
		panic(err)
	}
	return n
}

func (s *setting) isDuration() bool { return s.field.Type == reflect.TypeFor[time.Duration]() }
