// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"encoding/binary"
	"hash/maphash"
)

// symbols is the table of the distinct strings of a request, by the order in
// which they came. A Go map that is cleared for each batch takes twice the time.
type symbols struct {
	seed maphash.Seed
	// slots hold the upper half of a symbol's hash, and its reference plus one;
	// zero is an empty slot. Their number is a power of two, and at least twice
	// that of the symbols.
	slots []uint64
	// texts point into the batch that is being encoded.
	texts []string
	// size is what all symbols take in a Request.
	size int
}

func newSymbols() *symbols {
	return &symbols{seed: maphash.MakeSeed(), slots: make([]uint64, 1024)}
}

// reset empties the table but for the symbols given, whose references are
// their positions.
func (t *symbols) reset(first ...string) {
	clear(t.texts)
	clear(t.slots)
	t.texts, t.size = t.texts[:0], 0
	for _, text := range first {
		t.ref(text)
	}
}

// ref returns the reference of the symbol, which must stay as it is until the
// next reset.
func (t *symbols) ref(text string) uint32 {
	hash := maphash.String(t.seed, text) >> 32
	i := t.find(hash, text)
	if slot := t.slots[i]; slot != 0 {
		return uint32(slot) - 1
	}
	t.texts = append(t.texts, text)
	t.size += 1 + varintLen(len(text)) + len(text)
	t.slots[i] = hash<<32 | uint64(len(t.texts))
	if 2*len(t.texts) > len(t.slots) {
		t.grow()
	}
	return uint32(len(t.texts)) - 1
}

// find returns the slot of the symbol, or the empty one where it belongs.
func (t *symbols) find(hash uint64, text string) int {
	mask := len(t.slots) - 1
	i := int(hash) & mask
	for ; t.slots[i] != 0; i = (i + 1) & mask {
		slot := t.slots[i]
		if slot>>32 == hash && t.texts[uint32(slot)-1] == text {
			break
		}
	}
	return i
}

func (t *symbols) grow() {
	old := t.slots
	t.slots = make([]uint64, 2*len(old))
	mask := len(t.slots) - 1
	for _, slot := range old {
		if slot == 0 {
			continue
		}
		i := int(slot>>32) & mask
		for t.slots[i] != 0 {
			i = (i + 1) & mask
		}
		t.slots[i] = slot
	}
}

// tagSymbols is that of Request.symbols.
const tagSymbols = 4<<3 | 2

// appendSymbol appends a symbol as it stands in a Request.
func appendSymbol(dst []byte, text string) []byte {
	dst = append(dst, tagSymbols)
	dst = binary.AppendUvarint(dst, uint64(len(text)))
	return append(dst, text...)
}
