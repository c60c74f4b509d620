// SPDX-License-Identifier: Apache-2.0

package synthetic

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// field is a part of an object that differs from one object to the next. Each
// has one width, so all objects of a shape are of one length and can be made
// from one template.
type field int

const (
	fieldTeam field = iota
	fieldNamespace
	fieldHash
	fieldSuffix
	fieldUID
	fieldOwnerUID
	fieldVersion
	fieldCount
)

// widths are in bytes. A namespace is a team, a dash and three digits.
var widths = [fieldCount]int{8, 12, 10, 5, 36, 36, 10}

// firstFieldLetter marks the first field in a template, the next letters mark
// the others.
const firstFieldLetter = 'N'

// uniqueLetters mark the values of labels and annotations that no two objects
// share, one letter for each. Not Z: it is protobuf's tag of a label.
const uniqueLetters = "ABCDEFGHIJKLMUVWXY"

// values are what one object does not share with others.
type values struct {
	fields [fieldCount][36]byte
	// seed is what the unique values follow from; 0 makes markers of them.
	seed uint64
	// key is the number of the further key.
	key int
}

// keyLetter marks the number of the further key. No tag follows it at once.
const keyLetter = 'Z'

// keyNumber has five digits.
func (v *values) keyNumber() string {
	if v.seed == 0 {
		return strings.Repeat(string(keyLetter), 5)
	}
	return fmt.Sprintf("%05d", v.key)
}

func markers() *values {
	var v values
	for f := range fieldCount {
		copy(v.fields[f][:], strings.Repeat(string(rune(firstFieldLetter+f)), widths[f]))
	}
	return &v
}

func (v *values) get(f field) []byte { return v.fields[f][:widths[f]] }

func (v *values) text(f field) string { return string(v.get(f)) }

// put writes the value that a letter marks, a field as often as it fits.
func (v *values) put(dst []byte, letter byte) {
	if f := field(letter) - firstFieldLetter; f >= 0 && f < fieldCount {
		for len(dst) > 0 {
			dst = dst[copy(dst, v.get(f)):]
		}
		return
	}
	if letter == keyLetter {
		putDecimal(dst, v.key)
		return
	}
	putText(dst, v.seed+uint64(letter))
}

func (v *values) unique(n, width int) string {
	if v.seed == 0 {
		return strings.Repeat(uniqueLetters[n:n+1], width)
	}
	text := make([]byte, width)
	v.put(text, uniqueLetters[n])
	return string(text)
}

// putText writes lower-case letters and digits that look random: no capital
// letter, which would look like a marker, and nothing that HTML escapes.
func putText(dst []byte, seed uint64) {
	const alphabet = "abcdefghijklmnopqrstuvwxyz012345"
	bits := uint64(0)
	for i := range dst {
		if i%12 == 0 {
			seed = mix(seed)
			bits = seed
		}
		dst[i] = alphabet[bits&31]
		bits >>= 5
	}
}

// teams are of one length and sorted.
var teams = []string{
	"accounts", "checkout", "delivery", "identity", "payments", "platform", "research", "shipping",
}

// firstVersion leaves the versions of all objects ten digits long.
const firstVersion = 1_000_000_000

// listVersion is that of every list until something happens: no object is newer.
const listVersion = 2_000_000_000

const namespaces = 300

func putNamespace(i int, v *values) {
	team := teams[i*len(teams)/namespaces]
	copy(v.get(fieldTeam), team)
	name := v.get(fieldNamespace)
	copy(name, team)
	name[len(team)] = '-'
	putDecimal(name[len(team)+1:], i)
}

const replicas = 5

// pods are a population, in the order of their keys in etcd, which is that of
// namespace and name. They are spread evenly over the namespaces. Alike ones
// are spread over the workloads of a namespace, those of a workload over
// ReplicaSets. Mixed ones take a shape each, by chance.
type pods struct {
	count int
	mixed bool
	// generation is which population they are: as many pods as any other one,
	// in the same places, under other names.
	generation uint64
	// keys is how many further keys there are.
	keys int
}

// place is where pod i stands of a namespace with so many alike ones: its workload,
// the index of its ReplicaSet there and how many there are, and its own index in that.
func (p pods) place(i, size int) (workload, set, sets, replica int) {
	w := part(i, size, len(workloads))
	start := partStart(w, size, len(workloads))
	inWorkload, size := i-start, partStart(w+1, size, len(workloads))-start
	return w, inWorkload / replicas, (size + replicas - 1) / replicas, inWorkload % replicas
}

// namespaceOf gives the namespace of pod i, its index there, and how many pods
// the namespace has.
func (p pods) namespaceOf(i int) (namespace, index, size int) {
	n := part(i, p.count, namespaces)
	start := partStart(n, p.count, namespaces)
	return n, i - start, partStart(n+1, p.count, namespaces) - start
}

func (p pods) seed(i int) uint64 { return mix(p.generation<<50 | uint64(i)) }

func (p pods) shape(i int) int {
	if p.mixed {
		return int(mix(p.seed(i)) % mixedShapes)
	}
	_, index, size := p.namespaceOf(i)
	workload, _, _, _ := p.place(index, size)
	return workload
}

func (p pods) fill(i int, v *values) {
	namespace, index, size := p.namespaceOf(i)
	putNamespace(namespace, v)
	v.seed = p.seed(i)
	v.key = i % max(p.keys, 1)
	putUID(v.get(fieldUID), v.seed)
	putDecimal(v.get(fieldVersion), firstVersion+i)
	if p.mixed {
		putSpread(v.get(fieldHash), index, size, v.seed)
		putSpread(v.get(fieldSuffix), 0, 1, mix(v.seed))
		putUID(v.get(fieldOwnerUID), mix(v.seed))
		return
	}
	workload, set, sets, replica := p.place(index, size)
	ofSet := mix(p.generation<<50 | uint64(namespace)<<40 | uint64(workload)<<32 | uint64(set) | 1<<63)
	putSpread(v.get(fieldHash), set, sets, ofSet)
	putUID(v.get(fieldOwnerUID), ofSet)
	putSpread(v.get(fieldSuffix), replica, replicas, v.seed)
}

// part tells in which of n equal parts of total the index i is.
func part(i, total, n int) int { return i * n / total }

// partStart is the first index of which part is p.
func partStart(p, total, n int) int { return (p*total + n - 1) / n }

// nameAlphabet is that of generated names, in ascending order.
const nameAlphabet = "2456789bcdfghjklmnpqrstvwxz"

// putSpread writes the i-th of n ascending names that look random: each falls
// somewhere into its own n-th of all names of that length.
func putSpread(dst []byte, i, n int, random uint64) {
	all := uint64(1)
	for range dst {
		all *= uint64(len(nameAlphabet))
	}
	stride := all / uint64(n)
	name := uint64(i)*stride + random%stride
	for j := range slices.Backward(dst) {
		dst[j] = nameAlphabet[name%uint64(len(nameAlphabet))]
		name /= uint64(len(nameAlphabet))
	}
}

// putDecimal writes n with leading zeros over all of dst.
func putDecimal(dst []byte, n int) {
	for j := range slices.Backward(dst) {
		dst[j] = byte('0' + n%10)
		n /= 10
	}
}

// putUID writes a version 4 UUID that follows from seed.
func putUID(dst []byte, seed uint64) {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], mix(seed))
	binary.BigEndian.PutUint64(raw[8:], seed)
	raw[6] = raw[6]&0x0f | 0x40
	raw[8] = raw[8]&0x3f | 0x80
	from := 0
	for _, to := range [...]int{4, 6, 8, 10, 16} {
		n := hex.Encode(dst, raw[from:to])
		if dst = dst[n:]; len(dst) > 0 {
			dst[0], dst = '-', dst[1:]
		}
		from = to
	}
}

// mix is the finalizer of SplitMix64: a bijection, so different objects never
// get the same seed.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
