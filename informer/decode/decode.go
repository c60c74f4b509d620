// SPDX-License-Identifier: Apache-2.0

// Package decode reads the metadata of objects from what an API server answers to
// a list or a watch, in protobuf or JSON, one object at a time.
package decode

import (
	"errors"
	"io"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/record"
)

// AcceptList and AcceptWatch ask for metadata alone, in protobuf where the server
// speaks it. The last form is for servers that cannot reduce objects to metadata.
const (
	AcceptList = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1," +
		"application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
	AcceptWatch = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1," +
		"application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
)

// Object is an object's metadata. Its slices are valid until the function that it
// was handed to returns, or until the next event is read.
type Object struct {
	record.Object
	ResourceVersion []byte
}

// Page is what a list response says of itself.
type Page struct {
	ResourceVersion string
	Continue        string
	// Remaining is how many objects follow after this page, -1 where the server
	// does not say.
	Remaining int64
	// Items and Bytes count what was read of the response.
	Items int
	Bytes int64
}

func (p *Page) setMeta(meta *metav1.ListMeta) {
	p.ResourceVersion, p.Continue, p.Remaining = meta.ResourceVersion, meta.Continue, -1
	if meta.RemainingItemCount != nil {
		p.Remaining = *meta.RemainingItemCount
	}
}

// maxObjectBytes refuses an announced size that no API server would store: the
// size is taken from the wire before memory is set aside for it.
const maxObjectBytes = 64 << 20

// protobufMagic begins every protobuf answer of an API server
// (k8s.io/apimachinery/pkg/runtime/serializer/protobuf).
const protobufMagic = "k8s\x00"

// unexpectedEOF makes an end where more must follow an error of its own: to
// callers io.EOF means a good end.
func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
