package decode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"labelstream/record"
)

// decoded is an object that was read, in a form that can be kept and compared.
type decoded struct {
	Namespace, Name, UID, ResourceVersion string
	Deleting                              bool
	Labels, Annotations                   map[string]string
}

func fromObject(o *Object) decoded {
	return decoded{
		Namespace: string(o.Namespace), Name: string(o.Name), UID: string(o.UID), ResourceVersion: string(o.ResourceVersion),
		Deleting: o.Deleting, Labels: fromTags(o.Labels), Annotations: fromTags(o.Annotations),
	}
}

// fromTags keeps the last of two with the same key, as protobuf demands of
// maps.
func fromTags(tags []record.KeyValue) map[string]string {
	m := make(map[string]string, len(tags))
	for _, tag := range tags {
		m[string(tag.Key)] = string(tag.Value)
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
		o := &list.Items[i]
		objects = append(objects, decoded{
			Namespace: o.Namespace, Name: o.Name, UID: string(o.UID), ResourceVersion: o.ResourceVersion,
			Deleting: o.DeletionTimestamp != nil, Labels: orEmpty(o.Labels), Annotations: orEmpty(o.Annotations),
		})
	}
	return p, objects
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
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
func expectList(t *testing.T, d *ListDecoder, body io.Reader, list *metav1.PartialObjectMetadataList) {
	t.Helper()
	p, objects, err := decodeAll(d, body)
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	p.Bytes = 0
	wantPage, want := reference(list)
	if diff := cmp.Diff(wantPage, p); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, objects); diff != "" {
		t.Errorf("objects (-want +got):\n%.4000s", diff)
	}
}

func TestDecodeEqualsApimachinery(t *testing.T) {
	for name := range serializers {
		t.Run(name, func(t *testing.T) {
			d := NewListDecoder()
			for seed := range uint64(60) {
				list := newRandom(seed).list()
				expectList(t, d, bytes.NewReader(encode(t, name, list)), list)
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}

// Whatever the size of an object and wherever it begins in the buffer, it is
// read whole.
func TestDecodeSizes(t *testing.T) {
	sizes := []int{0, 1, 127, 128, readBuffer - 300}
	for near := readBuffer - 61; near <= readBuffer+3; near += 2 {
		sizes = append(sizes, near)
	}
	sizes = append(sizes, readBuffer+200, 2*readBuffer, 1<<20, 1<<20+readBuffer)
	for name := range serializers {
		t.Run(name, func(t *testing.T) {
			d := NewListDecoder()
			for _, size := range sizes {
				list := newList(metav1.ListMeta{ResourceVersion: "1"}, named("a", "before"),
					fat(1, size)[0], named("a", "between"), fat(1, size)[0], named("z", "after"))
				expectList(t, d, bytes.NewReader(encode(t, name, list)), list)
			}
			if cap(d.scratch) > 1<<20 {
				t.Errorf("%d bytes are kept after a large object, want at most %d", cap(d.scratch), 1<<20)
			}
		})
	}
}

// TestDecodeMessageAtBufferSize has messages of exactly the sizes at which
// the way of reading changes.
func TestDecodeMessageAtBufferSize(t *testing.T) {
	for _, size := range []int{readBuffer - 1, readBuffer, readBuffer + 1} {
		item := fat(1, 1)[0]
		for item.Size() < size {
			item.Annotations["large"] += strings.Repeat("x", max(1, size-item.Size()-8))
		}
		if item.Size() != size {
			t.Fatalf("the object has %d bytes, want %d", item.Size(), size)
		}
		list := newList(metav1.ListMeta{ResourceVersion: "1"}, item, named("z", "after"))
		expectList(t, NewListDecoder(), bytes.NewReader(encode(t, "protobuf", list)), list)
	}
}

func TestDecodeReaders(t *testing.T) {
	list := newList(metav1.ListMeta{ResourceVersion: "1", Continue: "more"}, append(pods(5), fat(2, readBuffer)...)...)
	readers := map[string]func(io.Reader) io.Reader{
		"one byte at a time": iotest.OneByteReader,
		"halves":             iotest.HalfReader,
		"data with the end":  iotest.DataErrReader,
	}
	for name := range serializers {
		body := encode(t, name, list)
		for reader, wrap := range readers {
			t.Run(name+"/"+reader, func(t *testing.T) {
				expectList(t, NewListDecoder(), wrap(bytes.NewReader(body)), list)
			})
		}
	}
}

func TestDecodeOrderOfTags(t *testing.T) {
	item := named("a", "b")
	item.Labels = map[string]string{"c": "3", "a": "1", "d": "4", "b": "2"}
	for name := range serializers {
		var keys []string
		body := encode(t, name, newList(metav1.ListMeta{}, item))
		if _, err := NewListDecoder().Decode(bytes.NewReader(body), func(o *Object) error {
			for _, tag := range o.Labels {
				keys = append(keys, string(tag.Key))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"a", "b", "c", "d"}, keys); diff != "" {
			t.Errorf("%s: keys (-want +got):\n%s", name, diff)
		}
	}
}

func TestDecodeBytes(t *testing.T) {
	list := newList(metav1.ListMeta{ResourceVersion: "1"}, fat(3, 100_000)...)
	for name := range serializers {
		body := encode(t, name, list)
		p, _, err := decodeAll(NewListDecoder(), bytes.NewReader(body))
		if err != nil || p.Bytes != int64(len(body)) {
			t.Errorf("%s: %d bytes, error %v; want %d and none", name, p.Bytes, err, len(body))
		}
	}
}

// TestDecodeUnknownFields has fields that no version knows, of all wire types,
// and known ones in any order.
func TestDecodeUnknownFields(t *testing.T) {
	d := NewListDecoder()
	for seed := range uint64(60) {
		r := newRandom(seed)
		raw, err := r.list().Marshal()
		if err != nil {
			t.Fatal(err)
		}
		// PartialObjectMetadataList, PartialObjectMetadata, ObjectMeta.
		mixed := r.mix(raw, 2, func(item []byte) []byte {
			return r.mix(item, 1, func(meta []byte) []byte { return r.mix(meta, 0, nil) })
		})
		want := new(metav1.PartialObjectMetadataList)
		if err := want.Unmarshal(mixed); err != nil {
			t.Fatalf("apimachinery, seed %d: %v", seed, err)
		}
		expectList(t, d, bytes.NewReader(envelope(mixed)), want)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// mix puts the fields of a message into another order and unknown ones between
// them; the messages in field nested are mixed by inner.
func (r random) mix(message []byte, nested protowire.Number, inner func([]byte) []byte) []byte {
	var parts [][]byte
	for len(message) > 0 {
		num, typ, n := protowire.ConsumeField(message)
		part := message[:n]
		if num == nested && typ == protowire.BytesType {
			_, _, skip := protowire.ConsumeTag(part)
			value, _ := protowire.ConsumeBytes(part[skip:])
			part = protowire.AppendBytes(protowire.AppendTag(nil, num, typ), inner(value))
		}
		parts = append(parts, part)
		message = message[n:]
		if r.IntN(3) == 0 {
			parts = append(parts, r.unknown(nested != 2))
		}
	}
	r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	return bytes.Join(parts, nil)
}

// unknown is a field that nobody knows. Groups, which protobuf gave up, are
// only passed over inside an object.
func (r random) unknown(groups bool) []byte {
	num := protowire.Number(200 + r.IntN(100_000))
	switch n := r.IntN(5); {
	case n == 0:
		return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), r.Uint64())
	case n == 1:
		return protowire.AppendFixed32(protowire.AppendTag(nil, num, protowire.Fixed32Type), r.Uint32())
	case n == 2:
		return protowire.AppendFixed64(protowire.AppendTag(nil, num, protowire.Fixed64Type), r.Uint64())
	case n == 3 && groups:
		inside := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), r.Uint64())
		return protowire.AppendGroup(protowire.AppendTag(nil, num, protowire.StartGroupType), num, inside)
	default:
		return protowire.AppendString(protowire.AppendTag(nil, num, protowire.BytesType), r.text(5000))
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

func TestDecodeJSONForms(t *testing.T) {
	tests := map[string]string{
		"items first": `{"items":[{"metadata":{"name":"a","labels":{"k":"v"}}}],"metadata":{"resourceVersion":"5"},"kind":"List"}`,
		"more fields": `{"kind":"WidgetList","extra":{"items":[1,[2]]},"metadata":{"resourceVersion":"5","new":[{}]},` +
			`"items":[{"spec":{"metadata":{"name":"no"}},"status":null,"metadata":{"new":{"name":"no"},"name":"a","labels":{"k":"v"},"annotations":null}}]}`,
		"spaces": " \n{ \"metadata\" : { \"resourceVersion\" : \"5\" } ,\t\"items\" : [ { \"metadata\" : { \"name\" : \"a\" , \"labels\" : { \"k\" : \"v\" } } } ] }\n",
	}
	want := []decoded{{Name: "a", Labels: map[string]string{"k": "v"}, Annotations: map[string]string{}}}
	for name, body := range tests {
		t.Run(name, func(t *testing.T) {
			p, objects, err := decodeAll(NewListDecoder(), strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			p.Bytes = 0
			if diff := cmp.Diff(Page{ResourceVersion: "5", Remaining: -1, Items: 1}, p); diff != "" {
				t.Errorf("page (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want, objects); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeEmptyLists(t *testing.T) {
	tests := map[string][]byte{"json null": []byte(`{"metadata":{"resourceVersion":"9"},"items":null}`)}
	for name := range serializers {
		tests[name] = encode(t, name, newList(metav1.ListMeta{ResourceVersion: "9"}))
	}
	for name, body := range tests {
		p, objects, err := decodeAll(NewListDecoder(), bytes.NewReader(body))
		p.Bytes = 0
		if err != nil || len(objects) != 0 || p != (Page{ResourceVersion: "9", Remaining: -1}) {
			t.Errorf("%s: page %+v, %d objects, error %v; want resourceVersion 9, none and none", name, p, len(objects), err)
		}
	}
}

// end is where the last announced byte of an encoded list is: what follows is
// no part of the list.
func end(t *testing.T, body []byte) int {
	t.Helper()
	if !bytes.HasPrefix(body, []byte(protobufMagic)) {
		return bytes.LastIndexByte(body, '}') + 1
	}
	rest := body[len(protobufMagic):]
	for len(rest) > 0 {
		num, typ, n := protowire.ConsumeTag(rest)
		size := protowire.ConsumeFieldValue(num, typ, rest[n:])
		if size < 0 {
			t.Fatal(protowire.ParseError(size))
		}
		rest = rest[n+size:]
		if num == 2 {
			return len(body) - len(rest)
		}
	}
	t.Fatal("the envelope holds no list")
	return 0
}

// TestDecodeTruncated cuts lists everywhere. What is handed over before the
// cut is right, and the cut is an error.
func TestDecodeTruncated(t *testing.T) {
	list := newRandom(3).list()
	list.Items = append(list.Items[:min(3, len(list.Items))], pods(2)...)
	_, want := reference(list)
	for name := range serializers {
		t.Run(name, func(t *testing.T) {
			d := NewListDecoder()
			body := encode(t, name, list)
			complete := end(t, body)
			for cut := range len(body) + 1 {
				_, objects, err := decodeAll(d, bytes.NewReader(body[:cut]))
				if !slices.EqualFunc(objects, want[:len(objects)], func(a, b decoded) bool { return cmp.Equal(a, b) }) {
					t.Fatalf("cut at %d: the objects are others than at the beginning of the list", cut)
				}
				switch {
				case cut >= complete && (err != nil || len(objects) != len(want)):
					t.Fatalf("cut at %d, after the list: %d objects, error %v; want %d and none", cut, len(objects), err, len(want))
				case cut < complete && err == nil:
					t.Fatalf("cut at %d of %d: no error", cut, complete)
				case errors.Is(err, io.EOF):
					t.Fatalf("cut at %d: the error is io.EOF, a good end: %v", cut, err)
				}
			}
		})
	}
}

func TestDecodeErrorAfterTheList(t *testing.T) {
	list := newList(metav1.ListMeta{ResourceVersion: "1"}, pods(3)...)
	broken := iotest.ErrReader(errors.New("connection reset"))
	for name := range serializers {
		t.Run(name, func(t *testing.T) {
			body := encode(t, name, list)
			body = body[:end(t, body)]
			expectList(t, NewListDecoder(), io.MultiReader(bytes.NewReader(body), broken), list)
		})
	}
}

func TestDecodeErrorBeforeTheEnd(t *testing.T) {
	reset := errors.New("connection reset")
	list := newList(metav1.ListMeta{ResourceVersion: "1"}, pods(3)...)
	for name := range serializers {
		body := encode(t, name, list)
		for _, at := range []int{0, 2, 10, len(body) / 2} {
			_, _, err := decodeAll(NewListDecoder(), io.MultiReader(bytes.NewReader(body[:at]), iotest.ErrReader(reset)))
			if !errors.Is(err, reset) {
				t.Errorf("%s, broken at %d: error %v, want one that wraps %q", name, at, err, reset)
			}
		}
	}
}

func TestDecodeReturnsTheErrorOfEach(t *testing.T) {
	full := errors.New("full")
	list := newList(metav1.ListMeta{ResourceVersion: "1"}, pods(5)...)
	for name := range serializers {
		n := 0
		p, err := NewListDecoder().Decode(bytes.NewReader(encode(t, name, list)), func(*Object) error {
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

func TestDecodeRefuses(t *testing.T) {
	field := func(num protowire.Number, typ protowire.Type, rest ...byte) []byte {
		return append(protowire.AppendTag(nil, num, typ), rest...)
	}
	length := func(n uint64) []byte { return binary.AppendUvarint(nil, n) }
	magic := []byte(protobufMagic)
	listMagic := envelope(nil) // with nothing in it yet
	tests := map[string]struct {
		body []byte
		want string
	}{
		"nothing":               {nil, "read the beginning of the list: unexpected EOF"},
		"html":                  {[]byte("<html>no</html>"), "invalid character '<'"},
		"json array":            {[]byte(`[{"metadata":{}}]`), `decode the list: there is [ where { is expected, at ""`},
		"json text":             {[]byte(`"list"`), `decode the list: there is string where { is expected, at ""`},
		"json of something":     {[]byte(`{"kind":"Status","metadata":{},"message":"hello"}`), "the response has no items"},
		"json items no array":   {[]byte(`{"items":{"metadata":{}}}`), `there is { where [ is expected, at "/items"`},
		"json item no object":   {[]byte(`{"items":[{"metadata":{"name":"a"}},"b"]}`), `decode object 2 of the list: there is string where { is expected, at "/items/1"`},
		"json metadata no meta": {[]byte(`{"metadata":7}`), `there is number where { is expected, at "/metadata"`},
		"json bad field":        {[]byte(`{"kind":nope}`), `within "/kind"`},
		"json items twice":      {[]byte(`{"items":[],"items":[]}`), "decode the list: the response has items twice"},
		"json name no string":   {[]byte(`{"items":[{"metadata":{"name":7}}]}`), `decode object 1 of the list: there is number where string is expected, at "/items/0/metadata/name"`},
		"json labels no map":    {[]byte(`{"items":[{"metadata":{"labels":["a"]}}]}`), `there is [ where { is expected, at "/items/0/metadata/labels"`},
		"json value no string":  {[]byte(`{"items":[{"metadata":{"annotations":{"a":{}}}}]}`), `there is { where string is expected, at "/items/0/metadata/annotations/a"`},
		"json count no number":  {[]byte(`{"metadata":{"remainingItemCount":1.5},"items":[]}`), `no whole number at "/metadata/remainingItemCount"`},
		"json of another kind":  {[]byte(`{"kind":"Pod","metadata":{},"items":[]}`), `the response is of kind "Pod", which is no list`},
		"json names in capital": {[]byte(`{"Items":[{"metadata":{"name":"a"}}]}`), "the response has no items"},
		"empty envelope":        {magic, "the response has no body"},
		"no kind":               {slices.Concat(magic, field(2, protowire.BytesType, 0)), `the response is of kind "", which is no list`},
		"a Status":              {unknown("v1", "Status", []byte{}), `the response is of kind "Status", which is no list`},
		"kind is a number":      {slices.Concat(magic, field(1, protowire.BytesType, 2, 0x10, 1)), "field 2 has wire type 0"},
		"huge kind":             {slices.Concat(magic, field(1, protowire.BytesType), length(1<<30)), "a message of 1073741824 bytes is longer than what holds it"},
		"bad field number":      {append(slices.Clone(magic), 0), "field number 0 is not valid"},
		"group in envelope":     {slices.Concat(magic, field(9, protowire.StartGroupType)), "wire type 3 is not valid here"},
		"overlong length":       {slices.Concat(listMagic, field(2, protowire.BytesType), length(1<<63)), "a length of 9223372036854775808 bytes is not valid"},
		"item past the list":    {slices.Concat(listMagic, field(2, protowire.BytesType, 3), field(2, protowire.BytesType, 9), make([]byte, 20)), "a message of 9 bytes is longer than what holds it"},
		"skipped past the list": {slices.Concat(listMagic, field(2, protowire.BytesType, 3), field(9, protowire.BytesType, 9), make([]byte, 20)), "a field is longer than the list"},
		"huge item":             {slices.Concat(listMagic, field(2, protowire.BytesType), length(1<<40), field(2, protowire.BytesType), length(maxObjectBytes+1)), "a message of 67108865 bytes is longer than what holds it"},
		"item is no message":    {envelope(field(2, protowire.VarintType, 1)), "field 2 has wire type 0"},
		"broken item":           {envelope(field(2, protowire.BytesType, 1, 0xff)), "decode object 1 of the list"},
		"broken meta":           {envelope(field(2, protowire.BytesType, 3, 0x0a, 1, 0xff)), "decode object 1 of the list"},
		"labels are a number":   {envelope(field(2, protowire.BytesType, 4, 0x0a, 2, 0x58, 1)), "field 11 has wire type 0"},
		"continue is a number":  {envelope(field(1, protowire.BytesType, 2, 0x18, 1)), "field 3 has wire type 0"},
		"version is a number":   {envelope(field(1, protowire.BytesType, 2, 0x10, 1)), "field 2 has wire type 0"},
		"remaining is a text":   {envelope(field(1, protowire.BytesType, 2, 0x22, 0)), "field 4 has wire type 2"},
		"name is a number":      {envelope(field(2, protowire.BytesType, 4, 0x0a, 2, 0x08, 1)), "field 1 has wire type 0"},
		"broken list metadata":  {envelope(field(1, protowire.BytesType, 1, 0xff)), "decode the list's metadata"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			d := NewListDecoder()
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

// TestDecoderIsUsedAgain has a decoder fail and then read a good list.
func TestDecoderIsUsedAgain(t *testing.T) {
	d := NewListDecoder()
	list := newList(metav1.ListMeta{ResourceVersion: "1"}, pods(3)...)
	body := encode(t, "protobuf", list)
	for _, bad := range [][]byte{body[:len(body)/2], []byte("<html>"), body[:5]} {
		if _, _, err := decodeAll(d, bytes.NewReader(bad)); err == nil {
			t.Fatalf("no error of %q", bad)
		}
		expectList(t, d, bytes.NewReader(body), list)
	}
	if d.counter.Reader != nil {
		t.Error("the decoder holds on to the last body")
	}
}
