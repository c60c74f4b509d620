// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// value returns what is sent of a label's value, or false where the label is left
// out.
func (b *Builder) value(value []byte) ([]byte, bool) {
	if len(value) == 0 {
		b.drops.Empty++
		return nil, false
	}
	unsafe, ascii := scan(value)
	if unsafe && b.dropUnsafe {
		b.drops.Unsafe++
		return nil, false
	}
	if !ascii {
		value = valid(value)
	}
	if len(value) > b.maxBytes {
		b.drops.Truncated++
		value = truncate(value, b.maxBytes)
	}
	return value, len(value) > 0
}

// UnsafeCharacters are those that HTML escapes, the likeliest first.
const UnsafeCharacters = `"&<>'`

// unsafeBits has the bit of each of UnsafeCharacters: all of them are below 64.
const unsafeBits uint64 = 1<<'"' | 1<<'&' | 1<<'<' | 1<<'>' | 1<<'\''

// shortValue is the length in bytes up to which looking at eight at a time beats
// searches that use vector instructions.
const shortValue = 64

// scan reports whether value has an unsafe character, and whether it is known to
// be ASCII. It is most of what a value costs: labels are many and short,
// annotations may hold 256 KiB.
func scan(value []byte) (unsafe, ascii bool) {
	if len(value) > shortValue {
		for i := range len(UnsafeCharacters) {
			unsafe = unsafe || bytes.IndexByte(value, UnsafeCharacters[i]) >= 0
		}
		return unsafe, false
	}
	var found, all uint64
	for ; len(value) >= 8; value = value[8:] {
		eight := binary.LittleEndian.Uint64(value)
		all |= eight
		// & and ' differ in one bit, < and > too.
		found |= zeros(eight^'"'*each) | zeros((eight|each)^'\''*each) | zeros((eight|2*each)^'>'*each)
	}
	unsafe = found != 0
	for _, c := range value {
		all |= uint64(c)
		unsafe = unsafe || unsafeBits>>c&1 != 0 // shifts by 64 and more give 0
	}
	return unsafe, all&(utf8.RuneSelf*each) == 0
}

// each has 1 in each of eight bytes.
const each = 0x0101010101010101

// zeros is not zero where one of the eight bytes is.
func zeros(eight uint64) uint64 { return (eight - each) &^ eight & (0x80 * each) }

// valid returns text with what is not UTF-8 replaced: the protocol demands it.
// An API server lets no such text in; a hostile webhook caller may send it.
func valid(text []byte) []byte {
	if utf8.Valid(text) {
		return text
	}
	return bytes.ToValidUTF8(text, []byte("\uFFFD"))
}

// truncate shortens valid UTF-8 to at most limit bytes, at the start of a rune.
func truncate(value []byte, limit int) []byte {
	for limit > 0 && !utf8.RuneStart(value[limit]) {
		limit--
	}
	return value[:limit]
}
