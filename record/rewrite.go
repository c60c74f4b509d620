package record

import (
	"bytes"
	"cmp"
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
	last   []rewrite
	ranked []rankedPair
	pairs  []KeyValue
}

// rewrite is what becomes of a key.
type rewrite struct {
	key string
	// to is the new key, nil where it keeps its own. Where keys meet, the lowest order
	// wins.
	to        []byte
	order     int
	lowercase bool
}

type rankedPair struct {
	KeyValue
	order int
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
	w.pairs = w.pairs[:0]
	isRenamed := false
	for i, pair := range pairs {
		r := w.at(i, pair.Key)
		if r.lowercase && bytes.ContainsFunc(pair.Value, unicode.IsUpper) {
			pair.Value = bytes.ToLower(pair.Value)
		}
		isRenamed = isRenamed || r.to != nil
		w.pairs = append(w.pairs, pair)
	}
	if isRenamed {
		w.rename()
	}
	return w.pairs
}

// rename renames the keys, sorts them, and keeps one of those that meet.
func (w *rewriter) rename() {
	w.ranked = w.ranked[:0]
	for i, pair := range w.pairs {
		r := w.at(i, pair.Key)
		if r.to != nil {
			pair.Key = r.to
		}
		w.ranked = append(w.ranked, rankedPair{pair, r.order})
	}
	slices.SortStableFunc(w.ranked, func(a, b rankedPair) int {
		return cmp.Or(bytes.Compare(a.Key, b.Key), cmp.Compare(a.order, b.order))
	})
	w.pairs = w.pairs[:0]
	for i, pair := range w.ranked {
		if i == 0 || !bytes.Equal(pair.Key, w.ranked[i-1].Key) {
			w.pairs = append(w.pairs, pair.KeyValue)
		}
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
	r := rewrite{key: string(key), order: -1}
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
