// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package ledger

// resize copies a region. Only on Linux, where labelstream runs in production,
// the ledger is outside the Go heap.
func resize(region []entry, slots int) []entry {
	resized := make([]entry, slots)
	copy(resized, region)
	return resized
}
