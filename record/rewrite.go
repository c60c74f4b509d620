// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"slices"
	"unicode"

	"labelstream/config"
)

// rewriter renames keys, and lowers the case of values. What the settings say of a key
// is looked up once, not once an object.
type rewriter struct {
	renames   []config.Rename
	lowercase config.Patterns
	known     map[string]rewrite
	// last has what was found at each index in the objects before.
	last []rewrite
	// kept and renamed are the pairs of one object, merged both of them.
	kept, renamed, merged []KeyValue
	orders                []int
}

// rewrite is what becomes of a key.
type rewrite struct {
	key string
	// to is the new key, nil where it keeps its own. Where such keys meet, the lowest
	// order wins.
	to        []byte
	order     int
	lowercase bool
}

// newRewriter returns a rewriter, nil where the settings need none.
func newRewriter(cfg *config.Config) *rewriter {
	if len(cfg.Rename) == 0 && len(cfg.LowercaseValues) == 0 {
		return nil
	}
	return &rewriter{renames: cfg.Rename, lowercase: cfg.LowercaseValues, known: make(map[string]rewrite)}
}

// rewrite returns the pairs as they are sent, sorted by key if they were, and valid until
// the next call. Of keys that meet in one, the key that is spelled like it wins, and then
// the one that is renamed first in the settings.
func (w *rewriter) rewrite(pairs []KeyValue) []KeyValue {
	if w == nil {
		return pairs
	}
	w.kept, w.renamed, w.orders = w.kept[:0], w.renamed[:0], w.orders[:0]
	for i, pair := range pairs {
		r := w.at(i, pair.Key)
		if r.lowercase && bytes.ContainsFunc(pair.Value, unicode.IsUpper) {
			pair.Value = bytes.ToLower(pair.Value)
		}
		if r.to == nil {
			w.kept = append(w.kept, pair)
		} else {
			w.insert(KeyValue{r.to, pair.Value}, r.order)
		}
	}
	if len(w.renamed) == 0 {
		return w.kept
	}
	w.merged = merge(w.merged[:0], w.kept, w.renamed)
	return w.merged
}

// insert adds a pair to those renamed, sorted by key. Of one key the lowest order stays.
func (w *rewriter) insert(pair KeyValue, order int) {
	at, found := slices.BinarySearchFunc(w.renamed, pair.Key, func(p KeyValue, key []byte) int { return bytes.Compare(p.Key, key) })
	switch {
	case !found:
		w.renamed, w.orders = slices.Insert(w.renamed, at, pair), slices.Insert(w.orders, at, order)
	case order < w.orders[at]:
		w.renamed[at], w.orders[at] = pair, order
	}
}

// at returns what becomes of the key at an index.
func (w *rewriter) at(index int, key []byte) *rewrite {
	for len(w.last) <= min(index, maxIndexes) {
		w.last = append(w.last, rewrite{})
	}
	last := &w.last[min(index, maxIndexes)]
	if last.key != string(key) {
		*last = w.lookup(key)
	}
	return last
}

func (w *rewriter) lookup(key []byte) rewrite {
	if known, ok := w.known[string(key)]; ok {
		return known
	}
	r := rewrite{key: string(key)}
	to := r.key
	for order, rename := range w.renames {
		if rename.From == r.key {
			r.to, r.order, to = []byte(rename.To), order, rename.To
		}
	}
	r.lowercase = w.lowercase.Match(to)
	if len(key) <= maxKeyBytes {
		if len(w.known) >= maxKeys {
			clear(w.known)
		}
		w.known[r.key] = r
	}
	return r
}
