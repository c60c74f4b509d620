// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"labelstream/config"
)

// encodeLabels writes labels so that a fuzzer's change of a byte reaches any of
// them: each key and value behind its length in one byte.
func encodeLabels(list []KeyValue) []byte {
	var data []byte
	for _, l := range list {
		for _, text := range [][]byte{l.Key, l.Value} {
			data = append(append(data, byte(len(text))), text...)
		}
	}
	return data
}

// decodeLabels reads what encodeLabels wrote, and makes something of anything else.
func decodeLabels(data []byte) []KeyValue {
	text := func() []byte {
		if len(data) == 0 {
			return nil
		}
		n := min(int(data[0]), len(data)-1)
		t := data[1 : 1+n]
		data = data[1+n:]
		return t
	}
	var list []KeyValue
	for len(data) > 0 {
		list = append(list, KeyValue{Key: text(), Value: text()})
	}
	return list
}

// asMap is the labels as a decoder of a map keeps them, in the order of keys.
func asMap(list []KeyValue) []KeyValue {
	last := make(map[string][]byte)
	for _, l := range list {
		last[string(l.Key)] = l.Value
	}
	var kept []KeyValue
	for _, key := range slices.Sorted(maps.Keys(last)) {
		kept = append(kept, KeyValue{Key: []byte(key), Value: last[key]})
	}
	return kept
}

// plainValue says by itself what is sent of a value.
func plainValue(value string, cfg *config.Config, drops *Drops) string {
	if value == "" {
		drops.Empty++
		return ""
	}
	if cfg.UnsafeValues == config.UnsafeValuesDrop && strings.ContainsAny(value, `<>&'"`) {
		drops.Unsafe++
		return ""
	}
	value = strings.ToValidUTF8(value, "\uFFFD")
	if len(value) <= cfg.ValueMaxBytes {
		return value
	}
	drops.Truncated++
	short := ""
	for _, r := range value {
		if len(short)+utf8.RuneLen(r) > cfg.ValueMaxBytes {
			break
		}
		short += string(r)
	}
	return short
}

// plainName says by itself what a key is named where it meets no other.
func plainName(key string, names config.Names) string {
	if names == config.NamesRaw {
		return "label_" + strings.ToValidUTF8(key, "\uFFFD")
	}
	name := "label_"
	for _, r := range key {
		if r == '_' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' {
			name += string(r)
		} else {
			name += "_"
		}
	}
	return name
}

// suffixed is how a name ends that another key's suffix may have met.
var suffixed = regexp.MustCompile(`_[0-9a-f]{8,64}$`)

// checkLabels fails unless a series has the identity of a pod and the values of list,
// whose keys differ, each under its own name where no other key meets it there. The
// key that is spelled like the name has it in any case.
func checkLabels(t *testing.T, series []label, o *Object, list []KeyValue, cfg *config.Config) Drops {
	t.Helper()
	var drops Drops
	met := map[string]int{}
	want := map[string]string{
		"__name__": "t_pod_labels", "resource_type": "pod", "cluster": "c",
		"pod": strings.ToValidUTF8(string(o.Name), "\uFFFD"), "namespace": strings.ToValidUTF8(string(o.Namespace), "\uFFFD"),
	}
	wantValues := slices.Collect(maps.Values(want))
	for _, l := range list {
		if _, ok := cfg.Labels.Rank(string(l.Key)); !ok {
			continue
		}
		if value := plainValue(string(l.Value), cfg, &drops); value != "" {
			name := plainName(string(l.Key), cfg.Names)
			wantValues = append(wantValues, value)
			if met[name]++; name == "label_"+string(l.Key) {
				want[name], met[name] = value, -len(list)
			} else if met[name] == 1 && !suffixed.MatchString(name) {
				want[name] = value
			} else if met[name] > 1 {
				delete(want, name)
			}
		}
	}
	got := make(map[string]string)
	var gotValues []string
	for _, l := range series {
		got[l.name] = l.value
		gotValues = append(gotValues, l.value)
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("label %q is %q, want %q", name, got[name], value)
		}
	}
	slices.Sort(gotValues)
	slices.Sort(wantValues)
	if diff := cmp.Diff(wantValues, gotValues); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	return drops
}

func FuzzBuilder(f *testing.F) {
	seeds := [][]KeyValue{
		nil,
		labels("app", "web", "team", "platform"),
		labels("z", "1", "a", "2", "z", "3", "a", ""),
		labels("a.b", "1", "a/b", "2", "a_b", "3", "a_b_2e7336dc", "4"),
		labels("a.b", "1", "a/b", "2", "a.b_2e7336dc", "3"),
		labels("a.a_a-a-a.a.a-a.a.a_a.a.a.a.a.a", "1", "a-a_a-a.a-a-a.a_a.a.a-a.a.a.a.a", "2"),
		labels("a_a_a-a.a.a.a-a_a-a.a.a.a.a.a.a", "1", "a_a-a_a.a.a_a-a-a-a_a.a.a.a.a.a", "2"),
		labels("k\xff", "\xff", "k\xfe", "a\xc3", "k\uFFFD", "<&>", "", "'", "é", "ééééééé"),
		labels("no", "x", "x-no", "y", "long", strings.Repeat("€", 40)),
		labels("0", "1", "__name__", "2", "namespace", "3", "pod", "4"),
	}
	for _, seed := range seeds {
		for _, underscore := range []bool{false, true} {
			f.Add([]byte("production"), []byte("web-1"), encodeLabels(seed), underscore, false, byte(7), uint64(1))
			f.Add([]byte("\xff"), []byte("\xfe<"), encodeLabels(seed), underscore, true, byte(64), uint64(2))
			f.Add([]byte("n"), []byte("p"), encodeLabels(seed), underscore, true, byte(0), uint64(3))
		}
	}
	f.Fuzz(func(t *testing.T, namespace, name, data []byte, underscore, keep bool, limit byte, order uint64) {
		cfg := testConfig(func(cfg *config.Config) {
			cfg.ValueMaxBytes = int(limit)
			cfg.Labels.Exclude = patterns("no$")
			cfg.Annotations = cfg.Labels
			cfg.ExternalLabels = config.Pairs{"cluster": "c"}
			if underscore {
				cfg.Names = config.NamesUnderscore
			}
			if keep {
				cfg.UnsafeValues = config.UnsafeValuesKeep
			}
		})
		fuzzBuilder(t, cfg, namespace, name, decodeLabels(data), order)
	})
}

func fuzzBuilder(t *testing.T, cfg *config.Config, namespace, name []byte, list []KeyValue, order uint64) {
	b := NewBuilder(podKind, cfg, nil)
	o := &Object{Namespace: namespace, Name: name, Labels: list, Annotations: list}
	r, ok := b.Build(o)
	if ok != (len(namespace) > 0 && len(name) > 0) {
		t.Fatalf("record: %v, of an object %q in %q", ok, name, namespace)
	}
	if !ok {
		return
	}
	all := decode(t, r)
	if len(all) != 2 {
		t.Fatalf("%d series, want 2", len(all))
	}
	all[1][slices.IndexFunc(all[1], func(l label) bool { return l.name == "__name__" })].value = "t_pod_labels"
	if diff := cmp.Diff(all[0], all[1], cmp.AllowUnexported(label{})); diff != "" {
		t.Errorf("the same pairs as labels and as annotations (-labels +annotations):\n%s", diff)
	}
	plain := asMap(list)
	drops := checkLabels(t, all[0], o, plain, cfg)
	drops.Add(drops)
	if got := b.TakeDrops(); got != drops {
		t.Errorf("drops %+v, want %+v", got, drops)
	}

	// The same labels in another order are the same series: of the builder that
	// saw others before, too.
	want := bytes.Clone(r.Series)
	random := rand.New(rand.NewPCG(order, 0))
	random.Shuffle(len(plain), func(i, j int) { plain[i], plain[j] = plain[j], plain[i] })
	again, _ := b.Build(&Object{Namespace: namespace, Name: name, Labels: plain, Annotations: plain})
	if !bytes.Equal(again.Series, want) {
		t.Errorf("labels %q give\n%q\nin the order %q they give\n%q", list, want, plain, again.Series)
	}
}

// FuzzCursor writes labels of any bytes and reads them back.
func FuzzCursor(f *testing.F) {
	f.Add([]byte("\x01a\x011"))
	f.Add([]byte{})
	f.Add(encodeLabels(labels("a", "1", "a", "1", "a", "2")))
	f.Add(encodeLabels(labels("", "", strings.Repeat("k", 200), strings.Repeat("v", 255))))
	f.Fuzz(func(t *testing.T, data []byte) {
		list := decodeLabels(data)
		encoded := AppendCount(nil, len(list))
		for _, l := range list {
			encoded = AppendLabel(encoded, string(l.Key), l.Value)
		}
		cursor := Cursor(encoded)
		if n := cursor.Count(); n != len(list) {
			t.Fatalf("%d labels, want %d", n, len(list))
		}
		for i, l := range list {
			passing := cursor
			name, value := cursor.Label()
			if cap(value) != len(value) {
				t.Errorf("label %q=%q can grow into the next", name, value)
			}
			if name != string(l.Key) || !bytes.Equal(value, l.Value) {
				t.Errorf("label %q=%q, want %q=%q", name, value, l.Key, l.Value)
			}
			label := AppendLabel(nil, string(l.Key), l.Value)
			before := list[max(0, i-1)]
			same := bytes.Equal(before.Key, l.Key) && bytes.Equal(before.Value, l.Value)
			if got := passing.SkipIf(AppendLabel(nil, string(before.Key), before.Value)); got != same {
				t.Errorf("label %q passes as %q=%q: %v", label, before.Key, before.Value, got)
			}
			if !same && !passing.SkipIf(label) || len(passing) != len(cursor) {
				t.Errorf("label %q is not passed, or not once", label)
			}
		}
		if len(cursor) != 0 {
			t.Errorf("%d bytes are left", len(cursor))
		}
	})
}
