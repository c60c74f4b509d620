// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Label is a label of a series.
type Label struct{ Name, Value string }

// Sample is a value and its time in milliseconds since 1970.
type Sample struct {
	Timestamp int64
	Value     float64
}

// Series is a series as it was received.
type Series struct {
	Labels  []Label
	Samples []Sample
}

const nameLabel = "__name__"

// classic are the names that the text format writes without quotes.
var classic = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// Get returns the value of a label, "" if the series has none of that name.
func (s Series) Get(name string) string {
	for _, l := range s.Labels {
		if l.Name == name {
			return l.Value
		}
	}
	return ""
}

// String returns the series as Prometheus writes it, the labels in the order
// in which they came: `name{a="b","c.d/e"="f"}`.
func (s Series) String() string {
	var labels []string
	for _, l := range s.Labels {
		name := l.Name
		if !classic.MatchString(name) {
			name = strconv.Quote(name)
		}
		if name != nameLabel {
			labels = append(labels, name+"="+strconv.Quote(l.Value))
		}
	}
	return s.Get(nameLabel) + "{" + strings.Join(labels, ",") + "}"
}

// checkSeries holds a series against what the specification demands of it.
func checkSeries(s Series, now time.Time) []error {
	var errs []error
	for i, l := range s.Labels {
		switch {
		case l.Name == "":
			errs = append(errs, fmt.Errorf("label %d has no name", i))
		case l.Value == "":
			errs = append(errs, fmt.Errorf("label %q has no value", l.Name))
		}
		if !utf8.ValidString(l.Name) || !utf8.ValidString(l.Value) {
			errs = append(errs, fmt.Errorf("label %q=%q is not UTF-8", l.Name, l.Value))
		}
		if i == 0 {
			continue
		}
		switch before := s.Labels[i-1].Name; cmp.Compare(before, l.Name) {
		case 0:
			errs = append(errs, fmt.Errorf("label %q is there twice", l.Name))
		case 1:
			errs = append(errs, fmt.Errorf("label %q comes after %q", l.Name, before))
		}
	}
	if s.Get(nameLabel) == "" {
		errs = append(errs, errors.New("no __name__"))
	}
	return append(errs, checkSamples(s.Samples, now)...)
}

func checkSamples(samples []Sample, now time.Time) []error {
	if len(samples) == 0 {
		return []error{errors.New("no samples")}
	}
	var errs []error
	for i, sample := range samples {
		at := time.UnixMilli(sample.Timestamp)
		if !at.After(now.Add(-maxAge)) || !at.Before(now.Add(maxAhead)) {
			errs = append(errs, fmt.Errorf("timestamp %d is %v from now", sample.Timestamp, at.Sub(now)))
		}
		if i > 0 && sample.Timestamp <= samples[i-1].Timestamp {
			errs = append(errs, fmt.Errorf("timestamp %d is not after %d", sample.Timestamp, samples[i-1].Timestamp))
		}
	}
	return errs
}

// Print writes every sample of every series on a line of its own, sorted by
// series, its time in RFC 3339. The error is the writer's.
func (r *Receiver) Print(w io.Writer) error {
	for _, s := range r.All() {
		for _, sample := range s.Samples {
			at := time.UnixMilli(sample.Timestamp).UTC().Format("2006-01-02T15:04:05.000Z")
			if _, err := fmt.Fprintf(w, "%s %v %s\n", s, sample.Value, at); err != nil {
				return fmt.Errorf("print the series received: %w", err)
			}
		}
	}
	return nil
}
