package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"labelstream/record"
)

// plain is a review in types that a test can compare and encoding/json gives.
type plain struct {
	APIVersion, Kind, UID, Group, Resource, Subresource, Operation string
	DryRun                                                         bool
	Object, OldObject                                              plainObject
	Replaced                                                       string
}

type plainObject struct {
	Namespace, Name     string
	Labels, Annotations map[string]string
}

func plainReview(v *review) plain {
	return plain{
		APIVersion: string(v.apiVersion), Kind: string(v.kind), UID: string(v.uid),
		Group: string(v.group), Resource: string(v.resource), Subresource: string(v.subresource),
		Operation: string(v.operation), DryRun: v.dryRun,
		Object: plainOf(&v.object), OldObject: plainOf(&v.oldObject),
		Replaced: string(v.replaced),
	}
}

func plainOf(o *record.Object) plainObject {
	tags := func(tags []record.Tag) map[string]string {
		m := make(map[string]string)
		for _, tag := range tags {
			m[string(tag.Key)] = string(tag.Value)
		}
		return m
	}
	return plainObject{string(o.Namespace), string(o.Name), tags(o.Labels), tags(o.Annotations)}
}

// decoded is what encoding/json makes of a text; ok is false where it is no
// JSON.
func decoded(text []byte) (p plain, ok bool) {
	if !json.Valid(text) {
		return plain{}, false
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		panic(err)
	}
	top, _ := v.(map[string]any)
	request, _ := top["request"].(map[string]any)
	resource, _ := request["resource"].(map[string]any)
	replaced, _ := request["oldObject"].(map[string]any)
	replacedMeta, _ := replaced["metadata"].(map[string]any)
	return plain{
		APIVersion: text1(top, "apiVersion"), Kind: text1(top, "kind"), UID: text1(request, "uid"),
		Group: text1(resource, "group"), Resource: text1(resource, "resource"),
		Subresource: text1(request, "subResource"), Operation: text1(request, "operation"),
		DryRun: request["dryRun"] == true,
		Object: decodedObject(request, "object"), OldObject: decodedObject(request, "oldObject"),
		Replaced: text1(replacedMeta, "resourceVersion"),
	}, true
}

func text1(m map[string]any, key string) string {
	text, _ := m[key].(string)
	return text
}

func decodedObject(request map[string]any, key string) plainObject {
	object, _ := request[key].(map[string]any)
	meta, _ := object["metadata"].(map[string]any)
	tags := func(key string) map[string]string {
		m := make(map[string]string)
		tags, _ := meta[key].(map[string]any)
		for key := range tags {
			m[key] = text1(tags, key)
		}
		return m
	}
	return plainObject{text1(meta, "namespace"), text1(meta, "name"), tags("labels"), tags("annotations")}
}

// compare reads the text in both ways.
func compare(t *testing.T, s *scanner, v *review, text []byte) {
	t.Helper()
	before := bytes.Clone(text)
	v.reset()
	s.begin(text)
	s.review(v)
	want, ok := decoded(text)
	if s.end() != ok {
		t.Fatalf("%q: read %v, want %v", shorten(text), s.end(), ok)
	}
	if !bytes.Equal(text, before) {
		t.Errorf("%q: the text was changed", shorten(before))
	}
	if !ok {
		return
	}
	if diff := cmp.Diff(want, plainReview(v)); diff != "" {
		t.Errorf("%q (-encoding/json +ours):\n%s", shorten(text), diff)
	}
}

func shorten(text []byte) string { return string(text[:min(len(text), 2000)]) }

// texts are of every form that JSON has, and of some that it has not.
func texts() []string {
	labels := func(s string) string { return `{"request":{"object":{"metadata":{"labels":` + s + `}}}}` }
	texts := []string{
		``, ` `, `{}`, `[]`, `null`, `"request"`, `1`, `{`, `}`, `{}{}`, `{} x`, `{},`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{"a" 1}`, `{a:1}`,
		`{"a":1 "b":2}`, "\ufeff{}", "{\"a\":\x00}", "{\"a\x01\":1}", "\t\r\n {} \n", "{}\x00", "{\v}",
		`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","resource":{"group":"apps","version":"v1","resource":"deployments"},"subResource":"scale","operation":"UPDATE","dryRun":true,"object":{"metadata":{"name":"a","namespace":"b","labels":{"c":"d"},"annotations":{"e":"f"}},"spec":[{}]},"oldObject":null}}`,
		`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","object":{"metadata":{"resourceVersion":"8"}},"oldObject":{"metadata":{"resourceVersion":"7","labels":{"c":"d"}}}}}`,
		`{"request":null}`, `{"request":[]}`, `{"request":[{"uid":"a"}]}`, `{"request":"x"}`, `{"request":{}}`, `{"request":{"uid":1}}`, `{"request":{"uid":null}}`,
		`{"request":{"uid":"a"},"request":{"operation":"UPDATE"}}`, `{"request":{"uid":"a","uid":"b"}}`, `{"request":{"uid":"a","uid":{}}}`,
		`{"request":{"uid":"a"},"request":1}`, `{"Request":{"uid":"a"}}`, `{"request":{"UID":"a"}}`, `{"\u0072equest":{"u\u0069d":"a"}}`,
		`{"request":{"resource":{"group":"a"},"resource":{"resource":"b"}}}`, `{"request":{"resource":"pods"}}`,
		`{"request":{"dryRun":true,"dryRun":false}}`, `{"request":{"dryRun":"true"}}`, `{"request":{"dryRun":1}}`, `{"request":{"dryRun":tru}}`, `{"request":{"dryRun":t}}`,
		`{"request":{"object":[{"metadata":{"name":"a"}}]}}`, `{"request":{"object":{"metadata":[]}}}`, `{"request":{"object":{"metadata":{"name":["a"]}}}}`,
		`{"request":{"object":{"metadata":{"name":"a"},"metadata":{"namespace":"b"}}}}`, `{"request":{"object":{"metadata":{"name":"a"}},"object":null}}`,
		`{"request":{"object":{"metadata":{"labels":{"a":"b"},"labels":{"c":"d"}}}}}`,
		labels(`{"a":"1","a":"2"}`), labels(`{"a":"1","a":2}`), labels(`{"a":"1","\u0061":"2"}`), labels(`{"":""}`), labels(`{"a":null}`), labels(`[]`), labels(`{"a":{"b":"c"}}`), labels(`{"a":"b"`),
	}
	for _, s := range []string{
		`\"\\\/\b\f\n\r\t`, `\u0041\u00e9\u20ac`, `\ud83d\ude00`, `\uD83D\uDE00`, `\ud83d`, `\ude00`, `\ud83dx`, `\ud83d\n`, `\ud83d\ud83d\ude00`, `\ud83d\u0041`,
		`\ud83d\ude0`, `\u12`, `\u12g4`, `\x`, `\`, `\u`, `é€😀`, "\xff", "a\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x7f", "\x1f", "\n", "\x00", `\u0000`, `\ufffd`, "\ufffd",
		"1234567\x01", "12345678\xff", `12345678\n`, `1234567`, `12345678`, `1234567890abcdef`, `!#[]~`, `'<>&`, "\u2028",
	} {
		texts = append(texts, labels(`{"`+s+`":"`+s+`"}`), `{"`+s+`":"`+s+`"}`, `{"a":["`+s+`"]}`)
	}
	for _, s := range []string{
		`0`, `-0`, `-`, `01`, `1.`, `.1`, `1.5`, `1e5`, `1E+5`, `1e-5`, `1e`, `1e+`, `+1`, `0x1`, `1e999`, `-1.0e0`, strings.Repeat("9", 999), `NaN`, `Infinity`, `1 2`,
		`true`, `false`, `null`, `tru`, `truex`, `True`, `nul`, `[]`, `[ ]`, `[,]`, `[1,]`, `[1 2]`, `[1,2]`, `[[],{}]`, `[}`, `{]`, `[{"a":[]}]`, `[{"a":[}]`, `{"a":{"b":{}},"c":[]}`, `{ }`, `{"a":1,2}`,
	} {
		texts = append(texts, `{"a":`+s+`}`, `{"a":`+s, `[`+s+`]`)
	}
	for _, depth := range []int{100, maxDepth - 2, maxDepth - 1, maxDepth, maxDepth + 1} {
		texts = append(texts, nested(depth, 0), nested(depth, 1), nested(depth-1, 2))
	}
	return texts
}

// nested are arrays or objects in each other, below others.
func nested(depth, form int) string {
	switch form {
	case 0:
		return strings.Repeat("[", depth) + strings.Repeat("]", depth)
	case 1:
		return strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth)
	}
	return `{"request":` + strings.Repeat(`[`, depth) + strings.Repeat("]", depth) + "}"
}

func TestScan(t *testing.T) {
	var s scanner
	var v review
	for i, text := range texts() {
		t.Run(fmt.Sprint(i), func(t *testing.T) { compare(t, &s, &v, []byte(text)) })
	}
}

// TestScanPrefixes reads a review of every length: none is taken for whole, and
// none makes the scanner read beyond it.
func TestScanPrefixes(t *testing.T) {
	var s scanner
	var v review
	text := podReview("UPDATE")
	for n := range len(text) + 1 {
		compare(t, &s, &v, bytes.Clone(text[:n]))
	}
}

func FuzzScan(f *testing.F) {
	for _, text := range texts() {
		if len(text) < 4096 {
			f.Add([]byte(text))
		}
	}
	f.Add(podReview("UPDATE"))
	var s scanner
	var v review
	f.Fuzz(func(t *testing.T, text []byte) { compare(t, &s, &v, text) })
}

// BenchmarkScan reads the review of a pod of 4 KB that is created.
func BenchmarkScan(b *testing.B) {
	var s scanner
	var v review
	text := podReview("CREATE")
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if err := v.parse(&s, text); err != nil {
			b.Fatal(err)
		}
	}
}
