package record

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	"labelstream/config"
)

// Object is the metadata of one object, as a source reads it.
type Object struct {
	Namespace, Name     []byte
	Labels, Annotations []KeyValue
}

// KeyValue is one label or annotation of an object.
type KeyValue struct{ Key, Value []byte }

// Drops counts the tags that a builder left out or changed.
type Drops struct {
	// Empty values are left out: the protocol has no label without a value.
	Empty uint64
	// Unsafe values hold a character that HTML escapes.
	Unsafe uint64
	// Truncated values were longer than VALUE_MAX_BYTES; their beginning was kept.
	Truncated uint64
}

// Add adds more to the counts.
func (d *Drops) Add(more Drops) {
	d.Empty += more.Empty
	d.Unsafe += more.Unsafe
	d.Truncated += more.Truncated
}

// Builder turns the objects of one kind into records. It uses its memory
// again and is not safe for concurrent use.
type Builder struct {
	kind              *Kind
	excluded          map[string]struct{}
	maxBytes          int
	dropUnsafe        bool
	labels            series
	annotations       series
	labelKeys         keyTable
	annotationKeys    keyTable
	pairs             []pair
	record            Record
	optional          []pair
	drops             Drops
	namespaceIsItself bool
}

// pair is a label of the series being built, and the tag's key it stands for.
type pair struct {
	name       string
	key, value []byte
}

// maxByte is the largest uvarint of one byte.
const maxByte = 0x7f

// NewBuilder returns a builder for the objects of kind.
func NewBuilder(kind *Kind, cfg *config.Config) *Builder {
	b := &Builder{
		kind:              kind,
		excluded:          make(map[string]struct{}, len(cfg.NamespacesExclude)),
		maxBytes:          cfg.ValueMaxBytes,
		dropUnsafe:        cfg.UnsafeValues != config.UnsafeValuesKeep,
		labels:            newSeries(kind, cfg, "_labels"),
		annotations:       newSeries(kind, cfg, "_annotations"),
		labelKeys:         keyTable{keep: cfg.Labels.Keep, names: cfg.Names},
		annotationKeys:    keyTable{keep: cfg.Annotations.Keep, names: cfg.Names},
		namespaceIsItself: kind.NameLabel == namespaceLabel,
	}
	for _, namespace := range cfg.NamespacesExclude {
		b.excluded[namespace] = struct{}{}
	}
	for _, name := range sortedNames(cfg.ExternalLabels) {
		if strings.HasPrefix(name, tagPrefix) {
			b.optional = append(b.optional, pair{name: name, value: []byte(cfg.ExternalLabels[name])})
		}
	}
	return b
}

// Kind is the kind whose objects the builder takes.
func (b *Builder) Kind() *Kind { return b.kind }

// TakeDrops returns what was dropped since the last call.
func (b *Builder) TakeDrops() Drops {
	drops := b.drops
	b.drops = Drops{}
	return drops
}

// Build returns the object's record, or false where the object gives none: it
// has no name, or is in an excluded namespace (a Namespace counts as being in
// itself). The record is valid until the next call.
func (b *Builder) Build(o *Object) (*Record, bool) {
	if len(o.Name) == 0 || b.isExcluded(o) {
		return nil, false
	}
	b.record = Record{
		Kind:      b.kind,
		Namespace: o.Namespace,
		Name:      o.Name,
		Key:       Key(b.kind, o.Namespace, o.Name),
		Series:    b.record.Series[:0],
	}
	if b.kind.Labels {
		b.add(&b.labels, &b.labelKeys, o, o.Labels)
	}
	if b.kind.Annotations {
		b.add(&b.annotations, &b.annotationKeys, o, o.Annotations)
	}
	return &b.record, true
}

func (b *Builder) isExcluded(o *Object) bool {
	if len(b.excluded) == 0 {
		return false
	}
	namespace := o.Namespace
	if b.namespaceIsItself {
		namespace = o.Name
	}
	_, excluded := b.excluded[string(namespace)]
	return excluded
}

// add appends one series: what sorts before the tags, the tags, the rest.
func (b *Builder) add(s *series, keys *keyTable, o *Object, tags []KeyValue) {
	if b.addAlike(s, keys, o, tags) {
		return
	}
	b.collect(keys, tags)
	r := &b.record
	r.Series = AppendCount(r.Series, s.count(o)+len(b.pairs))
	r.Series = s.append(r.Series, s.before, o)
	for i := range b.pairs {
		p := &b.pairs[i]
		r.Series = AppendLabel(r.Series, p.name, p.value)
	}
	r.Series = s.append(r.Series, s.after, o)
	r.Count++
}

// addAlike appends one series of an object whose tags have the keys that the
// object before had at their places, in the order of their names: most objects
// of a list are such. It returns false, and appends nothing, where it is none.
func (b *Builder) addAlike(s *series, keys *keyTable, o *Object, tags []KeyValue) bool {
	count := s.count(o)
	if len(tags) > keys.ascending || len(b.optional) > 0 || count+len(tags) > maxByte {
		return false
	}
	r := &b.record
	before, drops := len(r.Series), b.drops
	r.Series = append(r.Series, 0) // the count
	r.Series = s.append(r.Series, s.before, o)
	for place := range tags {
		tag, last := &tags[place], &keys.last[place]
		if last.key != string(tag.Key) {
			r.Series, b.drops = r.Series[:before], drops
			return false
		}
		if last.name == "" {
			continue
		}
		if label := last.as(tag.Value); label != nil {
			r.Series = append(r.Series, label...)
			count++
			continue
		}
		if value, ok := b.value(tag.Value); ok {
			from := len(r.Series)
			r.Series = AppendLabel(r.Series, last.name, value)
			last.remember(r.Series[from:], len(value))
			count++
		}
	}
	r.Series = s.append(r.Series, s.after, o)
	r.Series[before] = byte(count)
	r.Count++
	return true
}

// collect gathers the labels that tags become in b.pairs, sorted, each name
// once.
func (b *Builder) collect(keys *keyTable, tags []KeyValue) {
	b.pairs = b.pairs[:0]
	sorted, before := true, ""
	for place := range tags {
		tag := &tags[place]
		name := keys.name(place, tag.Key)
		sorted = keys.ascends(place, before, name) && sorted
		if name != "" {
			b.pairs = append(b.pairs, pair{name: name, key: tag.Key, value: tag.Value})
			before = name
		}
	}
	if !sorted {
		b.pairs = lastOfKey(b.pairs)
	}
	b.checkValues()
	if !sorted {
		unique(b.pairs)
	}
	b.addOptional()
}

// checkValues puts what is sent in place of each value, and leaves out the
// pairs of which nothing is.
func (b *Builder) checkValues() {
	kept := 0
	for i := range b.pairs {
		p := &b.pairs[i]
		value, ok := b.value(p.value)
		if !ok {
			continue
		}
		p.value = value
		if kept < i {
			b.pairs[kept] = *p
		}
		kept++
	}
	b.pairs = b.pairs[:kept]
}

// addOptional adds the external labels that are named like tags, where the
// object has no such tag.
func (b *Builder) addOptional() {
	for _, p := range b.optional {
		at, found := slices.BinarySearchFunc(b.pairs, p.name, func(p pair, name string) int {
			return strings.Compare(p.name, name)
		})
		if !found {
			b.pairs = slices.Insert(b.pairs, at, p)
		}
	}
}

// value returns what is sent of a tag's value, or false where it is left out.
func (b *Builder) value(value []byte) ([]byte, bool) {
	if len(value) == 0 {
		b.drops.Empty++
		return nil, false
	}
	escaped, ascii := scan(value)
	if escaped && b.dropUnsafe {
		b.drops.Unsafe++
		return nil, false
	}
	if !ascii {
		value = valid(value)
	}
	if len(value) > b.maxBytes {
		b.drops.Truncated++
		value = cut(value, b.maxBytes)
	}
	return value, len(value) > 0
}

// htmlEscapes are the characters that HTML escapes, the likeliest first.
const htmlEscapes = `"&<>'`

// escapeBits has the bit of each of htmlEscapes: all of them are below 64.
const escapeBits uint64 = 1<<'"' | 1<<'&' | 1<<'<' | 1<<'>' | 1<<'\''

// shortValue is the length in bytes up to which a loop over a value beats the
// searches that use vector instructions.
const shortValue = 32

// scan reports whether value has a character that HTML escapes, and whether it
// is known to be ASCII. It is most of what a value costs: labels are many and
// short, annotations may hold 256 KiB.
func scan(value []byte) (escaped, ascii bool) {
	if len(value) > shortValue {
		return containsEscaped(value), false
	}
	var bits uint64
	var all byte
	for _, c := range value {
		bits |= escapeBits >> c // shifts by 64 and more give 0
		all |= c
	}
	return bits&1 != 0, all < utf8.RuneSelf
}

func containsEscaped(value []byte) bool {
	for i := range len(htmlEscapes) {
		if bytes.IndexByte(value, htmlEscapes[i]) >= 0 {
			return true
		}
	}
	return false
}

// valid returns text with what is not UTF-8 replaced: the protocol demands it.
// An API server lets no such text in; a hostile webhook caller may send it.
func valid(text []byte) []byte {
	if utf8.Valid(text) {
		return text
	}
	return bytes.ToValidUTF8(text, []byte("\uFFFD"))
}

// cut shortens valid UTF-8 to at most limit bytes, at the start of a rune.
func cut(value []byte, limit int) []byte {
	for limit > 0 && !utf8.RuneStart(value[limit]) {
		limit--
	}
	return value[:limit]
}
