package webhook

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	kjson "sigs.k8s.io/json"

	"labelstream/record"
)

// review holds the wanted fields of an AdmissionReview. The decoder skips all
// others, an object's spec and status among them.
type review struct {
	APIVersion string  `json:"apiVersion"`
	Kind       string  `json:"kind"`
	Request    request `json:"request"`
}

type request struct {
	UID         string   `json:"uid"`
	Resource    resource `json:"resource"`
	SubResource string   `json:"subResource"`
	Name        string   `json:"name"`
	Namespace   string   `json:"namespace"`
	Operation   string   `json:"operation"`
	DryRun      bool     `json:"dryRun"`
	Object      object   `json:"object"`
	OldObject   object   `json:"oldObject"`
}

type resource struct {
	Group    string `json:"group"`
	Resource string `json:"resource"`
}

type object struct {
	Metadata metadata `json:"metadata"`
}

// metadata has its labels and annotations in JSON: those of an old object are
// seldom wanted, and many short ones take much more memory once they are decoded.
type metadata struct {
	Name        string          `json:"name"`
	Namespace   string          `json:"namespace"`
	Labels      json.RawMessage `json:"labels"`
	Annotations json.RawMessage `json:"annotations"`
}

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
	var v review
	err := kjson.UnmarshalCaseSensitivePreserveInts(text, &v)
	if _, odd := errors.AsType[*json.UnmarshalTypeError](err); err != nil && !odd {
		return nil, errNoReview
	}
	switch {
	case v.Kind != "AdmissionReview",
		v.APIVersion != "admission.k8s.io/v1" && v.APIVersion != "admission.k8s.io/v1beta1":
		return nil, errNoReview
	case v.Request.UID == "" || len(v.Request.UID) > maxUIDBytes:
		return nil, errNoRequest
	}
	return &v, nil
}

// skip returns why a request shows no object, "" where it shows one.
func (r *request) skip() Outcome {
	switch {
	case r.DryRun:
		return dryRun
	case r.Operation == "CONNECT":
		return connect
	case r.SubResource != "":
		return subresource
	case r.subject().Name == "" && r.Name == "":
		return unnamed
	}
	return ""
}

// subject is the object that a request shows; of a deletion it is the old one.
func (r *request) subject() *metadata {
	if r.deletes() {
		return &r.OldObject.Metadata
	}
	return &r.Object.Metadata
}

func (r *request) deletes() bool { return r.Operation == "DELETE" }

// change returns what a request shows that is not to be skipped.
func (r *request) change() *Change {
	m := r.subject()
	namespace := m.Namespace
	// The API server gives each Namespace itself as its namespace.
	if namespace == "" && r.Resource != (resource{Resource: "namespaces"}) {
		namespace = r.Namespace
	}
	return &Change{Group: r.Resource.Group, Resource: r.Resource.Resource, Deleted: r.deletes(), Object: &record.Object{
		Name: []byte(cmp.Or(m.Name, r.Name)), Namespace: []byte(namespace), Labels: decode(m.Labels), Annotations: decode(m.Annotations),
	}}
}

// decodedBytes is what decoding labels or annotations takes for each quote in
// them: a key and a value have four, and take 250 bytes (see BenchmarkHostile).
const decodedBytes = 64

// cost is an upper bound of the memory that change takes.
func (r *request) cost() int64 {
	m, quote := r.subject(), []byte{'"'}
	return decodedBytes * int64(bytes.Count(m.Labels, quote)+bytes.Count(m.Annotations, quote))
}

// decode returns labels or annotations sorted by key, and what can be read of
// those that are none.
func decode(text []byte) []record.KeyValue {
	var m map[string]string
	// The text is known to be JSON: an error says that its type is odd.
	_ = json.Unmarshal(text, &m)
	all := make([]record.KeyValue, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		all = append(all, record.KeyValue{Key: []byte(key), Value: []byte(m[key])})
	}
	return all
}
