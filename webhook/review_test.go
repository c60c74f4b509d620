package webhook

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kjson "sigs.k8s.io/json"
)

// plain is a review as a test compares it.
type plain struct {
	APIVersion, Kind, UID, Group, Resource, SubResource, Name, Namespace, Operation string
	DryRun                                                                          bool
	Object, OldObject                                                               plainObject
}

type plainObject struct {
	Name, Namespace     string
	Labels, Annotations map[string]string
}

// plainOf is a review of ours as it is compared.
func plainOf(v *review) plain {
	object := func(m *metadata) plainObject {
		pairs := func(text []byte) map[string]string {
			all := make(map[string]string)
			for _, pair := range decode(text) {
				all[string(pair.Key)] = string(pair.Value)
			}
			return all
		}
		return plainObject{string(m.name), string(m.namespace), pairs(m.labels), pairs(m.annotations)}
	}
	q := &v.request
	return plain{
		v.apiVersion, v.kind, q.uid, q.group, q.resource, string(q.subResource), string(q.name), string(q.namespace), q.operation,
		q.dryRun, object(&q.object), object(&q.oldObject),
	}
}

// decoded is what encoding/json reads of a text without types.
func decoded(text []byte) (p plain, ok bool) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v map[string]any
	if !json.Valid(text) || d.Decode(&v) != nil {
		return plain{}, false
	}
	at := func(path ...string) string {
		s, _, _ := unstructured.NestedString(v, path...)
		return s
	}
	object := func(key string) plainObject {
		pairs := func(field string) map[string]string {
			all := make(map[string]string)
			found, _, _ := unstructured.NestedFieldNoCopy(v, "request", key, "metadata", field)
			m, _ := found.(map[string]any)
			for name, value := range m {
				all[name], _ = value.(string)
			}
			return all
		}
		return plainObject{at("request", key, "metadata", "name"), at("request", key, "metadata", "namespace"), pairs("labels"), pairs("annotations")}
	}
	dry, _, _ := unstructured.NestedBool(v, "request", "dryRun")
	return plain{
		at("apiVersion"), at("kind"), at("request", "uid"), at("request", "resource", "group"), at("request", "resource", "resource"),
		at("request", "subResource"), at("request", "name"), at("request", "namespace"), at("request", "operation"), dry, object("object"), object("oldObject"),
	}, true
}

// compare reads the text in both ways.
func compare(t *testing.T, text []byte) {
	t.Helper()
	var strict any
	if odd, err := kjson.UnmarshalStrict(text, &strict); err == nil && len(odd) > 0 {
		return // keys that come twice: nobody sends them, and a map forgets the first
	}
	want, ok := decoded(text)
	ok = ok && want.Kind == "AdmissionReview" &&
		(want.APIVersion == "admission.k8s.io/v1" || want.APIVersion == "admission.k8s.io/v1beta1") &&
		want.UID != "" && len(want.UID) <= maxUIDBytes
	got, err := parse(text)
	if (err == nil) != ok {
		t.Fatalf("%.2000q: read %v, want success: %v", text, err, ok)
	}
	if !ok {
		return
	}
	if diff := cmp.Diff(want, plainOf(got)); diff != "" {
		t.Errorf("%.2000q (-encoding/json +ours):\n%s", text, diff)
	}
	if answered := got.answer(); !json.Valid(answered) || !utf8.Valid(answered) {
		t.Errorf("%.2000q: answered %q", text, answered)
	}
}

// oddReviews have fields of another type or case than they should have.
func oddReviews() []string {
	var all []string
	for _, v := range []string{`null`, `1`, `-1e99999`, `true`, `"x"`, `[]`, `[{"a":"b"}]`, `{}`, `{"a":"b"}`, `{"a":1,"b":"c"}`, `{"a":null,"b":{"c":[]}}`} {
		for _, field := range []string{"uid", "resource", "subResource", "name", "namespace", "operation", "dryRun", "object", "oldObject", "Object", "x"} {
			all = append(all, `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"`+field+`":`+v+`,"uid2":"u1"}}`,
				short(`"`+strings.Replace(field, "uid", "UID", 1)+`":`+v))
		}
		for _, field := range []string{"name", "namespace", "labels", "annotations", "Labels", "x"} {
			all = append(all, short(`"object":{"spec":{},"metadata":{"`+field+`":`+v+`,"y":"z"}},"operation":"CREATE"`))
		}
		all = append(all, short(`"object":{"metadata":`+v+`}`), short(`"object":{"metadata":{"name":"a"},"Metadata":`+v+`}`), v)
	}
	for _, s := range []string{
		`\"\\\/\b\f\n\r\t`, `\u0041\u00e9`, `\ud83d\ude00`, `\ud83d`, `\u12`, `\x`, `\`, "\xff", "\xed\xa0\x80", "\x1f", `\u0000`, "\u2028", `'<>&`,
	} {
		all = append(all, short(`"object":{"metadata":{"labels":{"`+s+`":"`+s+`"}}}`), strings.Replace(short(`"x":1`), "u1", s, 1))
	}
	return all
}

func FuzzReview(f *testing.F) {
	for _, text := range oddReviews() {
		f.Add([]byte(text))
	}
	whole := podReview("UPDATE")
	for n := 0; n <= len(whole); n += 97 {
		f.Add(whole[:n])
	}
	f.Add(whole)
	var spaced bytes.Buffer
	if err := json.Indent(&spaced, whole, "\r\n", " \t"); err != nil {
		f.Fatal(err)
	}
	f.Add(spaced.Bytes())
	f.Add([]byte(short("\"dryRun\":true\r")))
	f.Add([]byte(short("\"dryRun\":true\t")))
	f.Add([]byte(strings.Replace(short(pods), "kind", `\u006bind`, 1)))
	f.Fuzz(func(t *testing.T, text []byte) { compare(t, text) })
}

// TestHostile has no memory taken for more labels than the budget has room for.
func TestHostile(t *testing.T) {
	b := newBench()
	if r := b.serve(post(bytes.NewReader(hostile()))); r.StatusCode != 503 || b.target.take() != nil {
		t.Errorf("a review of labels only: %d", r.StatusCode)
	}
	few := hostile()[:200_000]
	few = append(few[:bytes.LastIndexByte(few, ',')], `}}}}}`...)
	if r := b.serve(post(bytes.NewReader(few))); r.StatusCode != 200 || len(b.target.take()) != 1 {
		t.Errorf("with 18,000 labels: %d", r.StatusCode)
	}
	b.expectCounts(t, "pods CREATE sent")
}

// hostile is a review of 7 MiB with as many labels as it can hold.
func hostile() []byte {
	text := []byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u1",` + pods + `,"operation":"CREATE","object":{"metadata":{"name":"a","labels":{"":""`)
	key := []byte("aaaaa")
	for i := 0; len(text) < maxBodyBytes-20; i++ {
		for at, n := 0, i; at < len(key); at, n = at+1, n/26 {
			key[at] = 'a' + byte(n%26)
		}
		text = append(append(append(text, `,"`...), key...), `":""`...)
	}
	return append(text, `}}}}}`...)
}

// BenchmarkHostile is what it would take to decode all labels of 7 MiB.
func BenchmarkHostile(b *testing.B) {
	text := hostile()
	b.ReportAllocs()
	for b.Loop() {
		v, err := parse(text)
		if err != nil {
			b.Fatal(err)
		}
		n := len(v.request.change().Object.Labels)
		b.ReportMetric(float64(n), "labels")
	}
}
