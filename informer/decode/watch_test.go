// SPDX-License-Identifier: Apache-2.0

package decode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/runtime/serializer/streaming"
	"k8s.io/apimachinery/pkg/watch"
)

// event is one of a watch, as it is sent or as it was read.
type event struct {
	Type   watch.EventType
	Object decoded
	Status *metav1.Status
}

// encodeEvent writes an event as an API server does: the object in its own
// serializer, in a WatchEvent, in a frame.
func encodeEvent(t testing.TB, form string, typ watch.EventType, obj runtime.Object) []byte {
	t.Helper()
	var b bytes.Buffer
	stream := streaming.NewEncoder(json.Framer.NewFrameWriter(&b), serializers["json"])
	if form == "protobuf" {
		stream = streaming.NewEncoder(protobuf.LengthDelimitedFramer.NewFrameWriter(&b), protobuf.NewRawSerializer(nil, nil))
	}
	err := stream.Encode(&metav1.WatchEvent{Type: string(typ), Object: runtime.RawExtension{Raw: encode(t, form, obj)}})
	if err != nil {
		t.Fatalf("encode an event as %s: %v", form, err)
	}
	return b.Bytes()
}

// partial is an object as a watch sends it.
func partial(o metav1.PartialObjectMetadata) *metav1.PartialObjectMetadata {
	o.APIVersion, o.Kind = "meta.k8s.io/v1", "PartialObjectMetadata"
	return &o
}

// tooOld is what a watch ends with that cannot go on.
func tooOld(message string) *metav1.Status {
	status := apierrors.NewResourceExpired(message).Status()
	status.Kind, status.APIVersion = "Status", "v1"
	return &status
}

// readEvents reads until there is an error.
func readEvents(body io.Reader) ([]event, error) {
	events := []event{}
	for r := NewWatchDecoder(body, true); ; {
		typ, o, status, err := r.Next()
		if err != nil {
			return events, err
		}
		e := event{Type: typ, Status: status}
		if o != nil {
			e.Object = fromObject(o)
		}
		events = append(events, e)
	}
}

// TestEventsEqualApimachinery reads what apimachinery's encoders write.
func TestEventsEqualApimachinery(t *testing.T) {
	for _, form := range forms {
		status := tooOld("too old")
		body := encodeEvent(t, form, watch.Error, status)
		if form == "protobuf" {
			// What the envelope says of the type is not in the status.
			status.TypeMeta = metav1.TypeMeta{}
		}
		want := []event{{Type: watch.Error, Status: status}}
		for _, typ := range []watch.EventType{watch.Added, watch.Modified, watch.Deleted, watch.Bookmark, "OTHER"} {
			for _, o := range append(varied(9).Items, varied(150_000).Items...) {
				body = append(body, encodeEvent(t, form, typ, partial(o))...)
				want = append(want, event{Type: typ, Object: plain(&o)})
			}
		}
		for name, reader := range map[string]io.Reader{
			"at once": bytes.NewReader(body), "byte by byte": iotest.OneByteReader(bytes.NewReader(body)),
		} {
			got, err := readEvents(reader)
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || !errors.Is(err, io.EOF) {
				t.Errorf("%s, %s: ends with %v, want EOF; events (-want +got):\n%.3000s", form, name, err, diff)
			}
		}
	}
}

// TestEventsCut ends the stream after each of its bytes: what was whole before
// is read, and only between two events is it a good end.
func TestEventsCut(t *testing.T) {
	for _, form := range forms {
		first := encodeEvent(t, form, watch.Added, partial(named("shop", "a")))
		body := append(bytes.Clone(first), encodeEvent(t, form, watch.Deleted, partial(named("shop", "b")))...)
		for at := range len(body) {
			// JSON ends with its brace, before the line does.
			whole, want := at == 0 || at == len(first), 0
			if form == "json" {
				whole = whole || at == len(first)-1 || at == len(body)-1
			}
			for _, end := range []int{len(bytes.TrimSpace(first)), len(bytes.TrimSpace(body))} {
				if at >= end {
					want++
				}
			}
			events, err := readEvents(bytes.NewReader(body[:at]))
			if len(events) != want || errors.Is(err, io.EOF) != whole || !whole && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%s, cut at %d of %d (first %d): %d events and %v", form, at, len(body), len(first), len(events), err)
			}
		}
	}
}

func TestEventsThatMakeNoSense(t *testing.T) {
	frame := func(length uint32, message string) string {
		return string(binary.BigEndian.AppendUint32(nil, length)) + message
	}
	tests := map[string]struct{ body, want string }{
		"longer than any object":   {frame(maxObjectBytes+1, ""), "decode the watch: a frame of 67108865 bytes"},
		"no message":               {frame(2, "\xff\xff"), "decode a watch event: "},
		"no object":                {frame(0, ""), "decode a watch event: its object is not in protobuf"},
		"an object in JSON":        {frame(8, "\x0a\x00\x12\x04\x0a\x02{}"), "decode a watch event: its object is not in protobuf"},
		"a broken object":          {frame(11, "\x12\x09\x0a\x07k8s\x00\x12\x01\xff"), "decode a watch event's object: "},
		"a broken status":          {frame(15, "\x0a\x05ERROR\x12\x06\x0a\x04k8s\x00"), ""},
		"JSON that is none":        {"{]", "decode the watch: invalid character"},
		"JSON without an object":   {`{"type":"ADDED","object":null}`, "decode a watch event: it has no object"},
		"a JSON type that is none": {`{"type":5,"object":{}}`, "decode the watch: json: cannot unmarshal number"},
		"JSON of another shape":    {`{"type":"ADDED","object":[]}`, "decode a watch event's object: "},
		"a JSON status":            {`{"type":"ERROR","object":[]}`, "decode the watch's error: "},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, status, err := NewWatchDecoder(strings.NewReader(test.body), true).Next()
			if test.want == "" {
				if err != nil || status == nil || status.Code != 0 {
					t.Errorf("got %v and %v, want an empty status", status, err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

// TestEventsKeepNoLargeObject waits for an event after a large one: what that took
// is free by then.
func TestEventsKeepNoLargeObject(t *testing.T) {
	for _, form := range forms {
		d := NewWatchDecoder(bytes.NewReader(encodeEvent(t, form, watch.Added, partial(large(4<<20)))), true)
		if _, _, _, err := d.Next(); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := d.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: ends with %v, want EOF", form, err)
		}
		if cap(d.frame) > readBuffer || cap(d.object.Annotations) > 0 || d.json != nil && d.json.InputOffset() > readBuffer {
			t.Errorf("%s: %d bytes of a frame are kept, %d annotations", form, cap(d.frame), cap(d.object.Annotations))
		}
	}
}

// FuzzEvents reads any bytes as a watch: as one it never ends but by an error,
// and in protobuf gives what apimachinery gives of the same events.
func FuzzEvents(f *testing.F) {
	for _, form := range forms {
		added := encodeEvent(f, form, watch.Added, partial(named("a", "b")))
		f.Add(added)
		f.Add(append(bytes.Clone(added), encodeEvent(f, form, watch.Deleted, partial(named("a", "c")))...))
		f.Add(encodeEvent(f, form, watch.Bookmark, partial(metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "5"}})))
		f.Add(encodeEvent(f, form, watch.Error, tooOld("too old")))
	}
	f.Add([]byte{0, 0, 0, 2, 0x0a, 0x00})
	f.Add([]byte(`{"object":{"metadata":{"name":"a","name":null}},"type":null,"object":null,"type":"ADDED"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		events, err := readEvents(bytes.NewReader(data))
		if err == nil {
			t.Fatal("a watch without an end")
		}
		if bytes.HasPrefix(data, []byte("{")) {
			return
		}
		for i, want := range referenceEvents(data) {
			if i == len(events) {
				break
			}
			if diff := cmp.Diff(want, events[i], cmpopts.EquateEmpty()); want.Type != watch.Error && diff != "" {
				t.Errorf("event %d (-want +got):\n%s", i, diff)
			}
		}
	})
}

// referenceEvents is what apimachinery makes of a watch in protobuf, up to the
// first event that it does not understand.
func referenceEvents(data []byte) (events []event) {
	for len(data) >= 4 {
		length := int64(binary.BigEndian.Uint32(data))
		if data = data[4:]; int64(len(data)) < length {
			break
		}
		var sent metav1.WatchEvent
		var unknown runtime.Unknown
		var o metav1.PartialObjectMetadata
		err := sent.Unmarshal(data[:length])
		if raw, ok := bytes.CutPrefix(sent.Object.Raw, []byte(protobufMagic)); err != nil || !ok ||
			unknown.Unmarshal(raw) != nil || o.Unmarshal(unknown.Raw) != nil {
			break
		}
		data = data[length:]
		events = append(events, event{Type: watch.EventType(sent.Type), Object: plain(&o)})
	}
	return events
}
