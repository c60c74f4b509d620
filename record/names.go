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
	known map[string]string
}

// name returns the label name for a key, or "" where no filter passes it.
func (t *keyTable) name(key []byte) string {
	if name, ok := t.known[string(key)]; ok {
		return name
	}
	name := ""
	if text := string(key); t.keep(text) {
		name = labelName(text, t.names)
	}
	if len(key) <= maxKeyBytes {
		t.remember(key, name)
	}
	return name
}

func (t *keyTable) remember(key []byte, name string) {
	if t.known == nil || len(t.known) >= maxKeys {
		t.known = make(map[string]string)
	}
	t.known[string(key)] = name
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

func sortedUnique(pairs []pair) bool {
	for i := 1; i < len(pairs); i++ {
		if pairs[i-1].name >= pairs[i].name {
			return false
		}
	}
	return true
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
