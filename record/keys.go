// SPDX-License-Identifier: Apache-2.0

package record

import (
	"hash/maphash"
	"sync"
)

// maxCountedKeys bounds how many keys are told apart.
const maxCountedKeys = 20_000

// Keys counts the distinct keys of labels and annotations that are sent. Its
// methods are safe for concurrent use.
type Keys struct {
	limit    int
	exceeded func()

	mu   sync.Mutex
	seen map[uint64]struct{}
}

// NewKeys returns a count that calls exceeded once, when there are more keys than
// the limit; zero is no limit.
func NewKeys(limit int, exceeded func()) *Keys {
	return &Keys{limit: limit, exceeded: exceeded, seen: make(map[uint64]struct{})}
}

// Len is how many keys there are, 20,000 at most.
func (k *Keys) Len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.seen)
}

func (k *Keys) add(key string) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	before := len(k.seen)
	if before < maxCountedKeys {
		k.seen[maphash.String(seed, key)] = struct{}{}
	}
	if before == k.limit && len(k.seen) > before && k.limit > 0 {
		k.exceeded()
	}
}
