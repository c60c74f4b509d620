package decode

import (
	"bytes"
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// forms are the two in which API servers send lists and events.
var forms = []string{"protobuf", "json"}

// pages are of objects that are alike, and of objects whose keys and values differ
// in number and length.
var pages = map[string]func(int) metav1.PartialObjectMetadata{"alike": typicalPod, "mixed": mixedPod}

func mixedPod(i int) metav1.PartialObjectMetadata {
	pod := typicalPod(i)
	pod.Labels = make(map[string]string)
	for n := range 4 + i%7 {
		pod.Labels[fmt.Sprintf("example.com/%0*d", 3+i*n%29, i*n)] = fmt.Sprintf("%0*d", 1+(i+n)%53, i)
	}
	pod.Name = fmt.Sprintf("worker-%0*d", 5+i%40, i)
	return pod
}

func page(n int, object func(int) metav1.PartialObjectMetadata) *metav1.PartialObjectMetadataList {
	list := newList(metav1.ListMeta{ResourceVersion: "9000000", Continue: "token"})
	for i := range n {
		list.Items = append(list.Items, object(i))
	}
	return list
}

func events(t testing.TB, form string, n int) []byte {
	var body []byte
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
		body := encode(t, "protobuf", page(n, typicalPod))
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

func BenchmarkList(b *testing.B) {
	const objects = 500
	for _, form := range forms {
		for name, object := range pages {
			b.Run(form+"/"+name, func(b *testing.B) {
				body := encode(b, form, page(objects, object))
				d, reader := NewListDecoder(), bytes.NewReader(nil)
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					reader.Reset(body)
					if _, err := d.Decode(reader, ignore); err != nil {
						b.Fatal(err)
					}
				}
				reportObjects(b, objects)
			})
		}
	}
}

// BenchmarkEvents reads watches of 500 events each.
func BenchmarkEvents(b *testing.B) {
	const objects = 500
	for _, form := range forms {
		b.Run(form, func(b *testing.B) {
			body := events(b, form, objects)
			reader := bytes.NewReader(nil)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				reader.Reset(body)
				d := NewWatchDecoder(reader)
				for range objects {
					if _, _, _, err := d.Next(); err != nil {
						b.Fatal(err)
					}
				}
			}
			reportObjects(b, objects)
		})
	}
}

func reportObjects(b *testing.B, objects int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(objects)/float64(b.N), "ns/object")
}
