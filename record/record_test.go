package record

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"labelstream/config"
)

// testConfig is the configuration of the table tests: both series, every key,
// the prefix short.
func testConfig(changes ...func(*config.Config)) *config.Config {
	all := config.Patterns{regexp.MustCompile(`.*`)}
	cfg := &config.Config{
		Labels:      config.LabelSource{Enabled: true, Filters: all},
		Annotations: config.LabelSource{Enabled: true, Filters: all},
		Series: config.Series{
			MetricPrefix:  "t_",
			Names:         config.NamesRaw,
			UnsafeValues:  config.UnsafeValuesDrop,
			ValueMaxBytes: 2048,
		},
	}
	for _, change := range changes {
		change(cfg)
	}
	return cfg
}

func underscoreNames(cfg *config.Config) { cfg.Names = config.NamesUnderscore }

func patterns(texts ...string) config.Patterns {
	var p config.Patterns
	for _, text := range texts {
		p = append(p, regexp.MustCompile(text))
	}
	return p
}

var (
	podKind = &Kind{
		Resource: "pods", Type: "pod", Metric: "pod", NameLabel: "pod",
		Namespaced: true, Labels: true, Annotations: true,
	}
	namespaceKind = &Kind{
		Resource: "namespaces", Type: "namespace", Metric: "namespace", NameLabel: "namespace",
		Labels: true, Annotations: true,
	}
	nodeKind = &Kind{
		Resource: "nodes", Type: "node", Metric: "node", NameLabel: "node",
		Labels: true, Annotations: true,
	}
	deploymentKind = &Kind{
		Resource: "deployments.apps", Type: "deployment", Metric: "deployment", NameLabel: "workload",
		Namespaced: true, Labels: true, Annotations: true,
	}
	pvKind = &Kind{
		Resource: "persistentvolumes", Type: "pv", Metric: "pv", NameLabel: "workload",
		Labels: true, Annotations: true,
	}
	knativeKind = &Kind{
		Resource: "services.serving.knative.dev", Type: "service.serving.knative.dev",
		Metric: "service_serving.knative.dev", NameLabel: "workload",
		Namespaced: true, Labels: true, Annotations: true,
	}
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

// decode reads all series of r, and fails where they are not what every
// receiver may rely on.
func decode(t *testing.T, r *Record) [][]label {
	t.Helper()
	cursor := Cursor(r.Series)
	var all [][]label
	for range r.Count {
		var labels []label
		for range cursor.Count() {
			name, value := cursor.Label()
			labels = append(labels, label{name: string(name), value: string(value)})
		}
		checkSeries(t, labels)
		all = append(all, labels)
	}
	if len(cursor) != 0 {
		t.Fatalf("%d series leave %d of %d bytes: %q", r.Count, len(cursor), len(r.Series), []byte(cursor))
	}
	return all
}

// checkSeries fails unless the names are strictly sorted, with a __name__, and
// names and values are what the protocol allows.
func checkSeries(t *testing.T, labels []label) {
	t.Helper()
	metric := false
	for i, l := range labels {
		if i > 0 && labels[i-1].name >= l.name {
			t.Errorf("label %q follows %q", l.name, labels[i-1].name)
		}
		if l.name == "" || l.value == "" {
			t.Errorf("label %q has value %q: neither may be empty", l.name, l.value)
		}
		if !utf8.ValidString(l.name) || !utf8.ValidString(l.value) {
			t.Errorf("label %q has value %q: both must be UTF-8", l.name, l.value)
		}
		metric = metric || l.name == "__name__"
	}
	if !metric {
		t.Errorf("series without __name__: %q", labels)
	}
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
	flat := AppendCount(nil, 2)
	flat = AppendLabel(flat, "a", "1")
	flat = AppendLabel(flat, []byte("b"), []byte(long))
	flat = AppendCount(flat, 0)
	flat = AppendCount(flat, 1)
	flat = AppendLabel(flat, "", []byte("3"))

	if want := "\x02\x01a\x011\x01b\xac\x02" + long + "\x00\x01\x00\x013"; string(flat) != want {
		t.Errorf("flat form %q, want %q", flat, want)
	}
	var got [][]label
	for cursor := Cursor(flat); len(cursor) > 0; {
		var labels []label
		for range cursor.Count() {
			name, value := cursor.Label()
			labels = append(labels, label{name: string(name), value: string(value)})
		}
		got = append(got, labels)
	}
	want := [][]label{{{"a", "1"}, {"b", long}}, nil, {{"", "3"}}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(label{})); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
}

func TestKey(t *testing.T) {
	otherPods := &Kind{Resource: "pods"}
	key := func(kind *Kind, namespace, name string) uint64 {
		return Key(kind, []byte(namespace), []byte(name))
	}
	pod := key(podKind, "production", "web-1")

	// The same resource is the same kind, whichever informer or webhook row
	// describes it.
	if got := key(otherPods, "production", "web-1"); got != pod {
		t.Errorf("the same object has the keys %x and %x", pod, got)
	}
	for name, other := range map[string]uint64{
		"another name":         key(podKind, "production", "web-2"),
		"another namespace":    key(podKind, "staging", "web-1"),
		"another kind":         key(deploymentKind, "production", "web-1"),
		"boundary moved right": key(podKind, "productionw", "eb-1"),
		"boundary moved left":  key(podKind, "productio", "nweb-1"),
		"no namespace":         key(podKind, "", "productionweb-1"),
	} {
		if other == pod {
			t.Errorf("%s gives the key of production/web-1", name)
		}
	}
}

func TestRecord(t *testing.T) {
	b := NewBuilder(podKind, testConfig())
	record := func(labels, annotations []KeyValue) Record {
		r, ok := b.Build(&Object{Namespace: []byte("production"), Name: []byte("web-1"), Labels: labels, Annotations: annotations})
		if !ok {
			t.Fatal("no record")
		}
		return *r
	}
	r := record(labels("app", "web"), labels("owner", "ada"))
	hash := r.Hash()
	want := Record{
		Kind: podKind, Namespace: []byte("production"), Name: []byte("web-1"),
		Key: Key(podKind, []byte("production"), []byte("web-1")), Count: 2, Series: r.Series,
	}
	if diff := cmp.Diff(want, r); diff != "" || b.Kind() != podKind {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	for name, other := range map[string]struct {
		labels, annotations []KeyValue
		same                bool
	}{
		"the same":           {labels("app", "web"), labels("owner", "ada"), true},
		"another label":      {labels("app", "api"), labels("owner", "ada"), false},
		"another annotation": {labels("app", "web"), labels("owner", "eve"), false},
		"swapped":            {labels("owner", "ada"), labels("app", "web"), false},
	} {
		changed := record(other.labels, other.annotations)
		if same := changed.Hash() == hash; same != other.same {
			t.Errorf("%s: the hashes are equal: %v, want %v", name, same, other.same)
		}
	}
}
