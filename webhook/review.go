// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	decoder "labelstream/informer/decode"
	"labelstream/record"
)

// review holds the wanted fields of an AdmissionReview. Its slices are parts of
// the body.
type review struct {
	apiVersion, kind string
	request          request
}

type request struct {
	uid, operation    string
	group, resource   string
	subResource       []byte
	name, namespace   []byte
	dryRun            bool
	object, oldObject metadata
}

// metadata has its labels and annotations in JSON: those of an old object are
// seldom wanted, and many short ones take much more memory once they are decoded.
type metadata struct{ name, namespace, uid, labels, annotations, owners []byte }

// maxOwnersBytes is more than the owner references of an object take. Longer ones are not
// read: a hostile caller could have many more of them decoded than their text has bytes.
const maxOwnersBytes = 64 << 10

// maxUIDBytes is far more than a uid has: an answer repeats it.
const maxUIDBytes = 253

var (
	errNoReview  = errors.New("this is no AdmissionReview of admission.k8s.io/v1 or v1beta1 in JSON")
	errNoRequest = errors.New("the AdmissionReview has no request with a uid")
)

// parse reads a review. A field of another type than it should have counts as
// empty, so that whatever an object holds, a review with a uid can be answered.
// Names of fields are case-sensitive, as they are for the API server: a custom
// resource may have a field "Metadata".
func parse(text []byte) (*review, error) {
	if !json.Valid(text) {
		return nil, errNoReview
	}
	var v review
	v.read(&reader{data: text})
	switch {
	case v.kind != "AdmissionReview",
		v.apiVersion != "admission.k8s.io/v1" && v.apiVersion != "admission.k8s.io/v1beta1":
		return nil, errNoReview
	case v.request.uid == "" || len(v.request.uid) > maxUIDBytes:
		return nil, errNoRequest
	}
	return &v, nil
}

func (v *review) read(r *reader) {
	r.object(func(key []byte) {
		switch string(key) {
		case "apiVersion":
			v.apiVersion = string(r.text())
		case "kind":
			v.kind = string(r.text())
		case "request":
			v.request.read(r)
		}
	})
}

func (q *request) read(r *reader) {
	r.object(func(key []byte) {
		switch string(key) {
		case "uid":
			q.uid = string(r.text())
		case "operation":
			q.operation = string(r.text())
		case "resource":
			q.readResource(r)
		case "subResource":
			q.subResource = r.text()
		case "name":
			q.name = r.text()
		case "namespace":
			q.namespace = r.text()
		case "dryRun":
			q.dryRun = string(r.skip()) == "true"
		case "object":
			q.object.read(r)
		case "oldObject":
			q.oldObject.read(r)
		}
	})
}

func (q *request) readResource(r *reader) {
	r.object(func(key []byte) {
		switch string(key) {
		case "group":
			q.group = string(r.text())
		case "resource":
			q.resource = string(r.text())
		}
	})
}

// read reads the metadata of an object.
func (m *metadata) read(r *reader) {
	r.object(func(key []byte) {
		if string(key) != "metadata" {
			return
		}
		r.object(func(key []byte) {
			switch string(key) {
			case "name":
				m.name = r.text()
			case "namespace":
				m.namespace = r.text()
			case "uid":
				m.uid = r.text()
			case "labels":
				m.labels = r.skip()
			case "annotations":
				m.annotations = r.skip()
			case "ownerReferences":
				m.owners = r.skip()
			}
		})
	})
}

// skip returns why a request shows no object, "" where it shows one.
func (q *request) skip() Outcome {
	switch {
	case q.dryRun:
		return dryRun
	case q.operation == "CONNECT":
		return connect
	case len(q.subResource) > 0:
		return subresource
	case len(q.subject().name) == 0 && len(q.name) == 0:
		return unnamed
	}
	return ""
}

// subject is the object that a request shows; of a deletion it is the old one.
func (q *request) subject() *metadata {
	if q.deletes() {
		return &q.oldObject
	}
	return &q.object
}

func (q *request) deletes() bool { return q.operation == "DELETE" }

// change returns what a request shows that is not to be skipped.
func (q *request) change() *Change {
	c := &Change{Group: q.group, Resource: q.resource, Object: q.decode(q.subject()), Deleted: q.deletes()}
	if q.operation == "UPDATE" {
		c.Old = func() *record.Object { return q.decode(&q.oldObject) }
	}
	return c
}

// decode returns one of the request's objects.
func (q *request) decode(m *metadata) *record.Object {
	o := &record.Object{Name: m.name, Namespace: m.namespace, UID: m.uid, Labels: decode(m.labels), Annotations: decode(m.annotations)}
	if len(m.owners) > 0 && len(m.owners) <= maxOwnersBytes && decoder.ParseOwners(m.owners, o) != nil {
		o.Owners = nil
	}
	if len(o.Name) == 0 {
		o.Name = q.name
	}
	// The API server gives each Namespace itself as its namespace.
	if len(o.Namespace) == 0 && (q.group != "" || q.resource != "namespaces") {
		o.Namespace = q.namespace
	}
	return o
}

// ownerCost is the memory for a byte of owner references, which may be as short as "{},":
// once as they are decoded, and once as they are kept.
const ownerCost = 2 * int64(unsafe.Sizeof(record.Owner{})) / int64(len("{},"))

// cost is the memory that change takes at most. What labels and annotations say is
// in the body, or takes less than it does there.
func (q *request) cost() int64 {
	pairs := 0
	for _, m := range []*metadata{&q.object, &q.oldObject} {
		pairs += mostPairs(m.labels) + mostPairs(m.annotations)
	}
	owners := min(len(q.object.owners), maxOwnersBytes) + min(len(q.oldObject.owners), maxOwnersBytes)
	return int64(unsafe.Sizeof(record.KeyValue{}))*int64(pairs) + ownerCost*int64(owners)
}

// mostPairs is how many labels or annotations a text can have: each key has two
// quotes.
func mostPairs(text []byte) int { return bytes.Count(text, []byte{'"'}) / 2 }

// decode returns labels or annotations sorted by key. A value that is no string
// is empty.
func decode(text []byte) []record.KeyValue {
	if text == nil {
		return nil
	}
	all, r := make([]record.KeyValue, 0, mostPairs(text)), reader{data: text}
	r.object(func(key []byte) { all = append(all, record.KeyValue{Key: key, Value: r.text()}) })
	slices.SortStableFunc(all, func(a, b record.KeyValue) int { return bytes.Compare(a.Key, b.Key) })
	return all
}

// answer allows the review. Both versions have these fields.
func (v *review) answer() []byte {
	uid, _ := json.Marshal(v.request.uid) // a string always marshals
	return fmt.Appendf(nil, `{"kind":"AdmissionReview","apiVersion":%q,"response":{"uid":%s,"allowed":true}}`, v.apiVersion, uid)
}
