// SPDX-License-Identifier: Apache-2.0

package decode

import (
	"bytes"
	"io"
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
	d := NewListDecoder(false)
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
	d := NewWatchDecoder(bytes.NewReader(events(t, "protobuf", first+1+counted)), false)
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

// BenchmarkDecode reads a page, and a watch, of 500 objects in each form.
func BenchmarkDecode(b *testing.B) {
	const objects = 500
	list := NewListDecoder(false)
	readPage := func(body io.Reader) error {
		_, err := list.Decode(body, ignore)
		return err
	}
	readWatch := func(body io.Reader) (err error) {
		d := NewWatchDecoder(body, false)
		for n := 0; n < objects && err == nil; n++ {
			_, _, _, err = d.Next()
		}
		return err
	}
	for _, form := range forms {
		for _, bench := range []struct {
			name string
			body []byte
			read func(io.Reader) error
		}{{"list", encode(b, form, page(objects)), readPage}, {"watch", events(b, form, objects), readWatch}} {
			b.Run(bench.name+"/"+form, func(b *testing.B) {
				b.SetBytes(int64(len(bench.body)))
				b.ReportAllocs()
				for b.Loop() {
					if err := bench.read(bytes.NewReader(bench.body)); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
