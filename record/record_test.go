// SPDX-License-Identifier: Apache-2.0

package record

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"labelstream/config"
)

// testConfig is the configuration of the table tests: both series, every key,
// the prefix short.
func testConfig(changes ...func(*config.Config)) *config.Config {
	all := patterns(`.*`)
	cfg := &config.Config{
		Labels:      config.LabelSource{Enabled: true, Filters: all},
		Annotations: config.LabelSource{Enabled: true, Filters: all},
		Appearance: config.Appearance{
			MetricPrefix:  "t_",
			Names:         config.NamesRaw,
			UnsafeValues:  config.UnsafeValuesDrop,
			ValueMaxBytes: 2048,
		},
	}
	for _, change := range changes {
		if change != nil {
			change(cfg)
		}
	}
	return cfg
}

func kubeStateMetrics(cfg *config.Config) {
	cfg.Series, cfg.MetricPrefix, cfg.Names, cfg.UnsafeValues = config.FormKubeStateMetrics, "kube_", config.NamesUnderscore, config.UnsafeValuesKeep
}

func underscoreNames(cfg *config.Config) { cfg.Names = config.NamesUnderscore }

func patterns(texts ...string) config.Patterns {
	var p config.Patterns
	for _, text := range texts {
		p = append(p, &config.Pattern{Regexp: regexp.MustCompile(text)})
	}
	return p
}

func kind(resource, typ, metric, nameLabel string, namespaced bool) *Kind {
	return &Kind{Resource: resource, Type: typ, Metric: metric, NameLabel: nameLabel, Namespaced: namespaced, Labels: true, Annotations: true}
}

var (
	podKind        = kind("pods", "pod", "pod", "pod", true)
	namespaceKind  = kind("namespaces", "namespace", "namespace", "namespace", false)
	nodeKind       = kind("nodes", "node", "node", "node", false)
	deploymentKind = kind("deployments.apps", "deployment", "deployment", "workload", true)
	pvKind         = kind("persistentvolumes", "pv", "pv", "workload", false)
	knativeKind    = kind("services.serving.knative.dev", "service.serving.knative.dev", "service_serving.knative.dev", "workload", true)
)

// only returns kind with just the series asked for.
func only(kind *Kind, labels, annotations bool) *Kind {
	k := *kind
	k.Labels, k.Annotations = labels, annotations
	return &k
}

// labels makes labels or annotations of keys and values in turn.
func labels(keysAndValues ...string) []KeyValue {
	var list []KeyValue
	for i := 0; i < len(keysAndValues); i += 2 {
		list = append(list, KeyValue{Key: []byte(keysAndValues[i]), Value: []byte(keysAndValues[i+1])})
	}
	return list
}

// label is a label of a decoded series.
type label struct{ name, value string }

// decode reads all series of r, and fails where they are not what every receiver
// may rely on: names strictly sorted, a __name__, nothing empty, all UTF-8.
func decode(t *testing.T, r *Record) [][]label {
	t.Helper()
	all := readSeries(r.Series)
	if len(all) != r.Count {
		t.Errorf("%d series, and said to be %d", len(all), r.Count)
	}
	for _, labels := range all {
		if !slices.ContainsFunc(labels, func(l label) bool { return l.name == "__name__" }) {
			t.Errorf("series without __name__: %q", labels)
		}
		for i, l := range labels {
			if i > 0 && labels[i-1].name >= l.name {
				t.Errorf("label %q follows %q", l.name, labels[i-1].name)
			}
			if l.name == "" || l.value == "" || !utf8.ValidString(l.name+l.value) {
				t.Errorf("label %q has value %q: neither may be empty, both must be UTF-8", l.name, l.value)
			}
		}
	}
	return all
}

func readSeries(series []byte) [][]label {
	var all [][]label
	for cursor := Cursor(series); len(cursor) > 0; {
		var labels []label
		for range cursor.Count() {
			name, value := cursor.Label()
			labels = append(labels, label{name: string(name), value: string(value)})
		}
		all = append(all, labels)
	}
	return all
}

// render gives each series of r as text, its labels in the order they have.
func render(t *testing.T, r *Record) []string {
	t.Helper()
	var texts []string
	for _, labels := range decode(t, r) {
		metric := ""
		var pairs []string
		for _, l := range labels {
			if l.name == "__name__" {
				metric = l.value
				continue
			}
			pairs = append(pairs, fmt.Sprintf("%s=%q", l.name, l.value))
		}
		texts = append(texts, metric+"{"+strings.Join(pairs, ",")+"}")
	}
	return texts
}

// build is what b gives for o, as text.
func build(t *testing.T, b *Builder, o *Object) []string {
	t.Helper()
	r, ok := b.Build(o)
	if !ok {
		t.Fatalf("no record of %s/%s", o.Namespace, o.Name)
	}
	return render(t, r)
}

func TestCursorReadsWhatWasAppended(t *testing.T) {
	long := strings.Repeat("v", 300) // its length takes two bytes
	encoded := AppendCount(nil, 2)
	encoded = AppendLabel(encoded, "a", "1")
	encoded = AppendLabel(encoded, "b", []byte(long))
	encoded = AppendCount(encoded, 0)
	encoded = AppendCount(encoded, 1)
	encoded = append(encoded, "\x00\x01c\x013"...) // a name without a number

	want := [][]label{{{"a", "1"}, {"b", long}}, nil, {{"c", "3"}}}
	if diff := cmp.Diff(want, readSeries(encoded), cmp.AllowUnexported(label{})); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
}

func TestNameTable(t *testing.T) {
	var table nameTable
	for number := 1; number < MaxNames; number++ {
		name := fmt.Sprint(number)
		if got, again := table.of(name), table.of(name); got != number || again != number || table.texts[number] != name {
			t.Fatalf("numbers %d and %d of %q, want %d both times", got, again, table.texts[number], number)
		}
	}
	if got := table.of("late"); got != 0 {
		t.Errorf("number %d of a name that came when all numbers were given", got)
	}
}

// TestRecord changes an object, and looks at what must not be the same, or must.
func TestRecord(t *testing.T) {
	record := func(kind *Kind, o *Object) Record {
		r, ok := NewBuilder(kind, testConfig(), nil).Build(o)
		if !ok {
			t.Fatal("no record")
		}
		return *r
	}
	pod := func(namespace, name string, labels, annotations []KeyValue) *Object {
		return &Object{Namespace: []byte(namespace), Name: []byte(name), Labels: labels, Annotations: annotations}
	}
	app, owner := labels("app", "web"), labels("owner", "ada")
	r := record(podKind, pod("shop", "web-1", app, owner))
	want := Record{Kind: podKind, Namespace: []byte("shop"), Name: []byte("web-1"), Key: r.Key, Count: 2, Series: r.Series}
	if diff := cmp.Diff(want, r); diff != "" || NewBuilder(podKind, testConfig(), nil).Kind() != podKind {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	for name, test := range map[string]struct {
		kind              *Kind
		object            *Object
		sameKey, sameHash bool
	}{
		"the same, with another row for the kind": {only(podKind, true, true), pod("shop", "web-1", app, owner), true, true},
		"another name":         {podKind, pod("shop", "web-2", app, owner), false, false},
		"another namespace":    {podKind, pod("ship", "web-1", app, owner), false, false},
		"another kind":         {deploymentKind, pod("shop", "web-1", app, owner), false, false},
		"boundary moved right": {podKind, pod("shopw", "eb-1", app, owner), false, false},
		"boundary moved left":  {podKind, pod("sho", "pweb-1", app, owner), false, false},
		"another label":        {podKind, pod("shop", "web-1", labels("app", "api"), owner), true, false},
		"another annotation":   {podKind, pod("shop", "web-1", app, labels("owner", "eve")), true, false},
		"swapped":              {podKind, pod("shop", "web-1", owner, app), true, false},
	} {
		other := record(test.kind, test.object)
		if sameKey, sameHash := other.Key == r.Key, other.Hash() == r.Hash(); sameKey != test.sameKey || sameHash != test.sameHash {
			t.Errorf("%s: the key is the same: %v, want %v; the hash: %v, want %v", name, sameKey, test.sameKey, sameHash, test.sameHash)
		}
	}
}
