package webhook

import (
	"errors"

	"labelstream/record"
)

// review is what is needed of an AdmissionReview. Its slices are valid as long
// as the text it was read from, and until the scanner reads another.
type review struct {
	apiVersion, kind []byte
	request
}

// request is what is needed of a review's request.
type request struct {
	uid                          []byte
	group, resource, subresource []byte
	operation                    []byte
	dryRun                       bool
	object, oldObject            record.Object
}

var (
	errNoReview  = errors.New("this is no AdmissionReview of admission.k8s.io/v1 or v1beta1 in JSON")
	errNoRequest = errors.New("the AdmissionReview has no request with a uid, or was cut off")
)

// maxTags is how many labels, or annotations, of an object are taken: the 256 KiB
// that annotations may have are 10,000 of 26 bytes. A review of 7 MiB may have a
// million empty ones, each of which would take 48 bytes.
const maxTags = 10_000

// keptTags and keptBytes are what is kept from one review to the next: more than
// nearly any needs.
const (
	keptTags  = 256
	keptBytes = 64 << 10
)

// maxUIDBytes is far more than a uid has: an answer repeats it.
const maxUIDBytes = 253

// parse reads a review. As with encoding/json, names are compared exactly and
// after unescaping, and the last of equal names counts. A value of another type
// than it should have counts as none; so whatever the API server may have in
// the objects, all that has a uid can be answered.
//
// Where the text is cut off, what was read before is there beside the error.
func (v *review) parse(s *scanner, text []byte) error {
	v.reset()
	s.begin(text)
	s.review(v)
	if !s.end() {
		return errNoReview
	}
	return v.check()
}

// check tells whether the review can be answered.
func (v *review) check() error {
	switch {
	case string(v.kind) != "AdmissionReview",
		string(v.apiVersion) != "admission.k8s.io/v1" && string(v.apiVersion) != "admission.k8s.io/v1beta1":
		return errNoReview
	case len(v.uid) == 0 || len(v.uid) > maxUIDBytes:
		return errNoRequest
	}
	return nil
}

// checkBeginning tells whether a review that was cut off can be answered, and
// says which kind it is of.
func (v *review) checkBeginning() error {
	if err := v.check(); err != nil {
		return err
	}
	if len(v.resource) == 0 {
		return errNoRequest
	}
	return nil
}

func (v *review) reset() {
	v.apiVersion, v.kind = nil, nil
	v.request.reset()
}

func (r *request) reset() {
	object, oldObject := r.object, r.oldObject
	resetObject(&object)
	resetObject(&oldObject)
	*r = request{object: object, oldObject: oldObject}
}

// resetObject empties an object and keeps its memory.
func resetObject(o *record.Object) {
	*o = record.Object{Labels: o.Labels[:0], Annotations: o.Annotations[:0]}
}

// large tells whether the review's memory is too much to keep.
func (r *request) large() bool {
	for _, o := range []*record.Object{&r.object, &r.oldObject} {
		if cap(o.Labels) > keptTags || cap(o.Annotations) > keptTags {
			return true
		}
	}
	return false
}

func (r *request) deletes() bool { return string(r.operation) == "DELETE" }

// nothing tells why there is nothing to take of the request, or "".
func (r *request) nothing() Outcome {
	switch {
	case r.dryRun:
		return dryRun
	case string(r.operation) == "CONNECT":
		return connect
	case len(r.subresource) > 0:
		return subresource
	case len(r.subject().Name) == 0:
		return unnamed
	}
	return ""
}

// subject is the object that the request is about.
func (r *request) subject() *record.Object {
	if r.deletes() {
		return &r.oldObject
	}
	return &r.object
}

func (s *scanner) review(v *review) {
	if !s.enter() {
		return
	}
	for key, ok := s.key(); ok; key, ok = s.key() {
		switch string(key) {
		case "apiVersion":
			v.apiVersion = s.string()
		case "kind":
			v.kind = s.string()
		case "request":
			s.request(&v.request)
		default:
			s.skip()
		}
	}
}

func (s *scanner) request(r *request) {
	r.reset()
	if !s.enter() {
		return
	}
	for key, ok := s.key(); ok; key, ok = s.key() {
		switch string(key) {
		case "uid":
			r.uid = s.string()
		case "resource":
			s.resource(r)
		case "subResource":
			r.subresource = s.string()
		case "operation":
			r.operation = s.string()
		case "dryRun":
			r.dryRun = s.isTrue()
		case "object":
			s.object(&r.object)
		case "oldObject":
			s.object(&r.oldObject)
		default:
			s.skip()
		}
	}
}

func (s *scanner) resource(r *request) {
	r.group, r.resource = nil, nil
	if !s.enter() {
		return
	}
	for key, ok := s.key(); ok; key, ok = s.key() {
		switch string(key) {
		case "group":
			r.group = s.string()
		case "resource":
			r.resource = s.string()
		default:
			s.skip()
		}
	}
}

func (s *scanner) object(o *record.Object) {
	resetObject(o)
	if !s.enter() {
		return
	}
	for key, ok := s.key(); ok; key, ok = s.key() {
		if string(key) == "metadata" {
			s.metadata(o)
		} else {
			s.skip()
		}
	}
}

func (s *scanner) metadata(o *record.Object) {
	resetObject(o)
	if !s.enter() {
		return
	}
	for key, ok := s.key(); ok; key, ok = s.key() {
		switch string(key) {
		case "name":
			o.Name = s.string()
		case "namespace":
			o.Namespace = s.string()
		case "labels":
			o.Labels = s.tags(o.Labels[:0])
		case "annotations":
			o.Annotations = s.tags(o.Annotations[:0])
		default:
			s.skip()
		}
	}
}

// tags reads an object of strings. Of equal keys all are there: a record takes
// the last. Where they are too many, none is.
func (s *scanner) tags(tags []record.Tag) []record.Tag {
	if !s.enter() {
		return tags
	}
	for key, ok := s.key(); ok; key, ok = s.key() {
		if len(tags) == maxTags {
			s.tooMany = true
		}
		if s.tooMany {
			s.skip()
			continue
		}
		tags = append(tags, record.Tag{Key: key, Value: s.string()})
	}
	if s.tooMany {
		return tags[:0]
	}
	return tags
}
