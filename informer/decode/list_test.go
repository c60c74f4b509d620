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
)

func TestListEqualsApimachinery(t *testing.T) {
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

// TestListSizes has objects of all sizes at which the way of reading changes, each
// between small ones.
func TestListSizes(t *testing.T) {
	sizes := []int{0, 1, 127, 128, readBuffer - 300, readBuffer + 200, 2 * readBuffer, 1 << 20, 1<<20 + readBuffer}
	for near := readBuffer - 70; near <= readBuffer+3; near++ {
		sizes = append(sizes, near)
	}
	for _, name := range []string{"protobuf", "json"} {
		d := NewListDecoder()
		for _, size := range sizes {
			list := newList(metav1.ListMeta{ResourceVersion: "1"}, named("a", "before"),
				fat(1, size)[0], named("a", "between"), fat(1, size)[0], named("z", "after"))
			expectList(t, d, bytes.NewReader(encode(t, name, list)), list)
		}
	}
}

// TestListKeepsNoLargeObject reads an object that is larger than others, and a list
// that is cut off within one.
func TestListKeepsNoLargeObject(t *testing.T) {
	body := encode(t, "protobuf", newList(metav1.ListMeta{}, fat(1, 2<<20)...))
	for _, end := range []int{len(body), len(body) / 2} {
		d := NewListDecoder()
		_, _, _ = decodeAll(d, bytes.NewReader(body[:end]))
		if cap(d.scratch) > 0 || cap(d.object.Annotations) > 0 || d.counter.Reader != nil {
			t.Errorf("after %d of %d bytes: %d bytes are kept, %d annotations, body %v", end, len(body), cap(d.scratch), cap(d.object.Annotations), d.counter.Reader)
		}
	}
}

func TestListReaders(t *testing.T) {
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

// TestListOrderOfKeys has sorted keys in both forms: equal objects give equal
// records.
func TestListOrderOfKeys(t *testing.T) {
	item := named("a", "b")
	item.Labels = map[string]string{"c": "3", "a": "1", "d": "4", "b": "2"}
	for name := range serializers {
		var keys []string
		body := encode(t, name, newList(metav1.ListMeta{}, item))
		if _, err := NewListDecoder().Decode(bytes.NewReader(body), func(o *Object) error {
			for _, pair := range o.Labels {
				keys = append(keys, string(pair.Key))
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

func TestListBytes(t *testing.T) {
	list := newList(metav1.ListMeta{ResourceVersion: "1"}, fat(3, 100_000)...)
	for name := range serializers {
		body := encode(t, name, list)
		p, _, err := decodeAll(NewListDecoder(), bytes.NewReader(body))
		if err != nil || p.Bytes != int64(len(body)) {
			t.Errorf("%s: %d bytes, error %v; want %d and none", name, p.Bytes, err, len(body))
		}
	}
}

// TestListUnknownFields has fields that no version knows, of all wire types,
// and known ones in any order.
func TestListUnknownFields(t *testing.T) {
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

func TestListWithoutItems(t *testing.T) {
	list := newList(metav1.ListMeta{ResourceVersion: "9"})
	for name := range serializers {
		expectList(t, NewListDecoder(), bytes.NewReader(encode(t, name, list)), list)
	}
	expectList(t, NewListDecoder(), strings.NewReader(`{"metadata":{"resourceVersion":"9"},"items":null}`), list)
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

// TestListTruncated cuts lists everywhere. What is handed over before the
// cut is right, and the cut is an error.
func TestListTruncated(t *testing.T) {
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

func TestListErrorAfterTheList(t *testing.T) {
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

func TestListErrorBeforeTheEnd(t *testing.T) {
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

func TestListReturnsTheErrorOfEach(t *testing.T) {
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
		"gzip":                  {[]byte("\x1f\x8b\x08\x00\x00"), "the response is compressed with gzip"},
		"json array":            {[]byte(`[{"metadata":{}}]`), "the response has [ where { is expected"},
		"json text":             {[]byte(`"list"`), "the response has list where { is expected"},
		"json Status":           {[]byte(`{"kind":"Status","metadata":{},"message":"hello"}`), `the response is of kind "Status", which is no list`},
		"json without items":    {[]byte(`{"metadata":{}}`), "the response has no items"},
		"json items no array":   {[]byte(`{"items":{"metadata":{}}}`), "decode the list's items: { where an array is expected"},
		"json item no object":   {[]byte(`{"items":[{"metadata":{"name":"a"}},"b"]}`), "decode object 2 of the list: json: cannot unmarshal string"},
		"json metadata no meta": {[]byte(`{"metadata":7}`), "decode the list's metadata: json: cannot unmarshal number"},
		"json items twice":      {[]byte(`{"items":[],"items":[]}`), "decode the list: the response has items twice"},
		"json labels no map":    {[]byte(`{"items":[{"metadata":{"labels":["a"]}}]}`), "decode object 1 of the list: json: cannot unmarshal array"},
		"json of another kind":  {[]byte(`{"kind":"Pod","metadata":{},"items":[]}`), `the response is of kind "Pod", which is no list`},
		"empty envelope":        {magic, "the response has no body"},
		"no kind":               {slices.Concat(magic, field(2, protowire.BytesType, 0)), `the response is of kind "", which is no list`},
		"a Status":              {unknown("v1", "Status", []byte{}), `the response is of kind "Status", which is no list`},
		"kind is a number":      {slices.Concat(magic, field(1, protowire.BytesType, 2, 0x10, 1)), "wrong wireType = 0 for field Kind"},
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
		"continue is a number":  {envelope(field(1, protowire.BytesType, 2, 0x18, 1)), "decode the list's metadata: proto: wrong wireType"},
		"broken list metadata":  {envelope(field(1, protowire.BytesType, 1, 0xff)), "decode the list's metadata"},
	} {
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

// TestListDecoderIsUsedAgain has a decoder fail and then read a good list.
func TestListDecoderIsUsedAgain(t *testing.T) {
	d := NewListDecoder()
	list := newList(metav1.ListMeta{ResourceVersion: "1"}, pods(3)...)
	body := encode(t, "protobuf", list)
	for _, bad := range [][]byte{body[:len(body)/2], []byte("<html>"), body[:5]} {
		if _, _, err := decodeAll(d, bytes.NewReader(bad)); err == nil {
			t.Fatalf("no error of %q", bad)
		}
		expectList(t, d, bytes.NewReader(body), list)
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
		expect(t, p, objects, list)
	})
}
