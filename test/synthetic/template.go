package synthetic

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// form is what a list is written as.
type form struct{ json, full bool }

// template is an encoded item of a list with markers where the fields belong.
type template struct {
	encoded []byte
	patches []patch
}

type patch struct {
	at    int
	field field
}

// newTemplate encodes an object that was made from markers.
func newTemplate(object runtime.Object, asJSON bool) (*template, error) {
	encoded, err := encodeItem(object, asJSON)
	if err != nil {
		return nil, err
	}
	t := &template{encoded: encoded}
	for f := range fieldCount {
		mark := []byte(marker(f))
		for at := 0; ; at += len(mark) {
			next := bytes.Index(encoded[at:], mark)
			if next < 0 {
				break
			}
			at += next
			t.patches = append(t.patches, patch{at, f})
		}
	}
	return t, nil
}

// append writes the item with these values.
func (t *template) append(dst []byte, v *values) []byte {
	start := len(dst)
	dst = append(dst, t.encoded...)
	for _, p := range t.patches {
		copy(dst[start+p.at:], v.get(p.field))
	}
	return dst
}

// encodeItem encodes an object as an item of a list: in protobuf with tag and
// length, in JSON without a comma.
func encodeItem(object runtime.Object, asJSON bool) ([]byte, error) {
	if asJSON {
		encoded, err := json.Marshal(object)
		if err != nil {
			return nil, fmt.Errorf("encode a %T as JSON: %w", object, err)
		}
		return encoded, nil
	}
	message, ok := object.(interface{ Marshal() ([]byte, error) })
	if !ok {
		return nil, fmt.Errorf("encode a %T in protobuf: it has no such form", object)
	}
	encoded, err := message.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode a %T in protobuf: %w", object, err)
	}
	const itemsTag = 2<<3 | 2
	return append(binary.AppendUvarint([]byte{itemsTag}, uint64(len(encoded))), encoded...), nil
}

// partial is how a real server serves the metadata of an object.
func partial(meta metav1.ObjectMeta) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata"},
		ObjectMeta: meta,
	}
}
