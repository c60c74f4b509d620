// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"labelstream/config"
	"labelstream/record"
)

// Report is what a backfill has found. Its JSON and YAML have the names of the tags.
type Report struct {
	Preset config.Preset `json:"preset"`
	Limits Limits        `json:"limits"`
	// Kinds are what would be sent, Total is the sum of them.
	Kinds []Kind `json:"kinds"`
	Total Kind   `json:"total"`
	// KeysSent is the number of distinct keys that would be sent.
	KeysSent int `json:"keysSent"`
	// Notes say what the report lacks, and what the receiver would not take.
	Notes []string `json:"notes"`
	// SuggestedFilters are a value of LABELSTREAM_LABELS_FILTERS.
	SuggestedFilters string `json:"suggestedFilters"`
	// Spellings are the meanings that have several keys.
	Spellings []Spelling `json:"spellings"`
	// Keys are sorted by coverage, the highest first. They are written last, one
	// by one.
	Keys []Key `json:"keys,omitempty"`
}

// Limits are those of the receiver, as the settings say; 0 means none.
type Limits struct {
	ValueMaxBytes      int                 `json:"valueMaxBytes"`
	UnsafeValues       config.UnsafeValues `json:"unsafeValues"`
	LabelNameMaxBytes  int                 `json:"labelNameMaxBytes"`
	MaxLabelsPerSeries int                 `json:"maxLabelsPerSeries"`
	MaxKeys            int                 `json:"maxKeys"`
}

// Kind is what would be sent of one kind.
type Kind struct {
	Kind    string `json:"kind"`
	Objects int64  `json:"objects"`
	Series  int64  `json:"series"`
	// Bytes are those of one sample of each series, encoded as remote_write 1.0
	// and not compressed.
	Bytes int64 `json:"bytes"`
	// SamplesPerDay and BytesPerDay are those of the resyncs; changes come on top.
	SamplesPerDay int64 `json:"samplesPerDay"`
	BytesPerDay   int64 `json:"bytesPerDay"`
}

// Key is what the objects of one kind have under one key.
type Key struct {
	Key    string `json:"key"`
	Kind   string `json:"kind"`
	Source string `json:"source"`
	// Objects have the key; Coverage is their share of the kind's, in percent.
	Objects  int64   `json:"objects"`
	Coverage float64 `json:"coverage"`
	// Distinct is the number of distinct values.
	Distinct  int64     `json:"distinct"`
	Exactness Exactness `json:"exactness"`
	// Longest is the number of bytes of the longest value.
	Longest int    `json:"longest"`
	Example string `json:"example,omitempty"`
	Sent    bool   `json:"sent"`
	// Reason is why the key is sent or not, and Pattern the filter or exclude that
	// says so.
	Reason  Reason `json:"reason"`
	Pattern string `json:"pattern,omitempty"`
	// What would happen if the key is sent: its name is too long, or so many of
	// its values are left out for being empty or unsafe, or are truncated.
	NameTooLong bool  `json:"nameTooLong,omitempty"`
	Empty       int64 `json:"empty,omitempty"`
	Unsafe      int64 `json:"unsafe,omitempty"`
	Truncated   int64 `json:"truncated,omitempty"`
}

// Exactness is what the number of distinct values is.
type Exactness string

// An estimate has a standard error of 0.8 %, a coarse one of 2.3 %.
const (
	Exact    Exactness = "exact"
	Estimate Exactness = "estimate"
	Coarse   Exactness = "coarse estimate"
	AtLeast  Exactness = "at least"
)

// Reason is why a key is sent or not.
type Reason string

// The pattern of a key says which filter or exclude it is.
const (
	Filter      Reason = "filter"
	Excluded    Reason = "exclude"
	NoFilter    Reason = "no filter"
	Added       Reason = "added by a setting"
	NotChosen   Reason = "source not chosen"
	NameTooLong Reason = "name too long"
	Converted   Reason = "made by the API server"
)

// Report returns what was observed. The collector takes nothing more after it.
func (c *Collector) Report() *Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	// The rows take the place of the hashes; more is freed with each sketch.
	c.counter.slots = nil
	runtime.GC()
	r := &Report{
		Preset: c.cfg.Preset,
		Limits: Limits{c.cfg.ValueMaxBytes, c.cfg.UnsafeValues, c.cfg.LabelNameMaxBytes, c.cfg.MaxLabelsPerSeries, c.cfg.MaxKeys},
		Kinds:  []Kind{}, Total: Kind{Kind: "total"}, Notes: []string{}, Keys: make([]Key, 0, c.counter.ids),
	}
	for _, k := range c.sortedKinds() {
		r.addKind(k, c.cfg.ResyncInterval)
		r.addKeys(k, c.cfg)
	}
	slices.SortFunc(r.Keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(b.Coverage, a.Coverage), strings.Compare(a.Kind, b.Kind),
			strings.Compare(b.Source, a.Source), strings.Compare(a.Key, b.Key))
	})
	r.addNotes(c)
	r.SuggestedFilters = suggestFilters(r.Keys)
	r.Spellings = spellings(r.Keys)
	r.Keys = slices.DeleteFunc(r.Keys, func(k Key) bool { return k.Coverage < c.options.MinCoverage || !c.shows.MatchString(k.Key) })
	for i := range r.Keys {
		r.Keys[i].Coverage = math.Round(r.Keys[i].Coverage*100) / 100
	}
	return r
}

func (r *Report) addKind(k *kind, resync time.Duration) {
	row := Kind{Kind: k.Resource, Objects: k.objects, Series: k.series, Bytes: k.bytes}
	if resync > 0 {
		row.SamplesPerDay = int64(float64(k.series) * float64(24*time.Hour) / float64(resync))
		row.BytesPerDay = int64(float64(k.bytes) * float64(24*time.Hour) / float64(resync))
	}
	r.Kinds = append(r.Kinds, row)
	r.Total.Objects += row.Objects
	r.Total.Series += row.Series
	r.Total.Bytes += row.Bytes
	r.Total.SamplesPerDay += row.SamplesPerDay
	r.Total.BytesPerDay += row.BytesPerDay
}

// addKeys adds a kind's keys, and forgets their sketches.
func (r *Report) addKeys(k *kind, cfg *config.Config) {
	names := newNamer(k.Kind, cfg)
	for from, text := range []string{"label", "annotation"} {
		settings, isChosen := &cfg.Labels, k.Labels
		if source(from) == annotation {
			settings, isChosen = &cfg.Annotations, k.Annotations
		}
		for name, stats := range k.keys[from] {
			row := Key{
				Key: name, Kind: k.Resource, Source: text, Objects: stats.objects, Coverage: 100 * float64(stats.objects) / float64(k.objects),
				Longest: stats.longest, Example: stats.example, Empty: stats.empty, Unsafe: stats.unsafe, Truncated: stats.truncated,
			}
			row.Distinct, row.Exactness = stats.distinct()
			row.Distinct = min(row.Distinct, row.Objects) // an estimate may be above
			stats.sketch = nil
			named, tooLong := names.name(source(from), name)
			row.NameTooLong = tooLong
			row.Reason, row.Pattern = decide(settings, name, isChosen, named, tooLong)
			row.Sent = row.Reason == Filter || row.Reason == Added
			r.Keys = append(r.Keys, row)
		}
	}
}

// decide says why a key is sent or not, and which pattern decides.
func decide(source *config.LabelSource, key string, isChosen, isNamed, isLong bool) (Reason, string) {
	rank, ok := source.Rank(key)
	switch {
	case !isChosen:
		return NotChosen, ""
	case rank < 0:
		return NoFilter, ""
	case !ok:
		matches := func(pattern *config.Pattern) bool { return pattern.MatchString(key) }
		return Excluded, source.Exclude[slices.IndexFunc(source.Exclude, matches)].String()
	case isLong:
		return NameTooLong, ""
	case !isNamed:
		return Converted, ""
	case slices.Contains(source.Added, key):
		return Added, ""
	}
	return Filter, source.Filters[rank].String()
}

// namer finds out what becomes of a key when no filter is in its way. It asks the
// code that builds the series.
type namer struct{ builder *record.Builder }

func newNamer(kind *record.Kind, cfg *config.Config) namer {
	open, all := *cfg, config.Patterns{{Regexp: regexp.MustCompile("")}}
	open.Labels.Filters, open.Labels.Exclude = all, nil
	open.Annotations.Filters, open.Annotations.Exclude = all, nil
	both := *kind
	both.Labels, both.Annotations = true, true
	return namer{record.NewBuilder(&both, &open, nil)}
}

// name reports whether a key gives a label, and whether its name is too long for one.
func (n namer) name(from source, key string) (ok, tooLong bool) {
	// No namespace has this name, and no label but the key's has this value.
	const name, value = "-", "\x01"
	o := record.Object{Namespace: []byte(name), Name: []byte(name), UID: []byte(name)}
	pair := []record.KeyValue{{Key: []byte(key), Value: []byte(value)}}
	if from == label {
		o.Labels = pair
	} else {
		o.Annotations = pair
	}
	r, _ := n.builder.Build(&o)
	for series := record.Cursor(r.Series); len(series) > 0; {
		for range series.Count() {
			_, v := series.Label()
			ok = ok || string(v) == value
		}
	}
	return ok, n.builder.TakeDrops().LongName > 0
}

// addNotes says what the counts lack, and what is beyond the receiver's limits.
func (r *Report) addNotes(c *Collector) {
	sent, inexact := make(map[string]bool), make(map[Exactness]int)
	for i := range r.Keys {
		if r.Keys[i].Sent {
			sent[r.Keys[i].Key] = true
		}
		inexact[r.Keys[i].Exactness]++
	}
	r.KeysSent = len(sent)
	note := func(format string, args ...any) { r.Notes = append(r.Notes, fmt.Sprintf(format, args...)) }
	if c.uncounted > 0 {
		note("Only the first %d keys are counted: %d labels and annotations have others, and are in no row", maxKeys, c.uncounted)
	}
	if coarse, bounded := inexact[Coarse], inexact[AtLeast]; coarse+bounded > 0 {
		note("The memory for counting distinct values is used up: for %d keys the number is a coarse estimate (≈), for %d a lower bound (≥)", coarse, bounded)
	}
	if limit := r.Limits.MaxKeys; limit > 0 && len(sent) > limit {
		note("%d distinct keys would be sent, more than LABELSTREAM_MAX_KEYS=%d", len(sent), limit)
	}
	for _, k := range c.sortedKinds() {
		if k.overfull > 0 {
			note("Objects of %s with more labels than LABELSTREAM_MAX_LABELS_PER_SERIES=%d: %d; labels that would be left out of them: %d",
				k.Resource, r.Limits.MaxLabelsPerSeries, k.overfull, k.tooMany)
		}
	}
}
