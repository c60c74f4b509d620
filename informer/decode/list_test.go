// SPDX-License-Identifier: Apache-2.0

package decode

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protowire"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestListEqualsApimachinery reads what apimachinery's encoders write, in any pieces.
func TestListEqualsApimachinery(t *testing.T) {
	for name := range serializers {
		d := NewListDecoder(true)
		for _, list := range []*metav1.PartialObjectMetadataList{newList(metav1.ListMeta{ResourceVersion: "1"}), varied(0), varied(150_000)} {
			body := encode(t, name, list)
			for _, pieces := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader} {
				p := expectList(t, d, pieces(bytes.NewReader(body)), list)
				if least := end(body); p.Bytes < int64(least) || p.Bytes > int64(len(body)) {
					t.Errorf("%s: %d bytes, want %d to %d", name, p.Bytes, least, len(body))
				}
			}
		}
	}
}

// TestListSizes has objects of all sizes at which the way of reading changes, each
// between small ones.
func TestListSizes(t *testing.T) {
	// With this annotation an object fills the buffer.
	item := large(readBuffer)
	full := readBuffer - (item.Size() - readBuffer)
	sizes := []int{0, 1, 127, 128, full - 1, full, full + 1, readBuffer, readBuffer + 200, 2 * readBuffer, 1 << 20, 1<<20 + readBuffer}
	for _, name := range forms {
		d := NewListDecoder(true)
		for _, size := range sizes {
			list := newList(metav1.ListMeta{ResourceVersion: "1"}, named("a", "before"), large(size), named("a", "between"), large(size), named("z", "after"))
			expectList(t, d, bytes.NewReader(encode(t, name, list)), list)
		}
	}
}

// TestListKeepsNoLargeObject reads an object that is larger than others, and a list
// that is cut off within one.
func TestListKeepsNoLargeObject(t *testing.T) {
	body := encode(t, "protobuf", newList(metav1.ListMeta{}, large(2<<20)))
	for _, end := range []int{len(body), len(body) / 2} {
		d := NewListDecoder(true)
		_, _, _ = decodeAll(d, bytes.NewReader(body[:end]))
		if cap(d.scratch) > 0 || cap(d.object.Annotations) > 0 || d.counter.Reader != nil {
			t.Errorf("after %d of %d bytes: %d bytes are kept, %d annotations, body %v", end, len(body), cap(d.scratch), cap(d.object.Annotations), d.counter.Reader)
		}
	}
}

// TestListOrderOfKeys has sorted keys in both forms: equal objects give equal
// records.
func TestListOrderOfKeys(t *testing.T) {
	item := named("a", "b")
	item.Labels = map[string]string{"c": "3", "a": "1", "d": "4", "b": "2"}
	for name := range serializers {
		keys := ""
		_, err := NewListDecoder(true).Decode(bytes.NewReader(encode(t, name, newList(metav1.ListMeta{}, item))), func(o *Object) error {
			for _, pair := range o.Labels {
				keys += string(pair.Key)
			}
			return nil
		})
		if err != nil || keys != "abcd" {
			t.Errorf("%s: keys %q, error %v; want abcd and none", name, keys, err)
		}
	}
}

// TestListOtherJSON has members in another order, twice, null, unknown or missing.
func TestListOtherJSON(t *testing.T) {
	for _, text := range []string{
		`{"items":null}`, `{"items":[{}]}`, `{"items":[{"metadata":null}]}`, `{"items":[]} x`, `{"items":[],"metadata":{"remainingItemCount":7}}`,
		`{"items":[{"metadata":{"name":"a","labels":{"k":"v"}}}],"metadata":{"resourceVersion":"5"},"kind":"List"}`,
		`{"kind":"WidgetList","extra":{"items":[1,[2]]},"metadata":{"resourceVersion":"5","new":[{}]},` +
			`"items":[{"spec":{"metadata":{"name":"no"}},"status":null,"metadata":{"new":{"name":"no"},"name":"a","labels":{"k":"v"},"annotations":null}}]}`,
		" \n{ \"metadata\" : { \"resourceVersion\" : \"5\" } ,\t\"items\" : [ { \"metadata\" : { \"name\" : \"a\" } } ] }\n",
		`{"\u0069tems":[{"metad\u0061ta":{"n\u0061me":"a","annotations":{"\u0000\ud83d":"\"\\\u20ac"}}}]}`,
		`{"items":[{"metadata":{"name":"a"},"metadata":{"namespace":"b"}}],"metadata":{"resourceVersion":"5"},"metadata":{"continue":"c","resourceVersion":null}}`,
	} {
		want := new(metav1.PartialObjectMetadataList)
		if err := json.NewDecoder(strings.NewReader(text)).Decode(want); err != nil {
			t.Fatal(err)
		}
		expectList(t, NewListDecoder(true), strings.NewReader(text), want)
	}
}

// TestListUnknownFields has fields that no version knows, of all wire types, in each
// message of a list.
func TestListUnknownFields(t *testing.T) {
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 200, protowire.VarintType), 1<<40)
	unknown = protowire.AppendFixed32(protowire.AppendTag(unknown, 201, protowire.Fixed32Type), 7)
	unknown = protowire.AppendFixed64(protowire.AppendTag(unknown, 70_000, protowire.Fixed64Type), 7)
	unknown = protowire.AppendString(protowire.AppendTag(unknown, 202, protowire.BytesType), strings.Repeat("x", 5000))
	// A group, which protobuf gave up, is only passed over inside an object.
	group := protowire.AppendGroup(protowire.AppendTag(slices.Clone(unknown), 203, protowire.StartGroupType), 203, unknown)
	field := func(num protowire.Number, message []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), slices.Concat(group, message, group))
	}
	pod := typicalPod(1)
	list := newList(metav1.ListMeta{ResourceVersion: "5", Continue: "token"}, pod, pod)
	meta, metaErr := pod.ObjectMeta.Marshal()
	listMeta, err := list.ListMeta.Marshal()
	if err := errors.Join(metaErr, err); err != nil {
		t.Fatal(err)
	}
	item := field(2, field(1, meta))
	body := slices.Concat(unknown, item, unknown, field(1, listMeta), item, unknown)
	expectList(t, NewListDecoder(true), bytes.NewReader(envelope(body)), list)
}

// end is where the last announced byte of an encoded list is: what follows is
// no part of the list.
func end(body []byte) int {
	if bytes.HasPrefix(body, []byte(protobufMagic)) {
		// An encoding and a content type, both empty, end the envelope.
		return len(bytes.TrimSuffix(body, []byte("\x1a\x00\x22\x00")))
	}
	return bytes.LastIndexByte(body, '}') + 1
}

// TestListEnds cuts lists everywhere, at an end or an error of the connection. What
// is handed over before the cut is right, and the cut is an error, unless the whole
// list came before it. The decoder goes on with the next list.
func TestListEnds(t *testing.T) {
	list := varied(9)
	list.Items = list.Items[1:] // which are short
	_, want := reference(list)
	reset := errors.New("connection reset")
	for name := range serializers {
		d, body := NewListDecoder(true), encode(t, name, list)
		complete := end(body)
		for cut := range len(body) + 1 {
			for _, then := range []error{io.EOF, reset} {
				_, objects, err := decodeAll(d, io.MultiReader(bytes.NewReader(body[:cut]), iotest.ErrReader(then)))
				if cut >= complete {
					if err != nil || len(objects) != len(want) {
						t.Fatalf("%s, cut at %d, after the list: %d objects, error %v; want %d and none", name, cut, len(objects), err, len(want))
					}
					continue
				}
				if !cmp.Equal(objects, want[:len(objects)], cmpopts.EquateEmpty()) {
					t.Fatalf("%s, cut at %d: the objects are others than at the beginning of the list", name, cut)
				}
				if err == nil || errors.Is(err, io.EOF) || errors.Is(err, reset) != (then == reset) {
					t.Fatalf("%s, cut at %d of %d by %v: error %v, want one of that, and no good end", name, cut, complete, then, err)
				}
			}
		}
	}
}

func TestListReturnsTheErrorOfEach(t *testing.T) {
	full := errors.New("full")
	list := newList(metav1.ListMeta{ResourceVersion: "1"}, named("a", "1"), named("a", "2"), named("a", "3"), named("a", "4"))
	for name := range serializers {
		n := 0
		p, err := NewListDecoder(true).Decode(bytes.NewReader(encode(t, name, list)), func(*Object) error {
			if n++; n == 3 {
				return full
			}
			return nil
		})
		if err != full || n != 3 || p.Items != 3 || p.ResourceVersion != "1" {
			t.Errorf("%s: error %v after %d calls, page %+v; want %q itself after 3", name, err, n, p, full)
		}
	}
}

func TestListRefuses(t *testing.T) {
	field := func(num protowire.Number, typ protowire.Type, rest ...byte) []byte {
		return append(protowire.AppendTag(nil, num, typ), rest...)
	}
	length := func(n uint64) []byte { return binary.AppendUvarint(nil, n) }
	magic := []byte(protobufMagic)
	listMagic := envelope(nil) // with nothing in it yet
	for name, test := range map[string]struct {
		body []byte
		want string
	}{
		"nothing":               {nil, "read the beginning of the list: unexpected EOF"},
		"html":                  {[]byte("<html>no</html>"), "decode the list: invalid character '<'"},
		"json text":             {[]byte(`"list"`), "the response has list where { is expected"},
		"json without items":    {[]byte(`{"metadata":{}}`), "the response has no items"},
		"json items no array":   {[]byte(`{"items":{"metadata":{}}}`), "decode the list's items: { where an array is expected"},
		"json item no object":   {[]byte(`{"items":[{"metadata":{"name":"a"}},"b"]}`), "decode object 2 of the list: json: cannot unmarshal string"},
		"json metadata no meta": {[]byte(`{"metadata":7}`), "decode the list's metadata: json: cannot unmarshal number"},
		"json items twice":      {[]byte(`{"items":[],"items":[]}`), "decode the list: the response has items twice"},
		"json of another kind":  {[]byte(`{"kind":"Pod","metadata":{},"items":[]}`), `the response is of kind "Pod", which is no list`},
		"empty envelope":        {magic, "the response has no body"},
		"no kind":               {slices.Concat(magic, field(2, protowire.BytesType, 0)), `the response is of kind "", which is no list`},
		"a Status":              {unknown("v1", "Status", []byte{}), `the response is of kind "Status", which is no list`},
		"kind is a number":      {slices.Concat(magic, field(1, protowire.BytesType, 2, 0x10, 1)), "field 2 has wire type 0"},
		"bad field number":      {append(slices.Clone(magic), 0), "field number 0 is not valid"},
		"group in envelope":     {slices.Concat(magic, field(9, protowire.StartGroupType)), "wire type 3 is not valid here"},
		"overlong length":       {slices.Concat(listMagic, field(2, protowire.BytesType), length(1<<63)), "a length of 9223372036854775808 bytes is not valid"},
		"item past the list":    {slices.Concat(listMagic, field(2, protowire.BytesType, 3), field(2, protowire.BytesType, 9), make([]byte, 20)), "a message of 9 bytes is longer than what holds it"},
		"skipped past the list": {slices.Concat(listMagic, field(2, protowire.BytesType, 3), field(9, protowire.BytesType, 9), make([]byte, 20)), "a field is longer than the list"},
		"huge item":             {slices.Concat(listMagic, field(2, protowire.BytesType), length(1<<40), field(2, protowire.BytesType), length(maxObjectBytes+1)), "a message of 67108865 bytes is longer than what holds it"},
		"item is no message":    {envelope(field(2, protowire.VarintType, 1)), "field 2 has wire type 0"},
		"broken item":           {envelope(field(2, protowire.BytesType, 1, 0xff)), "decode object 1 of the list"},
		"labels are a number":   {envelope(field(2, protowire.BytesType, 4, 0x0a, 2, 0x58, 1)), "field 11 has wire type 0"},
		"continue is a number":  {envelope(field(1, protowire.BytesType, 2, 0x18, 1)), "decode the list's metadata: proto: wrong wireType"},
		"broken list metadata":  {envelope(field(1, protowire.BytesType, 1, 0xff)), "decode the list's metadata"},
	} {
		t.Run(name, func(t *testing.T) {
			d := NewListDecoder(true)
			_, objects, err := decodeAll(d, bytes.NewReader(test.body))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v after %d objects, want one with %q", err, len(objects), test.want)
			}
			if cap(d.scratch) != 0 {
				t.Errorf("%d bytes were set aside", cap(d.scratch))
			}
		})
	}
}

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
		newList(metav1.ListMeta{ResourceVersion: "5", Continue: "token", RemainingItemCount: &remaining}, named("a", "b"), deleted),
		newList(metav1.ListMeta{ResourceVersion: "5"}, typicalPod(1)),
	} {
		raw, err := list.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		f.Add(encode(f, "protobuf", list))
	}
	f.Add([]byte{0x12, 0xff, 0xff, 0xff, 0x1f, 0x0a})
	d := NewListDecoder(true)
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
		expect(t, p, objects, list)
	})
}
