package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"labelstream/config"
)

// maxKeys bounds what a key table remembers. Real clusters have some hundred
// keys; one whose keys hold a random part must not make us grow.
const maxKeys = 4096

// maxKeyBytes is the longest key that an API server lets in: a prefix of 253, a
// slash, a name of 63. Longer ones come from a hostile webhook caller only, and
// are not worth memory.
const maxKeyBytes = 253 + 1 + 63

// keyTable remembers for each tag key the label name it becomes: the filters'
// regular expressions run once a key, not once an object.
type keyTable struct {
	keep  func(key string) bool
	names config.Names
	known map[string]tagName
	// last has the tags of the objects before by their place in the object:
	// objects of one owner have the same keys and mostly the same values, and
	// lists have them one after the other, so comparing with these spares a look
	// into known, and to check a value again.
	last []lastTag
	// ascending is how many of last are known to have label names that ascend.
	ascending int
}

// tagName is a tag's key, and the label name that it becomes, "" where no
// filter passes it.
type tagName struct{ key, name string }

// lastTag is a tag at its place in the objects before.
type lastTag struct {
	tagName
	// label is a label that the key became, in flat form, and value the length of the
	// label's value, which ends it. It is empty where there was none, or a long one.
	label []byte
	value int
}

// maxLabel is how long a label may be to be remembered.
const maxLabel = 256

// maxPlaces bounds what is remembered by place. Few objects have as many tags.
const maxPlaces = 64

// name returns the label name for the key that stands at this place among an
// object's tags, or "" where no filter passes it.
func (t *keyTable) name(place int, key []byte) string {
	if place < len(t.last) && t.last[place].key == string(key) {
		return t.last[place].name
	}
	t.ascending = min(t.ascending, place)
	n, ok := t.known[string(key)]
	if !ok {
		n = t.learn(key)
	}
	switch {
	case len(key) > maxKeyBytes:
		// Nor is it worth memory by place.
		t.last = t.last[:min(place, len(t.last))]
	case place < len(t.last):
		t.last[place] = lastTag{tagName: n, label: t.last[place].label[:0]}
	case place == len(t.last) && place < maxPlaces:
		t.last = append(t.last, lastTag{tagName: n})
	}
	return n.name
}

// as returns the label that a tag with this value becomes, which has the key of
// the last; nil where it has another value.
func (l *lastTag) as(value []byte) []byte {
	if len(l.label) == 0 || len(value) != l.value || string(l.label[len(l.label)-l.value:]) != string(value) {
		return nil
	}
	return l.label
}

// remember takes the label that the tag has become, and the length of its value. A
// value that is sent as it is would be again.
func (l *lastTag) remember(label []byte, value int) {
	if len(label) <= maxLabel {
		l.label, l.value = append(l.label[:0], label...), value
	}
}

// learn asks the filters, and remembers what they say.
func (t *keyTable) learn(key []byte) tagName {
	n := tagName{key: string(key)}
	if t.keep(n.key) {
		n.name = labelName(n.key, t.names)
	}
	if len(key) <= maxKeyBytes {
		if t.known == nil || len(t.known) >= maxKeys {
			t.known = make(map[string]tagName)
		}
		t.known[n.key] = n
	}
	return n
}

// ascends tells whether the name of the key at a place, which name has just
// returned, sorts after before, the one of the key ahead of it that passed; a
// name that is "" does.
func (t *keyTable) ascends(place int, before, name string) bool {
	if place < t.ascending {
		return true
	}
	if name != "" && name <= before {
		return false
	}
	if place == t.ascending && place < len(t.last) {
		t.ascending++
	}
	return true
}

func labelName(key string, names config.Names) string {
	if names == config.NamesUnderscore {
		return tagPrefix + underscored(key)
	}
	return tagPrefix + strings.ToValidUTF8(key, "\uFFFD")
}

// underscored replaces each character that the classic Prometheus label name
// does not allow.
func underscored(key string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_':
			return r
		}
		return '_'
	}, key)
}

// unique sorts pairs of different keys by name. Where keys meet in one name, the
// key that is spelled like the name keeps it; each other gets a suffix that
// depends on the key alone, so that it does not change with what else the
// object has.
func unique(pairs []pair) {
	for round := 0; ; round++ {
		slices.SortFunc(pairs, func(a, b pair) int { return strings.Compare(a.name, b.name) })
		if !resolve(pairs, round) {
			return
		}
	}
}

// lastOfKey keeps of a key that occurs twice the last value, as any decoder of
// a map does.
func lastOfKey(pairs []pair) []pair {
	slices.SortStableFunc(pairs, func(a, b pair) int { return bytes.Compare(a.key, b.key) })
	kept := pairs[:0]
	for i, p := range pairs {
		if i+1 < len(pairs) && bytes.Equal(p.key, pairs[i+1].key) {
			continue
		}
		kept = append(kept, p)
	}
	return kept
}

// resolve renames the keys that meet in sorted pairs and reports whether it
// found any.
func resolve(pairs []pair, round int) bool {
	met := false
	for start := 0; start < len(pairs); {
		end := start + 1
		for end < len(pairs) && pairs[end].name == pairs[start].name {
			end++
		}
		if end-start > 1 {
			met = true
			rename(pairs[start:end], round)
		}
		start = end
	}
	return met
}

func rename(pairs []pair, round int) {
	name := pairs[0].name
	for i := range pairs {
		if p := &pairs[i]; name != tagPrefix+string(p.key) {
			p.name = name + "_" + suffix(p.key, round)
		}
	}
}

// suffix is a part of the key's digest that doubles with each round up to the
// whole: from then on different keys have different suffixes, so that the
// rounds end whatever keys someone makes up.
func suffix(key []byte, round int) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:min(4<<min(round, 3), len(sum))])
}
