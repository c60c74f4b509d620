package decode

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	kjson "sigs.k8s.io/json"
)

// TestDecodeJSONMixed has members in any order, twice, null, in pieces and in
// any spelling, and such that no version knows.
func TestDecodeJSONMixed(t *testing.T) {
	d := NewListDecoder()
	for seed := range uint64(100) {
		r := newRandom(seed)
		body := r.mixJSON(t, encode(t, "json", r.list()))
		want := new(metav1.PartialObjectMetadataList)
		if err := kjson.UnmarshalCaseSensitivePreserveInts(body, want); err != nil {
			t.Fatalf("apimachinery, seed %d: %v", seed, err)
		}
		expectList(t, d, bytes.NewReader(body), want)
		if t.Failed() {
			t.Fatalf("seed %d: %.2000s", seed, body)
		}
	}
}

// TestEventsJSONMixed has events of such members.
func TestEventsJSONMixed(t *testing.T) {
	for seed := range uint64(100) {
		r := newRandom(seed)
		o := r.object()
		// No server begins one with a space.
		body := bytes.TrimSpace(r.mixJSON(t, encodeEvent(t, "json", watch.Modified, partial(o))))
		var sent metav1.WatchEvent
		if err := kjson.UnmarshalCaseSensitivePreserveInts(body, &sent); err != nil {
			t.Fatalf("apimachinery, seed %d: %v", seed, err)
		}
		want := event{Type: watch.EventType(sent.Type), Object: referenceObject(t, sent.Object.Raw)}
		events, err := readEvents(bytes.NewReader(body))
		if !errors.Is(err, io.EOF) {
			t.Fatalf("seed %d: %v, want EOF", seed, err)
		}
		if diff := cmp.Diff([]event{want}, events); diff != "" {
			t.Fatalf("seed %d: events (-want +got):\n%.3000s", seed, diff)
		}
	}
}

// referenceObject is what apimachinery makes of an object in JSON.
func referenceObject(t *testing.T, raw []byte) decoded {
	t.Helper()
	var o metav1.PartialObjectMetadata
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &o); err != nil {
		t.Fatalf("apimachinery: %v", err)
	}
	_, objects := reference(newList(metav1.ListMeta{}, o))
	return objects[0]
}

// mixJSON writes a text of the API in another way. Members of the same name
// are merged by apimachinery, but those of arrays, which have none twice here.
func (r random) mixJSON(t *testing.T, text []byte) []byte {
	t.Helper()
	in := json.NewDecoder(bytes.NewReader(text))
	in.UseNumber()
	var v any
	if err := in.Decode(&v); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	r.writeJSON(&b, "", v)
	return b.Bytes()
}

func (r random) writeJSON(b *bytes.Buffer, name string, v any) {
	r.space(b)
	switch v := v.(type) {
	case map[string]any:
		r.writeMembers(b, name, v)
	case []any:
		b.WriteByte('[')
		for i, item := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			r.writeJSON(b, "", item)
		}
		b.WriteByte(']')
	case string:
		r.quote(b, v)
	default:
		fmt.Fprint(b, mustJSON(v))
	}
	r.space(b)
}

func mustJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// member is one of an object, with its value as it is written.
type member struct {
	name  string
	value any
}

func (r random) writeMembers(b *bytes.Buffer, name string, object map[string]any) {
	var members []member
	for _, key := range slices.Sorted(maps.Keys(object)) {
		members = append(members, member{key, object[key]})
	}
	r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	var all []member
	for _, m := range members {
		all = append(append(all, r.before(name, m)...), m)
	}
	b.WriteByte('{')
	for i, m := range all {
		if i > 0 {
			b.WriteByte(',')
		}
		r.space(b)
		r.quote(b, m.name)
		r.space(b)
		b.WriteByte(':')
		r.writeJSON(b, m.name, m.value)
	}
	b.WriteByte('}')
}

// before gives members that may stand before one without another meaning.
func (r random) before(object string, m member) []member {
	text, isText := m.value.(string)
	isMap := object == "labels" || object == "annotations"
	switch n := r.IntN(8); {
	case n == 0 && isText && !strings.HasSuffix(m.name, "Timestamp"):
		return []member{{m.name, r.text(10) + text}}
	case n == 1 && isText && isMap, n == 1 && m.name == "deletionTimestamp":
		return []member{{m.name, nil}}
	case isMap || object == "fieldsV1":
		return nil
	case n == 2 && m.name == "metadata":
		return []member{{m.name, map[string]any{"labels": map[string]any{r.text(9): r.text(9)}}}, {m.name, nil}}
	case n == 3:
		return []member{{"new-" + r.text(9), r.anyJSON(3)}}
	case n == 4:
		return []member{{strings.ToUpper(m.name), r.anyJSON(2)}}
	}
	return nil
}

// anyJSON is a value of any kind, nested so many times at most.
func (r random) anyJSON(deep int) any {
	switch n := r.IntN(7); {
	case n == 0:
		return nil
	case n == 1:
		return r.IntN(2) == 0
	case n == 2:
		return r.NormFloat64() * 1e20
	case n == 3 && deep > 0:
		return []any{r.anyJSON(deep - 1), r.anyJSON(deep - 1)}
	case n == 4 && deep > 0:
		return map[string]any{"metadata": r.anyJSON(deep - 1), "name": r.anyJSON(deep - 1)}
	}
	return r.text(5000)
}

func (r random) space(b *bytes.Buffer) {
	if r.IntN(8) == 0 {
		b.WriteString([]string{" ", "\n", "\t", "\r\n  "}[r.IntN(4)])
	}
}

// quote writes a string, some of its characters as escapes.
func (r random) quote(b *bytes.Buffer, text string) {
	b.WriteByte('"')
	for _, c := range text {
		switch {
		case r.IntN(8) == 0:
			for _, unit := range utf16.Encode([]rune{c}) {
				fmt.Fprintf(b, `\u%04x`, unit)
			}
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c < ' ':
			fmt.Fprintf(b, `\u%04X`, c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
}

// jsonTexts are strings in forms that need care, some of which are no JSON.
var jsonTexts = []string{
	`\"\\\/\b\f\n\r\t`, `\u0041\u00e9\u20ac`, `\ud83d\ude00`, `\uD83D\uDE00`, `\ud83d`, `\ude00`, `\ud83dx`, `\ud83d\n`,
	`\ud83d\ud83d\ude00`, `\ud83d\u0041`, `\ud83d\ude0`, `\u12`, `\u12g4`, `\x`, `\`, `é€😀`, "\xff", "a\xc3", "\xed\xa0\x80",
	"\xf4\x90\x80\x80", "\xf0\x9f\x98", "\x7f", "\x1f", "\n", "\x00", `\u0000`, `\ufffd`, "\ufffd", `\u2028`, "\u2028", "",
}

// listTexts are lists of every form, and of some that no server sends.
func listTexts() []string {
	meta := func(members string) string {
		return `{"items":[{"metadata":{` + members + `}}],"metadata":{"resourceVersion":"5"}}`
	}
	texts := []string{
		`{"items":[]}`, `{"items":null}`, `{"items":[null]}`, `{"items":[{}]}`, `{"items":[{"metadata":null}]}`, `{"items":[]} x`, `{}`, `null`, ``, ` `, `{"items":[`,
		`{"items":[{"metadata":{"name":"a"},"metadata":{"namespace":"b"}}]}`, `{"items":[{"metadata":{"name":"a"},"metadata":null}]}`,
		`{"items":[{"Metadata":{"name":"a"}}]}`, `{"\u0069tems":[{"metad\u0061ta":{"n\u0061me":"a"}}]}`,
		`{"items":[],"metadata":{"resourceVersion":"5"},"metadata":{"continue":"c","resourceVersion":null}}`,
		`{"items":[],"metadata":{"remainingItemCount":7}}`, `{"items":[],"metadata":{"remainingItemCount":null}}`,
		`{"items":[],"metadata":{"remainingItemCount":7,"remainingItemCount":null}}`, `{"items":[],"metadata":{"remainingItemCount":-7}}`,
		`{"items":[],"metadata":{"remainingItemCount":7.0}}`, `{"items":[],"metadata":{"remainingItemCount":"7"}}`,
		`{"items":[],"metadata":{"remainingItemCount":9223372036854775808}}`, `{"items":[],"metadata":{"remainingItemCount":-0}}`,
		meta(`"name":"a","name":"b"`), meta(`"name":"a","name":null`), meta(`"name":7`), meta(`"name":["a"]`), meta(`"NAME":"a"`), meta(`"uid":{}`),
		meta(`"labels":{"a":"1","a":"2"}`), meta(`"labels":{"a":"1","a":null}`), meta(`"labels":{"a":null}`), meta(`"labels":{"a":1}`), meta(`"labels":[]`),
		meta(`"labels":{"a":"1"},"labels":{"b":"2"}`), meta(`"labels":{"a":"1"},"labels":null`), meta(`"labels":{"a":"1"},"labels":{}`), meta(`"labels":{"":""}`),
		meta(`"deletionTimestamp":null`), meta(`"deletionTimestamp":"2026-01-02T03:04:05Z"`), meta(`"deletionTimestamp":"2026-01-02T03:04:05Z","deletionTimestamp":null`),
		meta(`"deletionTimestamp":7`), meta(`"x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000)), meta(`"x":` + strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001)),
	}
	for _, text := range jsonTexts {
		texts = append(texts, meta(`"name":"`+text+`"`), meta(`"annotations":{"`+text+`":"`+text+`"}`), meta(`"x":"`+text+`"`))
	}
	return texts
}

func TestDecodeJSONAsApimachinery(t *testing.T) {
	d := NewListDecoder()
	for i, text := range listTexts() {
		t.Run(fmt.Sprint(i), func(t *testing.T) { compareJSON(t, d, []byte(text)) })
	}
}

// FuzzListJSON reads any text as a list.
func FuzzListJSON(f *testing.F) {
	for _, text := range listTexts() {
		if len(text) < 1000 {
			f.Add([]byte(text))
		}
	}
	f.Add(encode(f, "json", newList(metav1.ListMeta{ResourceVersion: "5", Continue: "token"}, typicalPod(1), named("a", "b"))))
	d := NewListDecoder()
	f.Fuzz(func(t *testing.T, text []byte) { compareJSON(t, d, text) })
}

// compareJSON reads a text in both ways. What apimachinery reads, the decoder
// does, but a list without items or with items twice, which no server sends;
// what it refuses is refused, unless it is in a field that nobody needs.
func compareJSON(t *testing.T, d *ListDecoder, text []byte) {
	t.Helper()
	if bytes.HasPrefix(text, []byte(protobufMagic)) {
		return
	}
	p, objects, err := decodeAll(d, bytes.NewReader(text))
	var list metav1.PartialObjectMetadataList
	wantErr := kjson.NewDecoderCaseSensitivePreserveInts(bytes.NewReader(text)).Decode(&list)
	switch {
	case wantErr == nil && err != nil:
		if !strings.Contains(err.Error(), "the response has ") && len(text) >= len(protobufMagic) {
			t.Errorf("%.500q: error %v, apimachinery has none", text, err)
		}
		return
	case wantErr != nil && err == nil:
		if isSyntax, _ := kjson.SyntaxErrorOffset(wantErr); isSyntax || errors.Is(wantErr, io.ErrUnexpectedEOF) {
			t.Errorf("%.500q: no error, apimachinery has %v", text, wantErr)
		}
		return
	case err != nil:
		return
	}
	p.Bytes = 0
	wantPage, want := reference(&list)
	if diff := cmp.Diff(wantPage, p); diff != "" {
		t.Errorf("%.500q: page (-want +got):\n%s", text, diff)
	}
	if diff := cmp.Diff(want, objects); diff != "" {
		t.Errorf("%.500q: objects (-want +got):\n%.2000s", text, diff)
	}
}

// TestDecodeJSONHoldsOneObject has many small objects, and a large one: the
// memory for what one says is used for the next.
func TestDecodeJSONHoldsOneObject(t *testing.T) {
	d := NewListDecoder()
	for _, list := range []*metav1.PartialObjectMetadataList{
		newList(metav1.ListMeta{}, pods(1000)...), newList(metav1.ListMeta{}, fat(3, 400_000)...),
	} {
		expectList(t, d, bytes.NewReader(encode(t, "json", list)), list)
		most := 3 * list.Items[0].Size()
		if held := cap(d.text.said); held > most {
			t.Errorf("%d bytes are held for objects of %d each, want at most %d", held, list.Items[0].Size(), most)
		}
	}
}

// TestJSONWithoutEnd has values that do not end, in a list and in a watch: they
// are refused before they fill the memory.
func TestJSONWithoutEnd(t *testing.T) {
	const want = "a value of more than 67108864 bytes"
	read := map[string]func(io.Reader) error{
		`{"items":[{"metadata":{"name":"`: func(in io.Reader) error {
			_, _, err := decodeAll(NewListDecoder(), in)
			return err
		},
		`{"type":"ADDED","object":{"metadata":{"name":"`: func(in io.Reader) error {
			_, err := readEvents(in)
			return err
		},
	}
	for begin, read := range read {
		err := read(io.MultiReader(strings.NewReader(begin), endless{}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s…: error %v, want one with %q", begin, err, want)
		}
	}
}

// endless is text without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}
