package decode

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"
)

// listTexts are lists of every form, and of some that no server sends.
func listTexts() []string {
	meta := func(members string) string {
		return `{"items":[{"metadata":{` + members + `}}],"metadata":{"resourceVersion":"5"}}`
	}
	texts := []string{
		`{"items":[]}`, `{"items":null}`, `{"items":[null]}`, `{"items":[{}]}`, `{"items":[{"metadata":null}]}`, `{"items":[]} x`, `{}`, `null`, ` `, `{"items":[`,
		`{"items":[,]}`, `{"items":[{},]}`, `{"items":[{} {}]}`, `{"items":[]`, `{"items":[],}`, `{"items":[]]`, `{"items" []}`, `{"items":[{}}`,
		`{"items":[{"metadata":{"name":"a","labels":{"k":"v"}}}],"metadata":{"resourceVersion":"5"},"kind":"List"}`,
		`{"kind":"WidgetList","extra":{"items":[1,[2]]},"metadata":{"resourceVersion":"5","new":[{}]},` +
			`"items":[{"spec":{"metadata":{"name":"no"}},"status":null,"metadata":{"new":{"name":"no"},"name":"a","labels":{"k":"v"},"annotations":null}}]}`,
		" \n{ \"metadata\" : { \"resourceVersion\" : \"5\" } ,\t\"items\" : [ { \"metadata\" : { \"name\" : \"a\" , \"labels\" : { \"k\" : \"v\" } } } ] }\n",
		`{"items":[{"metadata":{"name":"a"},"metadata":{"namespace":"b"}}]}`, `{"items":[{"metadata":{"name":"a"},"metadata":null}]}`,
		`{"\u0069tems":[{"metad\u0061ta":{"n\u0061me":"a"}}]}`,
		`{"items":[],"metadata":{"resourceVersion":"5"},"metadata":{"continue":"c","resourceVersion":null}}`,
		`{"items":[],"metadata":{"remainingItemCount":7}}`, `{"items":[],"metadata":{"remainingItemCount":7,"remainingItemCount":null}}`,
		`{"items":[],"metadata":{"remainingItemCount":7.0}}`, `{"items":[],"metadata":{"remainingItemCount":9223372036854775808}}`,
		meta(`"name":"a","name":"b"`), meta(`"name":"a","name":null`), meta(`"name":7`), meta(`"uid":{}`),
		meta(`"labels":{"a":"1","a":null}`), meta(`"labels":{"a":1}`), meta(`"labels":[]`), meta(`"labels":{"a":"1"},"labels":{"b":"2"}`),
		meta(`"labels":{"a":"1"},"labels":null`), meta(`"labels":{"":""}`), meta(`"deletionTimestamp":null`), meta(`"deletionTimestamp":7`),
		meta(`"deletionTimestamp":"2026-01-02T03:04:05Z"`), meta(`"deletionTimestamp":"2026-01-02T03:04:05Z","deletionTimestamp":null`),
		meta(`"x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000)), meta(`"x":` + strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001)),
	}
	for _, text := range []string{`\"\\\/\b\f\n\r\t`, `\u0041\u00e9\u20ac`, `\ud83d\ude00`, `\ud83d`, `\ud83dx`, `\x`, `é€😀`, "\xff", "\xed\xa0\x80", "\n", `\u0000`} {
		texts = append(texts, meta(`"annotations":{"`+text+`":"`+text+`"}`), meta(`"x":"`+text+`"`))
	}
	return texts
}

// FuzzListJSON reads any text as a list.
func FuzzListJSON(f *testing.F) {
	for _, text := range listTexts() {
		f.Add([]byte(text))
	}
	f.Add(encode(f, "json", newList(metav1.ListMeta{ResourceVersion: "5", Continue: "token"}, typicalPod(1), named("a", "b"))))
	d := NewListDecoder()
	f.Fuzz(func(t *testing.T, text []byte) {
		if !bytes.HasPrefix(text, []byte(protobufMagic)) {
			compareJSON(t, d, text)
		}
	})
}

// compareJSON reads a text in both ways. What apimachinery reads, the decoder
// does, except what no server sends: a list of another kind, without items, or with
// items twice. What it refuses is refused, unless it is in a field that is not
// read.
func compareJSON(t *testing.T, d *ListDecoder, text []byte) {
	t.Helper()
	p, objects, err := decodeAll(d, bytes.NewReader(text))
	var list, anyCase metav1.PartialObjectMetadataList
	wantErr := kjson.NewDecoderCaseSensitivePreserveInts(bytes.NewReader(text)).Decode(&list)
	if stdErr := json.NewDecoder(bytes.NewReader(text)).Decode(&anyCase); (stdErr == nil) != (wantErr == nil) || !cmp.Equal(list, anyCase) {
		return // a name in another case, which encoding/json takes for the same
	}
	switch {
	case wantErr == nil && err != nil:
		if !strings.Contains(err.Error(), "the response ") && len(text) >= len(protobufMagic) {
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
	expect(t, p, objects, &list)
	if t.Failed() {
		t.Logf("%.500q", text)
	}
}
