// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"bytes"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"labelstream/config"
	"labelstream/record"
)

const (
	// maxKeys bounds how many keys are counted, over all kinds: those that are seen
	// first.
	maxKeys = 20_000
	// maxExample is how many bytes of a value are kept.
	maxExample = 64
)

// source is where keys are.
type source uint8

const (
	label source = iota
	annotation
)

// Collector counts what the objects of a backfill have. Observe is safe for
// concurrent use.
type Collector struct {
	cfg     *config.Config
	options Options
	shows   *regexp.Regexp

	mu      sync.Mutex
	counter counter
	kinds   map[string]*kind
	// uncounted is how many labels and annotations have keys beyond maxKeys.
	uncounted int64
}

// kind is what the objects of one kind have.
type kind struct {
	*record.Kind
	objects, series, bytes int64
	// overfull objects have more labels than a series may have, by tooMany labels.
	overfull, tooMany int64
	// keys are by source and name.
	keys [2]map[string]*key
}

// key is what the objects of one kind have under one key.
type key struct {
	values
	objects, empty, unsafe, truncated int64
	longest                           int
	example                           string
}

// NewCollector returns a collector that has seen nothing. The options must be valid.
func NewCollector(cfg *config.Config, options Options) *Collector {
	return &Collector{
		cfg: cfg, options: options, shows: regexp.MustCompile(options.Key),
		counter: newCounter(), kinds: make(map[string]*kind),
	}
}

// Observe counts one object, whose record is of so many bytes encoded, and what was
// dropped to build it.
func (c *Collector) Observe(o *record.Object, r *record.Record, size int, dropped record.Drops) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.kinds[r.Kind.Resource]
	if k == nil {
		k = &kind{Kind: r.Kind, keys: [2]map[string]*key{{}, {}}}
		c.kinds[r.Kind.Resource] = k
	}
	k.objects++
	k.series += int64(r.Count)
	k.bytes += int64(size)
	if dropped.TooMany > 0 {
		k.overfull++
		k.tooMany += int64(dropped.TooMany)
	}
	c.observe(k, label, o.Labels)
	c.observe(k, annotation, o.Annotations)
}

func (c *Collector) observe(k *kind, from source, all []record.KeyValue) {
	for i := range all {
		stats := k.keys[from][string(all[i].Key)]
		if stats == nil {
			if c.counter.ids == maxKeys {
				c.uncounted++
				continue
			}
			stats = &key{values: c.counter.newValues(from)}
			k.keys[from][string(all[i].Key)] = stats
		}
		c.count(stats, all[i].Value)
	}
}

// count counts a value, and what would be dropped of it in the order in which a
// builder looks at values.
func (c *Collector) count(k *key, value []byte) {
	k.objects++
	k.longest = max(k.longest, len(value))
	c.counter.add(&k.values, value)
	switch {
	case len(value) == 0:
		k.empty++
	case c.cfg.UnsafeValues != config.UnsafeValuesKeep && bytes.ContainsAny(value, record.UnsafeCharacters):
		k.unsafe++
	case len(value) > c.cfg.ValueMaxBytes:
		k.truncated++
	}
	if k.example == "" && !c.options.NoExamples && (k.source == label || c.options.ShowAnnotations) {
		k.example = shorten(value)
	}
}

// shorten keeps the beginning of a value.
func shorten(value []byte) string {
	if len(value) <= maxExample {
		return string(value)
	}
	return strings.ToValidUTF8(string(value[:maxExample]), "") + "…"
}

// sortedKinds are the kinds by name.
func (c *Collector) sortedKinds() []*kind {
	return slices.SortedFunc(maps.Values(c.kinds), func(a, b *kind) int { return strings.Compare(a.Resource, b.Resource) })
}
