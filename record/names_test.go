// SPDX-License-Identifier: Apache-2.0

package record

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"labelstream/config"
)

// labelsOf is what labels become in the series of a node, as name=value.
func labelsOf(t *testing.T, b *Builder, list []KeyValue) map[string]string {
	t.Helper()
	r, ok := b.Build(&Object{Name: []byte("n"), Labels: list})
	if !ok {
		t.Fatal("no record")
	}
	got := make(map[string]string)
	for _, l := range decode(t, r)[0] {
		if l.name != "__name__" && l.name != "node" && l.name != "resource_type" {
			got[l.name] = l.value
		}
	}
	return got
}

// shuffled returns list in other orders: backwards, and some at random.
func shuffled(list []KeyValue) [][]KeyValue {
	backwards := slices.Clone(list)
	slices.Reverse(backwards)
	orders := [][]KeyValue{list, backwards}
	random := rand.New(rand.NewPCG(1, 2))
	for range 4 {
		order := slices.Clone(list)
		random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		orders = append(orders, order)
	}
	return orders
}

// The suffixes in the tests below are the beginning of the key's SHA-256, as
// "printf %s a.b | sha256sum" prints it: no release may change them.
func TestNames(t *testing.T) {
	const (
		raw, underscore = config.NamesRaw, config.NamesUnderscore
		dot, slash      = "2e7336dc", "c14cddc0"
		dotMore         = "2e7336dc8eba87ef"
		dotMost         = "2e7336dc8eba87ef472df568c35482ab"
		a31             = "label_a_a_a_a_a_a_a_a_a_a_a_a_a_a_a_a_"
	)
	for _, test := range []struct {
		name   string
		names  config.Names
		labels []KeyValue
		want   map[string]string
	}{
		{"raw", raw, labels("app.kubernetes.io/name", "1", "a-b", "2", "a_b", "3", "ä", "4", "A", "5", "", "6", "x\x00\n y", "7"), map[string]string{
			"label_app.kubernetes.io/name": "1", "label_a-b": "2", "label_a_b": "3", "label_ä": "4", "label_A": "5", "label_": "6", "label_x\x00\n y": "7",
		}},
		{"underscore", underscore, labels("a.k8s.io/x", "1", "a-b:c", "2", "ä9", "3", "A Z", "4", "", "5", "0_9", "6", "\xff\xfe", "7"), map[string]string{
			"label_a_k8s_io_x": "1", "label_a_b_c": "2", "label__9": "3", "label_A_Z": "4", "label_": "5", "label_0_9": "6", "label___": "7",
		}},
		{"sorted by name, not by key", underscore, labels("a-z", "1", "a.b", "2", "aZ", "3"),
			map[string]string{"label_a_z": "1", "label_a_b": "2", "label_aZ": "3"}},
		{"two keys meet, neither spelled so", underscore, labels("a.b", "1", "a/b", "2"),
			map[string]string{"label_a_b_" + dot: "1", "label_a_b_" + slash: "2"}},
		{"a third key is spelled like the suffixed one", underscore, labels("a.b", "1", "a_b", "2", "a_b_"+dot, "3"),
			map[string]string{"label_a_b_" + dot + "_" + dotMore: "1", "label_a_b": "2", "label_a_b_" + dot: "3"}},
		{"a third key becomes the suffixed one", underscore, labels("a.b", "1", "a_b", "2", "a.b_"+dot, "3"),
			map[string]string{"label_a_b_" + dot + "_" + dotMore: "1", "label_a_b": "2", "label_a_b_" + dot + "_ecbde6b4cb4276e6": "3"}},
		{"a fourth is spelled like that one", underscore, labels("a.b", "1", "a_b", "2", "a_b_"+dot, "3", "a_b_"+dot+"_"+dotMore, "4"), map[string]string{
			"label_a_b_" + dot + "_" + dotMore + "_" + dotMost: "1", "label_a_b": "2", "label_a_b_" + dot: "3", "label_a_b_" + dot + "_" + dotMore: "4",
		}},
		{"keys that are not UTF-8 meet in raw names", raw, labels("k\xff", "1", "k\xfe", "2", "k\uFFFD", "3"),
			map[string]string{"label_k\uFFFD_1afd8b9a": "1", "label_k\uFFFD_7bb35ca8": "2", "label_k\uFFFD": "3"}},
		// A weak hash would put both into one name for ever: keys that meet in FNV-1a are
		// quickly found, these are valid in a cluster.
		{"keys of one weak hash meet", underscore, labels("a.a_a-a-a.a.a-a.a.a_a.a.a.a.a.a", "1", "a-a_a-a.a-a-a.a_a.a.a-a.a.a.a.a", "2"),
			map[string]string{a31 + "515c75ae": "1", a31 + "7efa48a9": "2"}},
		{"keys of one suffix meet", underscore, labels("a_a_a-a.a.a.a-a_a-a.a.a.a.a.a.a", "1", "a_a-a_a.a.a_a-a-a-a_a.a.a.a.a.a", "2"),
			map[string]string{a31 + "8d7fb1c0_8d7fb1c05d7a1835": "1", a31 + "8d7fb1c0_8d7fb1c0ee3d2bc1": "2"}},
		{"values left out do not count as keys that meet", underscore, labels("a.b", "1", "a/b", "", "a-b", "<"), map[string]string{"label_a_b": "1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := NewBuilder(only(nodeKind, true, false), testConfig(func(cfg *config.Config) { cfg.Names = test.names }), nil)
			for _, order := range shuffled(test.labels) {
				if diff := cmp.Diff(test.want, labelsOf(t, b, order)); diff != "" {
					t.Errorf("labels of %q (-want +got):\n%s", order, diff)
				}
			}
		})
	}
}

// TestOneKeyTwice pins that of a key that occurs twice only the last value
// exists, as in any decoder of a map: the first is neither sent nor counted.
func TestOneKeyTwice(t *testing.T) {
	for _, test := range []struct {
		name   string
		labels []KeyValue
		want   map[string]string
		drops  Drops
	}{
		{"apart", labels("a", "1", "b", "2", "a", "3", "c", "4", "a", "5"), map[string]string{"label_a": "5", "label_b": "2", "label_c": "4"}, Drops{}},
		{"the last is empty", labels("a", "1", "a", ""), map[string]string{}, Drops{Empty: 1}},
		{"the first is empty, unsafe, long", labels("a", "", "b", "<", "c", "123456789", "a", "1", "b", "2", "c", "3"),
			map[string]string{"label_a": "1", "label_b": "2", "label_c": "3"}, Drops{}},
		{"and meets another", labels("a.b", "1", "a/b", "2", "a.b", "3"), map[string]string{"label_a_b_2e7336dc": "3", "label_a_b_c14cddc0": "2"}, Drops{}},
		{"is alone: no suffix", labels("a.b", "1", "a.b", "2"), map[string]string{"label_a_b": "2"}, Drops{}},
	} {
		b := NewBuilder(only(nodeKind, true, false), testConfig(underscoreNames, func(cfg *config.Config) { cfg.ValueMaxBytes = 8 }), nil)
		if diff := cmp.Diff(test.want, labelsOf(t, b, test.labels)); diff != "" {
			t.Errorf("%s: labels (-want +got):\n%s", test.name, diff)
		}
		if drops := b.TakeDrops(); drops != test.drops {
			t.Errorf("%s: drops %+v, want %+v", test.name, drops, test.drops)
		}
	}
}

// TestRememberedKeysStayBounded sends more keys than are remembered, in one object
// and one by one, and looks again at those that were forgotten. A filter passes
// every other one.
func TestRememberedKeysStayBounded(t *testing.T) {
	b := NewBuilder(only(nodeKind, true, false), testConfig(underscoreNames, func(cfg *config.Config) {
		cfg.Labels.Filters = patterns("[02468]$")
	}), nil)
	check := func(list []KeyValue, want map[string]string) {
		t.Helper()
		if got := labelsOf(t, b, list); !maps.Equal(got, want) {
			t.Fatalf("labels of %d keys (-want +got):\n%s", len(list), cmp.Diff(want, got))
		}
		if n := len(b.labels.names.known); n > maxKeys {
			t.Fatalf("%d keys remembered, want at most %d", n, maxKeys)
		}
	}
	var all []KeyValue
	allWant := make(map[string]string)
	for i := range 2*maxKeys + 1 {
		want := map[string]string{}
		if i%2 == 0 {
			want[fmt.Sprintf("label_key_%d", i)] = "v"
		}
		list := labels(fmt.Sprintf("key/%d", i), "v")
		check(list, want)
		all = append(all, list...)
		maps.Copy(allWant, want)
	}
	check(all, allWant)
	check(all, allWant)
}

// TestOverlongKeysAreNotRemembered bounds what is remembered in bytes too. An
// overlong key must not vouch for the order of the key that was seen in its place.
func TestOverlongKeysAreNotRemembered(t *testing.T) {
	b := NewBuilder(only(nodeKind, true, false), testConfig(), nil)
	longest := strings.Repeat("k", 317)
	for i, key := range []string{longest + "k", longest} {
		want := map[string]string{"label_" + key: "v"}
		if diff := cmp.Diff(want, labelsOf(t, b, labels(key, "v"))); diff != "" {
			t.Errorf("labels (-want +got):\n%s", diff)
		}
		if n := len(b.labels.names.known); n != i || len(b.labels.names.cache.labels) != i {
			t.Errorf("%d keys remembered after one of %d bytes, want %d", n, len(key), i)
		}
	}
	for _, keys := range [][2]string{{"a", "b"}, {"c", longest + "k"}, {"c", "b"}} {
		want := map[string]string{"label_" + keys[0]: "v", "label_" + keys[1]: "v"}
		if diff := cmp.Diff(want, labelsOf(t, b, labels(keys[0], "v", keys[1], "v"))); diff != "" {
			t.Errorf("labels (-want +got):\n%s", diff)
		}
	}
}

// TestFiltersRunOnceAKey pins that the regular expressions are not part of the
// cost of an object.
func TestFiltersRunOnceAKey(t *testing.T) {
	asked := make(map[string]int)
	table := labelNames{
		prefix: "label_",
		names:  config.NamesRaw,
		rank: func(key string) (int, bool) {
			asked[key]++
			return 0, key != "no"
		},
	}
	for range 3 {
		for key, want := range map[string]string{"yes": "label_yes", "no": "", "": "label_"} {
			if got := table.lookup([]byte(key)).name; got != want {
				t.Errorf("key %q is named %q, want %q", key, got, want)
			}
		}
	}
	if diff := cmp.Diff(map[string]int{"yes": 1, "no": 1, "": 1}, asked); diff != "" {
		t.Errorf("questions to the filter (-want +got):\n%s", diff)
	}
}

// TestBuilderRemembersNothingWrong gives one builder objects that have some keys
// and values in common, in any order, more than are remembered by index, overlong
// ones, and such that no filter passes. A new builder gives the same records.
func TestBuilderRemembersNothingWrong(t *testing.T) {
	kind := only(nodeKind, true, false)
	for name, cfg := range map[string]*config.Config{
		"raw":        testConfig(func(cfg *config.Config) { cfg.Labels.Exclude = patterns("^no") }),
		"underscore": testConfig(underscoreNames, func(cfg *config.Config) { cfg.Labels.Exclude = patterns("^no") }),
		"limits": testConfig(underscoreNames, func(cfg *config.Config) {
			cfg.Labels.Filters, cfg.MaxLabelsPerSeries, cfg.LabelNameMaxBytes = patterns("^[de]", "a", "."), 8, 300
		}),
		"kube-state-metrics": testConfig(kubeStateMetrics),
	} {
		t.Run(name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(5, 6))
			keys := []string{"a", "a.b", "a/b", "b", "no", "no2", "c", strings.Repeat("k", maxKeyBytes+1), "d", "e"}
			values := []string{"v", "v", "v", "w", "", "<", "é", "\xff\xff\xff", "\uFFFD", strings.Repeat("x", maxCachedLabel), strings.Repeat("y", 3000)}
			b := NewBuilder(kind, cfg, nil)
			before := keys
			for range 1000 {
				o := &Object{Name: []byte("n")}
				if random.IntN(2) == 0 {
					before = slices.DeleteFunc(slices.Clone(keys), func(string) bool { return random.IntN(4) == 0 })
				}
				for _, key := range before {
					o.Labels = append(o.Labels, KeyValue{Key: []byte(key), Value: []byte(values[random.IntN(len(values))])})
				}
				if random.IntN(10) == 0 {
					random.Shuffle(len(o.Labels), func(i, j int) { o.Labels[i], o.Labels[j] = o.Labels[j], o.Labels[i] })
				}
				if random.IntN(50) == 0 {
					for i := range 2 * maxIndexes {
						o.Labels = append(o.Labels, KeyValue{Key: fmt.Appendf(nil, "z%03d", i), Value: []byte("v")})
					}
				}
				fresh := NewBuilder(kind, cfg, nil)
				want, got := build(t, fresh, o), build(t, b, o)
				if want, got := fresh.TakeDrops(), b.TakeDrops(); want != got {
					t.Fatalf("labels %q: dropped %+v, want %+v", o.Labels, got, want)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("labels %q (-want +got):\n%s", o.Labels, diff)
				}
				if n := len(b.labels.names.cache.labels); n > maxIndexes {
					t.Fatalf("%d keys are remembered by index, want at most %d", n, maxIndexes)
				}
			}
		})
	}
}
