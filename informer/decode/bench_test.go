package decode

import (
	"bytes"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// forms are the two in which API servers send lists and events.
var forms = []string{"protobuf", "json"}

// page is a list of n typical pods.
func page(n int) *metav1.PartialObjectMetadataList {
	list := newList(metav1.ListMeta{ResourceVersion: "9000000", Continue: "token"})
	for i := range n {
		list.Items = append(list.Items, typicalPod(i))
	}
	return list
}

func events(t testing.TB, form string, n int) (body []byte) {
	for i := range n {
		body = append(body, encodeEvent(t, form, watch.Modified, partial(typicalPod(i)))...)
	}
	return body
}

func ignore(*Object) error { return nil }

// TestListAllocatesNothing compares pages: what a page in protobuf costs does not
// depend on how many objects it holds.
func TestListAllocatesNothing(t *testing.T) {
	d := NewListDecoder()
	allocations := func(n int) float64 {
		body := encode(t, "protobuf", page(n))
		reader := bytes.NewReader(body)
		return testing.AllocsPerRun(20, func() {
			reader.Reset(body)
			if _, err := d.Decode(reader, ignore); err != nil {
				t.Fatal(err)
			}
		})
	}
	if few, many := allocations(20), allocations(500); few != many {
		t.Errorf("a page of 20 objects takes %v allocations, one of 500 takes %v; want no difference", few, many)
	}
}

// TestEventsAllocateNothing counts for the events after the first, for which
// buffers grow.
func TestEventsAllocateNothing(t *testing.T) {
	const first, counted = 20, 100
	d := NewWatchDecoder(bytes.NewReader(events(t, "protobuf", first+1+counted)))
	next := func() {
		if _, _, _, err := d.Next(); err != nil {
			t.Fatal(err)
		}
	}
	for range first {
		next()
	}
	// AllocsPerRun calls once more before it counts.
	if n := testing.AllocsPerRun(counted, next); n != 0 {
		t.Errorf("%v allocations an event, want 0", n)
	}
}

// benchmark reads a body of 500 objects in each form.
func benchmark(b *testing.B, body func(form string, n int) []byte, read func(reader *bytes.Reader, n int) error) {
	const objects = 500
	for _, form := range forms {
		b.Run(form, func(b *testing.B) {
			encoded, reader := body(form, objects), bytes.NewReader(nil)
			b.SetBytes(int64(len(encoded)))
			b.ReportAllocs()
			for b.Loop() {
				reader.Reset(encoded)
				if err := read(reader, objects); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/objects/float64(b.N), "ns/object")
		})
	}
}

func BenchmarkList(b *testing.B) {
	d := NewListDecoder()
	body := func(form string, n int) []byte { return encode(b, form, page(n)) }
	benchmark(b, body, func(reader *bytes.Reader, _ int) error {
		_, err := d.Decode(reader, ignore)
		return err
	})
}

func BenchmarkEvents(b *testing.B) {
	body := func(form string, n int) []byte { return events(b, form, n) }
	benchmark(b, body, func(reader *bytes.Reader, n int) (err error) {
		for d := NewWatchDecoder(reader); n > 0 && err == nil; n-- {
			_, _, _, err = d.Next()
		}
		return err
	})
}
