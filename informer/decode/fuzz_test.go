package decode

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// FuzzList reads any bytes as a response, and as the list inside an envelope.
// The decoder gives an error or what apimachinery gives; it passes over what
// it does not need, so that it may read what apimachinery refuses.
func FuzzList(f *testing.F) {
	deleted := named("", "gone")
	deleted.DeletionTimestamp = &metav1.Time{}
	remaining := int64(7)
	// Small ones: the fuzzer is slow with large inputs.
	for _, list := range []*metav1.PartialObjectMetadataList{
		newList(metav1.ListMeta{}),
		newList(metav1.ListMeta{ResourceVersion: "5", Continue: "token", RemainingItemCount: &remaining}, named("a", "b")),
		newList(metav1.ListMeta{ResourceVersion: "5"}, named("a", "b"), deleted),
		newList(metav1.ListMeta{ResourceVersion: "5"}, typicalPod(1)),
	} {
		raw, err := list.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		f.Add(encode(f, "protobuf", list))
		f.Add(encode(f, "json", list))
	}
	f.Add([]byte(`{"items":[{"metadata":{"labels":{"a":null}}}]}`))
	f.Add([]byte{0x12, 0xff, 0xff, 0xff, 0x1f, 0x0a})
	d := NewListDecoder()
	f.Fuzz(func(t *testing.T, data []byte) {
		p, objects, _ := decodeAll(d, bytes.NewReader(data))
		if p.Items < len(objects) || p.Bytes > int64(len(data)) || cap(d.scratch) > 1<<20 {
			t.Fatalf("%d objects of %d items, %d of %d bytes, %d bytes kept", len(objects), p.Items, p.Bytes, len(data), cap(d.scratch))
		}
		p, objects, err := decodeAll(d, bytes.NewReader(envelope(data)))
		list := new(metav1.PartialObjectMetadataList)
		if list.Unmarshal(data) != nil {
			return
		}
		if err != nil {
			// Groups, which no API server sends, are refused where fields of the list
			// are skipped.
			if !strings.Contains(err.Error(), "wire type 3 is not valid here") {
				t.Errorf("%v, apimachinery has no error", err)
			}
			return
		}
		p.Bytes = 0
		wantPage, want := reference(list)
		if diff := cmp.Diff(wantPage, p); diff != "" {
			t.Errorf("page (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, objects); diff != "" {
			t.Errorf("objects (-want +got):\n%s", diff)
		}
	})
}
