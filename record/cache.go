// SPDX-License-Identifier: Apache-2.0

package record

// maxIndexes bounds what is remembered by index. Few objects have as many labels.
const maxIndexes = 64

// maxCachedLabel is how long an encoded label may be to be remembered.
const maxCachedLabel = 256

// indexCache remembers labels by their index in the objects before: the objects of
// one owner have the same keys and mostly the same values, and lists have them one
// after the other. A pod with ten labels takes less than half the time then. Where all
// values and half of the keys differ it takes a tenth more.
type indexCache struct {
	labels []cachedLabel
	// ascending is how many of labels are known to have names that ascend.
	ascending int
	// other is used for what is not remembered.
	other cachedLabel
}

// cachedLabel is the label that was last seen at an index.
type cachedLabel struct {
	*labelName
	// encoded is a label of this name, which valueLen bytes of value end. It is
	// empty where there was none, or a long one.
	encoded  []byte
	valueLen int
}

// at returns the label at an index, nil where it is another key's.
func (c *indexCache) at(index int, key []byte) *cachedLabel {
	if index < len(c.labels) && c.labels[index].key == string(key) {
		return &c.labels[index]
	}
	return nil
}

// replace remembers the label of another key at an index. What it returns is valid
// until the next call.
func (n *labelNames) replace(index int, key []byte) *cachedLabel {
	cache := &n.cache
	cache.ascending = min(cache.ascending, index)
	label := &cache.other
	switch {
	case len(key) > maxKeyBytes: // not worth memory
		cache.labels = cache.labels[:min(index, len(cache.labels))]
	case index < len(cache.labels):
		label = &cache.labels[index]
	case index == len(cache.labels) && index < maxIndexes:
		cache.labels = append(cache.labels, cachedLabel{})
		label = &cache.labels[index]
	}
	label.labelName, label.encoded = n.lookup(key), label.encoded[:0]
	return label
}

// ascends reports whether the name at an index, which was just looked up, sorts
// after last, the name before it; a name that is "" does. It need not be asked
// below c.ascending.
func (c *indexCache) ascends(index int, name, last string) bool {
	if name != "" && name <= last {
		return false
	}
	if index == c.ascending && index < len(c.labels) {
		c.ascending++
	}
	return true
}

// get returns the encoded label with this value, nil where another was stored.
func (c *cachedLabel) get(value []byte) []byte {
	if len(c.encoded) == 0 || len(value) != c.valueLen || string(c.encoded[len(c.encoded)-c.valueLen:]) != string(value) {
		return nil
	}
	return c.encoded
}

// put stores an encoded label and the length of its value. A value that was sent
// as it is would be again.
func (c *cachedLabel) put(label []byte, valueLen int) {
	if len(label) <= maxCachedLabel {
		c.encoded, c.valueLen = append(c.encoded[:0], label...), valueLen
	}
}
