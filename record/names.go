package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"

	"labelstream/config"
)

// maxKeys bounds how many keys are remembered. Real clusters have some hundred
// keys; one whose keys hold a random part must not make us grow.
const maxKeys = 4096

// maxKeyBytes is the longest key that an API server lets in: a prefix of 253, a
// slash, a name of 63. Longer ones come from a hostile webhook caller only, and
// are not worth memory.
const maxKeyBytes = 253 + 1 + 63

// convertedKeys are annotations that an API server makes of fields that apps/v1
// does not have, where it converts an object to apps/v1. Reviews have them and
// lists of metadata do not: the two views of an object must give one record.
var convertedKeys = []string{"deprecated.daemonset.template.generation", "deprecated.deployment.rollback.to"}

// labelNames remembers the label name of each key: the filters' regular
// expressions run once a key, not once an object.
type labelNames struct {
	keep  func(key string) bool
	names config.Names
	known map[string]labelName
	cache indexCache
}

// labelName is the label name that a key becomes. It is "" where no filter passes
// the key.
type labelName struct{ key, name string }

// lookup returns the label name of a key.
func (n *labelNames) lookup(key []byte) labelName {
	if name, ok := n.known[string(key)]; ok {
		return name
	}
	name := labelName{key: string(key)}
	if n.keep(name.key) && !slices.Contains(convertedKeys, name.key) {
		name.name = nameOf(name.key, n.names)
	}
	if len(key) <= maxKeyBytes {
		if n.known == nil || len(n.known) >= maxKeys {
			n.known = make(map[string]labelName)
		}
		n.known[name.key] = name
	}
	return name
}

// notInLabelName is what the classic Prometheus label name does not allow.
var notInLabelName = regexp.MustCompile(`[^a-zA-Z0-9_]`)

func nameOf(key string, names config.Names) string {
	if names == config.NamesUnderscore {
		return labelPrefix + notInLabelName.ReplaceAllLiteralString(key, "_")
	}
	return labelPrefix + strings.ToValidUTF8(key, "\uFFFD")
}

// dedupeKeys keeps the last value of a key that occurs twice, as any decoder of a
// map does.
func dedupeKeys(labels []namedLabel) []namedLabel {
	slices.SortStableFunc(labels, func(a, b namedLabel) int { return bytes.Compare(a.key, b.key) })
	kept := labels[:0]
	for i, l := range labels {
		if i+1 == len(labels) || !bytes.Equal(l.key, labels[i+1].key) {
			kept = append(kept, l)
		}
	}
	return kept
}

// disambiguate sorts labels of different keys by name. Where keys meet in one
// name, the key that is spelled like the name keeps it; each other gets a suffix
// that depends on the key alone, so that it does not change with what else the
// object has.
func disambiguate(labels []namedLabel) {
	for round := 0; ; round++ {
		slices.SortFunc(labels, byName)
		if !addSuffixes(labels, round) {
			return
		}
	}
}

func byName(a, b namedLabel) int { return strings.Compare(a.name, b.name) }

// addSuffixes renames the keys that meet in sorted labels and reports whether it
// found any.
func addSuffixes(labels []namedLabel, round int) bool {
	met := false
	for start := 0; start < len(labels); {
		name, end := labels[start].name, start+1
		for end < len(labels) && labels[end].name == name {
			end++
		}
		for i := start; i < end && end-start > 1; i++ {
			met = true
			if l := &labels[i]; name != labelPrefix+string(l.key) {
				l.name = name + "_" + suffix(l.key, round)
			}
		}
		start = end
	}
	return met
}

// suffix is a part of the key's digest that doubles with each round up to the
// whole: from then on different keys have different suffixes, so that the
// rounds end whatever keys someone makes up.
func suffix(key []byte, round int) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:min(4<<min(round, 3), len(sum))])
}
