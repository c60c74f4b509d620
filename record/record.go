// SPDX-License-Identifier: Apache-2.0

// Package record turns an object's metadata into the series that are sent for
// it. It is pure: no I/O, no clock, no Kubernetes API machinery.
package record

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"unsafe"
)

// Kind is how the objects of one resource appear in series.
type Kind struct {
	// Resource is the resource as a user writes it, such as "pods" or
	// "deployments.apps". It names the kind in logs, metrics and summaries.
	Resource string
	// Type is the value of the label resource_type, such as "pod". Without one there
	// is no such label.
	Type string
	// Metric stands between prefix and suffix of the metric name.
	Metric string
	// NameLabel is the label that carries the object's name.
	NameLabel string
	// Namespaced kinds have a label "namespace" too.
	Namespaced bool
	// UID says that there is a label "uid", too.
	UID bool
	// Labels, Annotations and Owners tell which series the kind has.
	Labels, Annotations, Owners bool
}

// HasSeries reports whether the kind is sent. One that is not may be read all the same,
// for what other kinds take from it.
func (k *Kind) HasSeries() bool { return k.Labels || k.Annotations }

// Record is the identity of one object and its series. A Record handed to a
// function is valid only until that function returns, unless it says otherwise: its
// slices are used again.
type Record struct {
	Kind            *Kind
	Namespace, Name []byte
	// Key identifies the object within this process: a hash of its kind's Resource,
	// its namespace and its name.
	Key uint64
	// Deleted says that the object is gone and that this is its last record. Build
	// leaves it false.
	Deleted bool
	// Count is the number of series in Series.
	Count int
	// Series holds the series one after the other, see [AppendLabel].
	Series []byte
	// Ended are EndedCount series that the object does not have any more, encoded as
	// Series are.
	Ended      []byte
	EndedCount int
}

// End adds to Ended what the object had before and has no more. old is the Series of
// an earlier record of it, or empty.
func (r *Record) End(old []byte) {
	before, now := Cursor(old), Cursor(r.Series)
	for len(before) > 0 {
		if series := before.series(); !bytes.Equal(series, now.series()) {
			r.Ended = append(r.Ended, series...)
			r.EndedCount++
		}
	}
}

// seed is the process's, so that every builder gives an object the same key.
var seed = maphash.MakeSeed()

// Hash covers all series: two records of one object are equal where their hashes
// are, but for one pair in 2^64. It differs from one process to the next.
func (r *Record) Hash() uint64 { return maphash.Bytes(seed, r.Series) }

// An encoded series is the uvarint count of its labels, then each label's name, see
// [nameTable], and its value behind its length as a uvarint; labels are sorted by name,
// "__name__" among them. It holds no pointers: the garbage collector does not look
// into a queue of such.

// AppendCount begins a series of n labels.
func AppendCount(dst []byte, n int) []byte { return binary.AppendUvarint(dst, uint64(n)) }

// AppendLabel appends one encoded label.
func AppendLabel[V string | []byte](dst []byte, name string, value V) []byte {
	return appendText(appendName(dst, name), value)
}

// Cursor reads encoded series. The texts it gives point into the series. It trusts its input, which only this package writes.
type Cursor []byte

// Count reads the number of labels of the next series.
func (c *Cursor) Count() int { return int(c.uvarint()) }

// Label reads the next label.
func (c *Cursor) Label() (name string, value []byte) {
	_, name, value = c.NumberedLabel()
	return name, value
}

// NumberedLabel reads the next label. The number, below [MaxNames], stands for the name
// as long as the process lives. It is zero for names without one.
func (c *Cursor) NumberedLabel() (number int, name string, value []byte) {
	number = int(c.uvarint())
	if number > 0 {
		name = names.texts[number]
	} else {
		text := c.text()
		name = unsafe.String(unsafe.SliceData(text), len(text))
	}
	return number, name, c.text()
}

// SkipIf moves past the next label if that is the one given, encoded. It returns whether it is.
func (c *Cursor) SkipIf(label []byte) bool {
	same := bytes.HasPrefix(*c, label)
	if same {
		*c = (*c)[len(label):]
	}
	return same
}

// series reads the next series and returns it encoded.
func (c *Cursor) series() []byte {
	all := *c
	for range c.Count() {
		c.NumberedLabel()
	}
	return all[:len(all)-len(*c)]
}

func (c *Cursor) text() []byte {
	n := int(c.uvarint())
	series := *c
	*c = series[n:]
	return series[:n:n]
}

// uvarint reads a number. Nearly every one takes one byte or two.
func (c *Cursor) uvarint() uint64 {
	series := *c
	n := uint64(series[0])
	if n < 0x80 {
		*c = series[1:]
		return n
	}
	if series[1] < 0x80 {
		*c = series[2:]
		return n&0x7f | uint64(series[1])<<7
	}
	n, size := binary.Uvarint(series)
	*c = series[size:]
	return n
}
