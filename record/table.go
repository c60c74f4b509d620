// SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/binary"
	"sync"
)

// MaxNames bounds how many label names have a number. What has numbers once has
// them for ever: names that come later are written out.
const MaxNames = 4096

// names numbers the names of labels, the same for all builders of the process. A
// cluster has some hundred names and an object has most of its labels' from them, so a
// record holds their numbers.
var names nameTable

type nameTable struct {
	mu      sync.Mutex
	numbers map[string]int
	// texts is the name of each number. A number is known only to who has got it
	// from of, or a series from who has: so it is read without the lock.
	texts [MaxNames]string
}

// of returns the number of a name, zero where it has none.
func (t *nameTable) of(name string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	number, ok := t.numbers[name]
	if !ok && len(t.numbers) < MaxNames-1 {
		if t.numbers == nil {
			t.numbers = make(map[string]int)
		}
		number = len(t.numbers) + 1
		t.numbers[name], t.texts[number] = number, name
	}
	return number
}

// appendName appends an encoded name: its number, or zero and the name itself.
func appendName(dst []byte, name string) []byte {
	number := names.of(name)
	dst = binary.AppendUvarint(dst, uint64(number))
	if number == 0 {
		dst = appendText(dst, name)
	}
	return dst
}

func appendText[T string | []byte](dst []byte, text T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(text)))
	return append(dst, text...)
}
