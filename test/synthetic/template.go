// SPDX-License-Identifier: Apache-2.0

package synthetic

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// template is an encoded item of a list with markers where the values belong.
type template struct {
	encoded []byte
	patches []patch
}

// patch is where a marker stands: a run of this capital letter.
type patch struct {
	at, width int
	letter    byte
}

// shortestMarker is less than the width of any value, and longer than any other
// run of a capital letter in an encoded object.
const shortestMarker = 3

// newTemplate encodes an object that was made from markers.
func newTemplate(object *metav1.PartialObjectMetadata, form encoding) (*template, error) {
	encoded, err := encodeItem(object, form)
	if err != nil {
		return nil, fmt.Errorf("encode the template of an object: %w", err)
	}
	t := &template{encoded: encoded}
	for at, width := 0, 0; at < len(encoded); at += width {
		letter := encoded[at]
		for width = 1; at+width < len(encoded) && encoded[at+width] == letter; width++ {
		}
		if width >= shortestMarker && letter >= 'A' && letter <= 'Z' {
			t.patches = append(t.patches, patch{at, width, letter})
		}
	}
	return t, nil
}

func (t *template) append(dst []byte, v *values) []byte {
	start := len(dst)
	dst = append(dst, t.encoded...)
	for _, p := range t.patches {
		v.put(dst[start+p.at:][:p.width], p.letter)
	}
	return dst
}

// encodeItem encodes an object as an item of a list: in protobuf with tag and
// length, in JSON without a comma.
func encodeItem(object *metav1.PartialObjectMetadata, form encoding) ([]byte, error) {
	if form == inJSON {
		return json.Marshal(object)
	}
	encoded, err := object.Marshal()
	const itemsTag = 2<<3 | 2
	return append(binary.AppendUvarint([]byte{itemsTag}, uint64(len(encoded))), encoded...), err
}

// partial is the form in which an API server sends the metadata of an object.
func partial(meta metav1.ObjectMeta) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata"},
		ObjectMeta: meta,
	}
}
