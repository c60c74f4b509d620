package decode

import (
	"bytes"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// forms are the two in which API servers send lists and events.
var forms = []string{"protobuf", "json"}

func typicalPage(n int) *metav1.PartialObjectMetadataList {
	list := newList(metav1.ListMeta{ResourceVersion: "9000000", Continue: "token"})
	for i := range n {
		list.Items = append(list.Items, typicalPod(i))
	}
	return list
}

// typicalEvents are n pods that were changed, as a watch sends them.
func typicalEvents(t testing.TB, form string, n int) []byte {
	var body []byte
	for i := range n {
		body = append(body, encodeEvent(t, form, watch.Modified, partial(typicalPod(i)))...)
	}
	return body
}

func ignore(*Object) error { return nil }

// TestDecodeAllocatesNothing compares pages: what a page costs does not depend
// on how many objects it holds. The smaller one is large enough for buffers to
// have grown.
func TestDecodeAllocatesNothing(t *testing.T) {
	for _, form := range forms {
		d := NewListDecoder()
		allocations := func(n int) float64 {
			body := encode(t, form, typicalPage(n))
			reader := bytes.NewReader(body)
			return testing.AllocsPerRun(20, func() {
				reader.Reset(body)
				if _, err := d.Decode(reader, ignore); err != nil {
					t.Fatal(err)
				}
			})
		}
		few, many := allocations(20), allocations(500)
		if few != many {
			t.Errorf("%s: a page of 20 objects takes %v allocations, one of 500 takes %v; want no difference", form, few, many)
		}
	}
}

// TestEventsAllocateNothing counts for the events of a watch after its first,
// for which buffers grow.
func TestEventsAllocateNothing(t *testing.T) {
	const first, counted = 20, 100
	for _, form := range forms {
		r := NewWatchDecoder(bytes.NewReader(typicalEvents(t, form, first+1+counted)))
		next := func() {
			if _, _, _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
		}
		for range first {
			next()
		}
		// AllocsPerRun calls once more before it counts.
		if n := testing.AllocsPerRun(counted, next); n != 0 {
			t.Errorf("%s: %v allocations an event, want 0", form, n)
		}
	}
}

// report adds what is of interest of each object.
func report(b *testing.B, bytes, objects int) {
	all := float64(objects) * float64(b.N)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/all, "ns/object")
	b.ReportMetric(float64(bytes)/float64(objects), "B/object")
	b.ReportMetric(all/b.Elapsed().Seconds(), "objects/s")
}

func BenchmarkDecode(b *testing.B) {
	const objects = 500
	for _, form := range forms {
		b.Run(form, func(b *testing.B) {
			body := encode(b, form, typicalPage(objects))
			d, reader := NewListDecoder(), bytes.NewReader(nil)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				reader.Reset(body)
				if _, err := d.Decode(reader, ignore); err != nil {
					b.Fatal(err)
				}
			}
			report(b, len(body), objects)
		})
	}
}

// BenchmarkDecodeEvents reads watches of 500 events each.
func BenchmarkDecodeEvents(b *testing.B) {
	const objects = 500
	for _, form := range forms {
		b.Run(form, func(b *testing.B) {
			body := typicalEvents(b, form, objects)
			reader := bytes.NewReader(nil)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				reader.Reset(body)
				r := NewWatchDecoder(reader)
				for range objects {
					if _, _, _, err := r.Next(); err != nil {
						b.Fatal(err)
					}
				}
			}
			report(b, len(body), objects)
		})
	}
}
