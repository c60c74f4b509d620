// SPDX-License-Identifier: Apache-2.0

package decode

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"

	"labelstream/record"
)

// serializers are those that API servers answer lists with.
var serializers = map[string]runtime.Encoder{
	"protobuf":           protobuf.NewSerializer(nil, nil),
	"protobuf-streaming": protobuf.NewSerializerWithOptions(nil, nil, protobuf.SerializerOptions{StreamingCollectionsEncoding: true}),
	"json":               json.NewSerializerWithOptions(json.DefaultMetaFactory, nil, nil, json.SerializerOptions{}),
	"json-pretty":        json.NewSerializerWithOptions(json.DefaultMetaFactory, nil, nil, json.SerializerOptions{Pretty: true}),
	"json-streaming":     json.NewSerializerWithOptions(json.DefaultMetaFactory, nil, nil, json.SerializerOptions{StreamingCollectionsEncoding: true}),
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

// large is an object with an annotation of size bytes.
func large(size int) metav1.PartialObjectMetadata {
	o := named("shop", "large")
	o.Annotations = map[string]string{"large": strings.Repeat("x", size)}
	return o
}

// typicalPod is about 1.3 KB of metadata, most of which nobody needs.
func typicalPod(i int) metav1.PartialObjectMetadata {
	const owner = "checkout-api-7d9f8c6b5d"
	o := named("checkout-production", fmt.Sprintf("%s-%05d", owner, i))
	o.Labels = map[string]string{
		"app": "checkout-api", "app.kubernetes.io/instance": "checkout-production",
		"app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/version": "2.41.0",
		"pod-template-hash": "7d9f8c6b5d", "team": "payments", "environment": "production",
	}
	o.Annotations = map[string]string{
		"checksum/config": strings.Repeat("0f343b09", 8), "prometheus.io/port": "9090", "prometheus.io/scrape": "true",
	}
	o.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: owner, UID: "0b7d2f57-6d6e-4c0b-9d9c-0d2f57b7d2f5"}}
	o.ManagedFields = []metav1.ManagedFieldsEntry{{
		Manager: "kube-controller-manager", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1",
		FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{` + strings.Repeat(`"f:app":{},`, 54) + `"f:team":{}}}}`),
	}}
	return o
}

// varied is a list of objects of all shapes: with everything, with nothing, with
// odd values and one of size bytes, and one that is being deleted.
func varied(size int) *metav1.PartialObjectMetadataList {
	const text = "\"\\<&\né漢\U0001F680"
	odd := large(size)
	odd.Annotations[""], odd.Annotations[text], odd.Annotations[strings.Repeat("k", 130)] = "", text, "v"
	odd.Labels = nil
	yes, no := true, false
	odd.OwnerReferences = []metav1.OwnerReference{{Kind: text, Controller: &yes, BlockOwnerDeletion: &no}, {Name: strings.Repeat("n", 130), Controller: &no}}
	deleted := named("", "gone")
	deleted.DeletionTimestamp, deleted.Labels = &metav1.Time{Time: time.Unix(1_770_000_000, 0)}, map[string]string{}
	remaining := int64(1 << 40)
	return newList(metav1.ListMeta{ResourceVersion: "12", Continue: text, RemainingItemCount: &remaining},
		typicalPod(1), metav1.PartialObjectMetadata{}, odd, deleted, named("shop", "a"))
}

// decoded is an object that was read, in a form that can be kept and compared.
type decoded struct {
	Namespace, Name, ResourceVersion string
	Labels, Annotations              map[string]string
	Owners                           []record.Owner
}

func fromObject(o *Object) decoded {
	return decoded{
		Namespace: string(o.Namespace), Name: string(o.Name), ResourceVersion: string(o.ResourceVersion),
		Labels: pairs(o.Labels), Annotations: pairs(o.Annotations), Owners: cloneOwners(o.Owners),
	}
}

func cloneOwners(all []record.Owner) (owners []record.Owner) {
	for _, o := range all {
		owners = append(owners, record.Owner{Kind: bytes.Clone(o.Kind), Name: bytes.Clone(o.Name), IsController: o.IsController})
	}
	return owners
}

// pairs keeps the last of two with the same key, as protobuf demands of
// maps.
func pairs(all []record.KeyValue) map[string]string {
	m := make(map[string]string, len(all))
	for _, pair := range all {
		m[string(pair.Key)] = string(pair.Value)
	}
	return m
}

// reference is what apimachinery makes of a list.
func reference(list *metav1.PartialObjectMetadataList) (Page, []decoded) {
	p := Page{ResourceVersion: list.ResourceVersion, Continue: list.Continue, Remaining: -1, Items: len(list.Items)}
	if list.RemainingItemCount != nil {
		p.Remaining = *list.RemainingItemCount
	}
	objects := make([]decoded, 0, len(list.Items))
	for i := range list.Items {
		objects = append(objects, plain(&list.Items[i]))
	}
	return p, objects
}

func plain(o *metav1.PartialObjectMetadata) decoded {
	d := decoded{Namespace: o.Namespace, Name: o.Name, ResourceVersion: o.ResourceVersion, Labels: o.Labels, Annotations: o.Annotations}
	for _, owner := range o.OwnerReferences {
		isController := owner.Controller != nil && *owner.Controller
		d.Owners = append(d.Owners, record.Owner{Kind: []byte(owner.Kind), Name: []byte(owner.Name), IsController: isController})
	}
	return d
}

func decodeAll(d *ListDecoder, body io.Reader) (Page, []decoded, error) {
	objects := []decoded{}
	p, err := d.Decode(body, func(o *Object) error {
		objects = append(objects, fromObject(o))
		return nil
	})
	return p, objects, err
}

// expectList decodes a body and compares it with what apimachinery has.
func expectList(t *testing.T, d *ListDecoder, body io.Reader, list *metav1.PartialObjectMetadataList) Page {
	t.Helper()
	p, objects, err := decodeAll(d, body)
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	expect(t, p, objects, list)
	return p
}

func expect(t *testing.T, p Page, objects []decoded, list *metav1.PartialObjectMetadataList) {
	t.Helper()
	p.Bytes = 0
	wantPage, want := reference(list)
	if diff := cmp.Diff(wantPage, p); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, objects, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("objects (-want +got):\n%.4000s", diff)
	}
}

// envelope wraps a list as API servers do.
func envelope(list []byte) []byte {
	return unknown("meta.k8s.io/v1", "PartialObjectMetadataList", list)
}

// unknown is an answer in protobuf that holds any kind of message.
func unknown(apiVersion, kind string, raw []byte) []byte {
	unknown := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: apiVersion, Kind: kind}, Raw: raw}
	body, err := unknown.Marshal()
	if err != nil {
		panic(err)
	}
	return append([]byte(protobufMagic), body...)
}
