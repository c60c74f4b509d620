// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
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
	// prefix stands before every name.
	prefix string
	rank   func(key string) (rank int, ok bool)
	names  config.Names
	form   config.Form
	// maxBytes is how long a name may be, zero for any length.
	maxBytes int
	keys     *Keys
	known    map[string]*labelName
	cache    indexCache
}

// newLabelNames returns the names that the keys of a source become. What the
// CloudZero collector groups by must not depend on where a team wrote it: there,
// annotations have the prefix of labels.
func newLabelNames(cfg *config.Config, source *config.LabelSource, keys *Keys) labelNames {
	n := labelNames{prefix: "label_", rank: source.Rank, names: cfg.Names, form: cfg.Series, maxBytes: cfg.LabelNameMaxBytes, keys: keys}
	if source == &cfg.Annotations && n.form == config.FormKubeStateMetrics {
		n.prefix = "annotation_"
	}
	return n
}

// labelName is the label name that a key becomes. It is "" where no filter passes
// the key, and where it would be too long.
type labelName struct {
	key, name string
	// encodedName is the name as series have it.
	encodedName []byte
	// rank is that of the key, see [config.LabelSource.Rank].
	rank int
	// isLong says that the name would be too long, isCounted that keys has the key.
	isLong, isCounted bool
}

// lookup returns the label name of a key.
func (n *labelNames) lookup(key []byte) *labelName {
	if name, ok := n.known[string(key)]; ok {
		return name
	}
	name := n.make(string(key))
	if len(key) <= maxKeyBytes {
		if n.known == nil || len(n.known) >= maxKeys {
			n.known = make(map[string]*labelName)
		}
		n.known[name.key] = name
	}
	return name
}

// notInLabelName is what the classic Prometheus label name does not allow.
var notInLabelName = regexp.MustCompile(`[^a-zA-Z0-9_]`)

// wordStart is where kube-state-metrics begins a word.
var wordStart = regexp.MustCompile(`([a-z0-9])([A-Z])`)

func (n *labelNames) make(key string) *labelName {
	rank, ok := n.rank(key)
	l := &labelName{key: key, rank: rank}
	if !ok || slices.Contains(convertedKeys, key) {
		return l
	}
	l.name = n.nameOf(key)
	if n.isLong(l.name) {
		l.name, l.isLong = "", true
		return l
	}
	l.encodedName = appendName(nil, l.name)
	return l
}

func (n *labelNames) nameOf(key string) string {
	if n.names != config.NamesUnderscore {
		return n.prefix + strings.ToValidUTF8(key, "\uFFFD")
	}
	name := notInLabelName.ReplaceAllLiteralString(key, "_")
	if n.form == config.FormKubeStateMetrics {
		name = strings.ToLower(wordStart.ReplaceAllString(name, "${1}_${2}"))
	}
	return n.prefix + name
}

func (n *labelNames) isLong(name string) bool { return n.maxBytes > 0 && len(name) > n.maxBytes }

// count notes that a label of this key is sent, unless that was noted before.
func (n *labelNames) count(l *labelName) {
	if !l.isCounted {
		l.isCounted = true
		n.keys.add(l.key)
	}
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

// numberConflicts names labels that are sorted by key as kube-state-metrics does:
// where keys meet in one name, each gets its number. Names that are too long are "",
// and stay so.
func numberConflicts(labels []namedLabel) {
	total, number := make(map[string]int), make(map[string]int)
	for i := range labels {
		total[labels[i].name]++
	}
	for i := range labels {
		if l := &labels[i]; l.name != "" && total[l.name] > 1 {
			number[l.name]++
			l.name = fmt.Sprintf("%s_conflict%d", l.name, number[l.name])
		}
	}
}

// disambiguate sorts labels of different keys by name. Where keys meet in one
// name, the key that is spelled like the name keeps it; each other gets a suffix
// that depends on the key alone, so that a name with a suffix stands for one key
// for ever.
func (n *labelNames) disambiguate(labels []namedLabel) {
	for round := 0; ; round++ {
		slices.SortFunc(labels, byName)
		if !n.addSuffixes(labels, round) {
			return
		}
	}
}

func byName(a, b namedLabel) int { return strings.Compare(a.name, b.name) }

// addSuffixes renames the keys that meet in sorted labels and reports whether it
// found any.
func (n *labelNames) addSuffixes(labels []namedLabel, round int) bool {
	met := false
	for start := 0; start < len(labels); {
		name, end := labels[start].name, start+1
		for end < len(labels) && labels[end].name == name {
			end++
		}
		for i := start; i < end && end-start > 1; i++ {
			met = true
			if l := &labels[i]; name != n.prefix+string(l.key) {
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
