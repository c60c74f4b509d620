package informer

import (
	"bytes"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func typicalPage(n int) *metav1.PartialObjectMetadataList {
	list := newList(metav1.ListMeta{ResourceVersion: "9000000", Continue: "token"})
	for i := range n {
		list.Items = append(list.Items, typicalPod(i))
	}
	return list
}

func ignore(*object) error { return nil }

// TestDecodeAllocatesNothing compares pages: what a page costs does not depend
// on how many objects it holds.
func TestDecodeAllocatesNothing(t *testing.T) {
	d := newDecoder()
	allocations := func(n int) float64 {
		body := encode(t, "protobuf", typicalPage(n))
		reader := bytes.NewReader(body)
		return testing.AllocsPerRun(50, func() {
			reader.Reset(body)
			if _, err := d.list(reader, ignore); err != nil {
				t.Fatal(err)
			}
		})
	}
	few, many := allocations(5), allocations(500)
	if few != many {
		t.Errorf("a page of 5 objects takes %v allocations, one of 500 takes %v; want no difference", few, many)
	}
}

func BenchmarkDecode(b *testing.B) {
	const objects = 500
	for _, form := range []string{"protobuf", "json"} {
		b.Run(form, func(b *testing.B) {
			body := encode(b, form, typicalPage(objects))
			d, reader := newDecoder(), bytes.NewReader(nil)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				reader.Reset(body)
				if _, err := d.list(reader, ignore); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(objects)*float64(b.N)/b.Elapsed().Seconds(), "objects/s")
			b.ReportMetric(float64(len(body))/objects, "B/object")
		})
	}
}
