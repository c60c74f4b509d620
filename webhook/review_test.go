// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kjson "sigs.k8s.io/json"
)

// fields are those of a review that are read, by their path.
type fields map[string]string

// ours are the fields as they were parsed.
func ours(v *review) fields {
	q := &v.request
	all := fields{
		"apiVersion": v.apiVersion, "kind": v.kind, "uid": q.uid, "group": q.group, "resource": q.resource, "subResource": string(q.subResource),
		"name": string(q.name), "namespace": string(q.namespace), "operation": q.operation, "dryRun": fmt.Sprint(q.dryRun),
	}
	for object, m := range map[string]metadata{"object": q.object, "oldObject": q.oldObject} {
		all[object+" name"], all[object+" namespace"] = string(m.name), string(m.namespace)
		for field, text := range map[string][]byte{"labels": m.labels, "annotations": m.annotations} {
			for _, pair := range decode(text) {
				all[object+" "+field+" "+string(pair.Key)] = string(pair.Value)
			}
		}
	}
	return all
}

// theirs are the fields as encoding/json reads them without types.
func theirs(text []byte) (all fields, ok bool) {
	var v map[string]any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if !json.Valid(text) || d.Decode(&v) != nil {
		return nil, false
	}
	at := func(path ...string) string {
		s, _, _ := unstructured.NestedString(v, path...)
		return s
	}
	dry, _, _ := unstructured.NestedBool(v, "request", "dryRun")
	all = fields{
		"apiVersion": at("apiVersion"), "kind": at("kind"), "dryRun": fmt.Sprint(dry),
		"group": at("request", "resource", "group"), "resource": at("request", "resource", "resource"),
	}
	for _, field := range []string{"uid", "subResource", "name", "namespace", "operation"} {
		all[field] = at("request", field)
	}
	for _, object := range []string{"object", "oldObject"} {
		for _, field := range []string{"name", "namespace"} {
			all[object+" "+field] = at("request", object, "metadata", field)
		}
		for _, field := range []string{"labels", "annotations"} {
			found, _, _ := unstructured.NestedFieldNoCopy(v, "request", object, "metadata", field)
			pairs, _ := found.(map[string]any)
			for key, value := range pairs {
				all[object+" "+field+" "+key], _ = value.(string)
			}
		}
	}
	return all, true
}

// compare reads the text in both ways.
func compare(t *testing.T, text []byte) {
	t.Helper()
	var strict any
	if odd, err := kjson.UnmarshalStrict(text, &strict); err == nil && len(odd) > 0 {
		return // keys that come twice: nobody sends them, and a map forgets the first
	}
	want, ok := theirs(text)
	ok = ok && want["kind"] == "AdmissionReview" &&
		(want["apiVersion"] == "admission.k8s.io/v1" || want["apiVersion"] == "admission.k8s.io/v1beta1") &&
		want["uid"] != "" && len(want["uid"]) <= maxUIDBytes
	got, err := parse(text)
	if (err == nil) != ok {
		t.Fatalf("%.2000q: read %v, want success: %v", text, err, ok)
	}
	if !ok {
		return
	}
	if diff := cmp.Diff(want, ours(got)); diff != "" {
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
