// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// serializers are those that API servers answer lists with.
var serializers = map[string]runtime.Encoder{
	"protobuf": protobuf.NewSerializerWithOptions(nil, nil, protobuf.SerializerOptions{StreamingCollectionsEncoding: true}),
	"json":     json.NewSerializerWithOptions(json.DefaultMetaFactory, nil, nil, json.SerializerOptions{StreamingCollectionsEncoding: true}),
}

func encode(t testing.TB, serializer string, obj runtime.Object) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := serializers[serializer].Encode(obj, &b); err != nil {
		t.Fatalf("encode as %s: %v", serializer, err)
	}
	return b.Bytes()
}

// newList is a list as a server sends it.
func newList(meta metav1.ListMeta, items ...metav1.PartialObjectMetadata) *metav1.PartialObjectMetadataList {
	list := &metav1.PartialObjectMetadataList{ListMeta: meta, Items: items}
	list.SetGroupVersionKind(metav1.SchemeGroupVersion.WithKind("PartialObjectMetadataList"))
	list.APIVersion = "meta.k8s.io/v1"
	return list
}

// named is an object of little more than a name.
func named(namespace, name string) metav1.PartialObjectMetadata {
	return metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: types.UID("uid-" + name), ResourceVersion: "7",
		Labels: map[string]string{"app": name},
	}}
}

// pods are n objects in the order of their keys.
func pods(n int) []metav1.PartialObjectMetadata {
	items := make([]metav1.PartialObjectMetadata, n)
	for i := range items {
		items[i] = named("shop", fmt.Sprintf("pod-%04d", i))
	}
	return items
}

// fat are pods with an annotation of size bytes each.
func fat(n, size int) []metav1.PartialObjectMetadata {
	items := pods(n)
	for i := range items {
		items[i].Annotations = map[string]string{"large": strings.Repeat("x", size)}
	}
	return items
}

// at is the object in another version, with the label app of that value.
func at(o metav1.PartialObjectMetadata, version, app string) metav1.PartialObjectMetadata {
	o.ResourceVersion = version
	o.Labels = map[string]string{"app": app}
	return o
}

var (
	podA = named("shop", "a")
	podB = named("shop", "b")
	podC = named("shop", "c")
)

// event encodes one as watches send it: in protobuf after its length.
func event(t testing.TB, form string, typ watch.EventType, obj runtime.Object) []byte {
	t.Helper()
	sent := &metav1.WatchEvent{Type: string(typ), Object: runtime.RawExtension{Raw: encode(t, form, obj)}}
	if form == "json" {
		return encode(t, form, sent)
	}
	body, err := sent.Marshal()
	if err != nil {
		t.Fatalf("encode an event: %v", err)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// partial is an object as a watch sends it.
func partial(o metav1.PartialObjectMetadata) *metav1.PartialObjectMetadata {
	o.APIVersion, o.Kind = "meta.k8s.io/v1", "PartialObjectMetadata"
	return &o
}

func added(t *testing.T, o metav1.PartialObjectMetadata) []byte {
	return event(t, "protobuf", watch.Added, partial(o))
}
func modified(t *testing.T, o metav1.PartialObjectMetadata) []byte {
	return event(t, "protobuf", watch.Modified, partial(o))
}
func deleted(t *testing.T, o metav1.PartialObjectMetadata) []byte {
	return event(t, "protobuf", watch.Deleted, partial(o))
}

func bookmarked(t *testing.T, version string) []byte {
	return event(t, "protobuf", watch.Bookmark,
		partial(metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{ResourceVersion: version}}))
}

// failed is an event of type ERROR, which asks to wait for so many seconds.
func failed(t *testing.T, code, seconds int32, reason metav1.StatusReason, message string) []byte {
	return event(t, "protobuf", watch.Error, &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: code, Reason: reason, Message: message,
		Details: &metav1.StatusDetails{RetryAfterSeconds: seconds},
	})
}
