package webhook

import (
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
	Metadata struct {
		Name        string            `json:"name"`
		Namespace   string            `json:"namespace"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
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

// change returns what a request shows, or why it shows nothing.
func (r *request) change() (*Change, Outcome) {
	deleted := r.Operation == "DELETE"
	m := r.Object.Metadata
	if deleted {
		m = r.OldObject.Metadata
	}
	name, namespace := cmp.Or(m.Name, r.Name), m.Namespace
	// The API server gives each Namespace itself as its namespace.
	if namespace == "" && r.Resource != (resource{Resource: "namespaces"}) {
		namespace = r.Namespace
	}
	switch {
	case r.DryRun:
		return nil, dryRun
	case r.Operation == "CONNECT":
		return nil, connect
	case r.SubResource != "":
		return nil, subresource
	case name == "":
		return nil, unnamed
	}
	return &Change{Group: r.Resource.Group, Resource: r.Resource.Resource, Deleted: deleted, Object: &record.Object{
		Name: []byte(name), Namespace: []byte(namespace), Labels: sorted(m.Labels), Annotations: sorted(m.Annotations),
	}}, ""
}

// sorted returns a map as a slice: maps have no order.
func sorted(m map[string]string) []record.KeyValue {
	all := make([]record.KeyValue, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		all = append(all, record.KeyValue{Key: []byte(key), Value: []byte(m[key])})
	}
	return all
}
