// SPDX-License-Identifier: Apache-2.0

package record

import (
	"cmp"
	"hash/maphash"
	"slices"

	"labelstream/config"
)

// Object is the metadata of one object, as a source reads it.
type Object struct {
	Namespace, Name, UID []byte
	Labels, Annotations  []KeyValue
	// Owners are the owner references, where they are read.
	Owners []Owner
}

// Owner is an owner reference.
type Owner struct {
	Kind, Name []byte
	// IsController says that the owner has made the object, and manages it.
	IsController bool
}

// KeyValue is one label or annotation of an object.
type KeyValue struct{ Key, Value []byte }

// Drops counts the labels and annotations that a builder left out or changed.
type Drops struct {
	// Empty values are left out: the protocol has no label without a value.
	Empty uint64 `json:"empty"`
	// Unsafe values hold a character that HTML escapes.
	Unsafe uint64 `json:"unsafe"`
	// Truncated values were longer than VALUE_MAX_BYTES; their beginning was kept.
	Truncated uint64 `json:"truncated"`
	// LongName labels have a name of more than LABEL_NAME_MAX_BYTES.
	LongName uint64 `json:"long_name"`
	// TooMany labels were beyond MAX_LABELS_PER_SERIES.
	TooMany uint64 `json:"too_many"`
}

// Add adds more to the counts.
func (d *Drops) Add(more Drops) {
	d.Empty += more.Empty
	d.Unsafe += more.Unsafe
	d.Truncated += more.Truncated
	d.LongName += more.LongName
	d.TooMany += more.TooMany
}

// Builder turns the objects of one kind into records. It uses its memory
// again and is not safe for concurrent use.
type Builder struct {
	kind       *Kind
	excluded   map[string]bool
	maxBytes   int
	dropUnsafe bool

	labels, annotations, owners series

	record Record
	drops  Drops
	// id is the memory of key. The first idStart bytes of it are the kind's.
	id      []byte
	idStart int
	// sorting is the memory of addUnsorted.
	sorting []namedLabel
}

// namedLabel is a label of the series being built, and the key that it stands for.
type namedLabel struct {
	name       string
	key, value []byte
	rank       int
	// known is what is remembered of the key, nil for an external label.
	known *labelName
}

// always is the rank of a label that stays whatever the limit is.
const always = -1

// NewBuilder returns a builder for the objects of kind. keys counts what is sent;
// nil counts nothing.
func NewBuilder(kind *Kind, cfg *config.Config, keys *Keys) *Builder {
	b := &Builder{
		kind:        kind,
		excluded:    make(map[string]bool, len(cfg.NamespacesExclude)),
		maxBytes:    cfg.ValueMaxBytes,
		dropUnsafe:  cfg.UnsafeValues != config.UnsafeValuesKeep,
		labels:      newSeries(kind, cfg, "_labels", newLabelNames(cfg, &cfg.Labels, keys)),
		annotations: newSeries(kind, cfg, "_annotations", newLabelNames(cfg, &cfg.Annotations, keys)),
		owners:      newSeries(kind, cfg, "_owner", labelNames{prefix: "owner_"}),
		id:          []byte(kind.Resource + "\x00"),
		idStart:     len(kind.Resource) + 1,
	}
	for _, namespace := range cfg.NamespacesExclude {
		b.excluded[namespace] = true
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
// has no name, or no namespace or uid though its series have one, or it is in an
// excluded namespace (a Namespace counts as being in itself). The record is valid until
// the next call.
func (b *Builder) Build(o *Object) (*Record, bool) {
	if len(o.Name) == 0 || b.kind.Namespaced && len(o.Namespace) == 0 || b.kind.UID && len(o.UID) == 0 || b.isExcluded(o) {
		return nil, false
	}
	b.record = Record{
		Kind:      b.kind,
		Namespace: o.Namespace,
		Name:      o.Name,
		Key:       b.key(o),
		Series:    b.record.Series[:0],
		Ended:     b.record.Ended[:0],
	}
	if b.kind.Labels {
		b.add(&b.labels, o, o.Labels)
	}
	if b.kind.Annotations {
		b.add(&b.annotations, o, o.Annotations)
	}
	if b.kind.Owners {
		b.addOwners(o)
	}
	return &b.record, true
}

func (b *Builder) key(o *Object) uint64 {
	b.id = append(append(append(b.id[:b.idStart], o.Namespace...), 0), o.Name...)
	return maphash.Bytes(seed, b.id)
}

func (b *Builder) isExcluded(o *Object) bool {
	namespace := o.Namespace
	if b.kind.NameLabel == namespaceLabel {
		namespace = o.Name
	}
	return b.excluded[string(namespace)]
}

// add appends one series. Nearly every object has labels that can be encoded as
// they are read.
func (b *Builder) add(s *series, o *Object, labels []KeyValue) {
	if !b.addSorted(s, o, labels) {
		b.addUnsorted(s, o, labels)
	}
	b.record.Count++
}

// maxByte is the largest uvarint of one byte.
const maxByte = 0x7f

// addSorted appends one series of labels whose names ascend. It returns false, and
// appends nothing, where they do not, where others come between them, or where they
// are too many.
func (b *Builder) addSorted(s *series, o *Object, labels []KeyValue) bool {
	count := s.count()
	if len(s.external) > 0 || count+len(labels) > maxByte {
		return false
	}
	start, drops := len(b.record.Series), b.drops
	dst := append(b.record.Series, 0) // the count
	dst = appendFixed(dst, s.before, o)
	last := ""
	for i := range labels {
		l := s.names.cache.at(i, labels[i].Key)
		if l == nil {
			l = s.names.replace(i, labels[i].Key)
		}
		if i >= s.names.cache.ascending && !s.names.cache.ascends(i, l.name, last) {
			b.drops = drops
			return false
		}
		if l.name == "" {
			if l.isLong {
				b.drops.LongName++
			}
			continue
		}
		last = l.name
		if label := l.get(labels[i].Value); label != nil {
			dst = append(dst, label...)
			count++
			continue
		}
		if value, ok := b.value(labels[i].Value); ok {
			from := len(dst)
			dst = appendText(append(dst, l.encodedName...), value)
			l.put(dst[from:], len(value))
			count++
			s.names.count(l.labelName)
		}
	}
	if s.tooMany(count-s.count()) > 0 {
		b.drops = drops
		return false
	}
	dst = appendFixed(dst, s.after, o)
	dst[start] = byte(count)
	b.record.Series = dst
	return true
}

// addUnsorted appends one series of any labels.
func (b *Builder) addUnsorted(s *series, o *Object, labels []KeyValue) {
	all := b.sorting[:0]
	for _, l := range labels {
		name := s.names.lookup(l.Key)
		if name.name != "" || name.isLong {
			all = append(all, namedLabel{name: name.name, key: l.Key, value: l.Value, rank: name.rank, known: name})
		}
	}
	all = dedupeKeys(all)
	if s.names.form == config.FormKubeStateMetrics {
		numberConflicts(all)
	}
	kept := b.keepValues(s, all)
	s.names.disambiguate(kept)
	kept = b.keepWithin(s, s.addExternal(kept))
	for _, l := range kept {
		if l.known != nil {
			s.names.count(l.known)
		}
	}
	b.sorting = kept

	dst := AppendCount(b.record.Series, s.count()+len(kept))
	dst = appendFixed(dst, s.before, o)
	for i := range kept {
		dst = appendText(kept[i].appendName(dst), kept[i].value)
	}
	b.record.Series = appendFixed(dst, s.after, o)
}

// appendName appends the encoded name, which is not the key's own where keys meet.
func (l *namedLabel) appendName(dst []byte) []byte {
	if l.known != nil && l.known.name == l.name {
		return append(dst, l.known.encodedName...)
	}
	return appendName(dst, l.name)
}

// keepValues keeps the labels whose values can be sent.
func (b *Builder) keepValues(s *series, labels []namedLabel) []namedLabel {
	kept := labels[:0]
	for _, l := range labels {
		if l.name == "" || s.names.isLong(l.name) {
			b.drops.LongName++
			continue
		}
		var ok bool
		if l.value, ok = b.value(l.value); ok {
			kept = append(kept, l)
		}
	}
	return kept
}

// keepWithin keeps as many labels as a series may have: those that the first
// filters match, and of one filter those whose names come first.
func (b *Builder) keepWithin(s *series, labels []namedLabel) []namedLabel {
	tooMany := s.tooMany(len(labels))
	if tooMany == 0 {
		return labels
	}
	b.drops.TooMany += uint64(tooMany)
	slices.SortStableFunc(labels, func(a, b namedLabel) int { return cmp.Compare(a.rank, b.rank) })
	labels = labels[:len(labels)-tooMany]
	slices.SortFunc(labels, byName)
	return labels
}

// addExternal adds the external labels that are named like the object's, where the
// object has no such label.
func (s *series) addExternal(labels []namedLabel) []namedLabel {
	for _, external := range s.external {
		at, found := slices.BinarySearchFunc(labels, external, byName)
		if !found {
			labels = slices.Insert(labels, at, external)
		}
	}
	return labels
}
