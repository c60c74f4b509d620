// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"labelstream/config"
)

// buildTest is one object and the exact series it must give.
type buildTest struct {
	name   string
	kind   *Kind
	config func(*config.Config)
	object *Object
	want   []string
	drops  Drops
}

func runBuildTests(t *testing.T, tests []buildTest) {
	t.Helper()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := NewBuilder(test.kind, testConfig(test.config), nil)
			if diff := cmp.Diff(test.want, build(t, b, test.object)); diff != "" {
				t.Errorf("series (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.drops, b.TakeDrops()); diff != "" {
				t.Errorf("drops (-want +got):\n%s", diff)
			}
			if again := b.TakeDrops(); again != (Drops{}) {
				t.Errorf("drops taken are still there: %+v", again)
			}
		})
	}
}

// object returns an object with labels, which are its annotations too.
func object(namespace, name string, keysAndValues ...string) *Object {
	list := labels(keysAndValues...)
	return &Object{Namespace: []byte(namespace), Name: []byte(name), Labels: list, Annotations: list}
}

// podSeries is the series of labels, or annotations, of the pod n/p with the labels
// that sort before its identity.
func podSeries(of, labels string) []string {
	return []string{"t_pod_" + of + "{" + labels + `namespace="n",pod="p",resource_type="pod"}`}
}

func TestBuildKinds(t *testing.T) {
	shop, one := object("shop", "web", "app", "x"), object("", "one", "app", "x")
	series := func(metric, labels string) []string {
		return []string{"t_" + metric + `_labels{label_app="x",` + labels + "}", "t_" + metric + `_annotations{label_app="x",` + labels + "}"}
	}
	runBuildTests(t, []buildTest{
		{name: "pod", kind: podKind, object: shop, want: series("pod", `namespace="shop",pod="web",resource_type="pod"`)},
		{name: "namespace", kind: namespaceKind, object: one, want: series("namespace", `namespace="one",resource_type="namespace"`)},
		{name: "node", kind: nodeKind, object: one, want: series("node", `node="one",resource_type="node"`)},
		{name: "workload", kind: deploymentKind, object: shop,
			want: series("deployment", `namespace="shop",resource_type="deployment",workload="web"`)},
		{name: "workload of the cluster", kind: pvKind, object: one, want: series("pv", `resource_type="pv",workload="one"`)},
		{name: "named with its group", kind: knativeKind, object: shop,
			want: series("service_serving_knative_dev", `namespace="shop",resource_type="service.serving.knative.dev",workload="web"`)},
		{name: "annotations only", kind: only(podKind, false, true), object: object("n", "p", "a", "1"), want: podSeries("annotations", `label_a="1",`)},
		{name: "no prefix", kind: only(podKind, true, false), object: object("n", "p"),
			config: func(cfg *config.Config) { cfg.MetricPrefix = "" }, want: []string{`pod_labels{namespace="n",pod="p",resource_type="pod"}`}},
		{name: "identity that is not UTF-8", kind: only(podKind, true, false), object: object("a\xffb", "\xfe"),
			want: []string{"t_pod_labels{namespace=\"a\uFFFDb\",pod=\"\uFFFD\",resource_type=\"pod\"}"}},
	})
}

func TestBuildFilters(t *testing.T) {
	filter := func(filters, exclude config.Patterns) func(*config.Config) {
		return func(cfg *config.Config) { cfg.Labels.Filters, cfg.Labels.Exclude = filters, exclude }
	}
	withLabels := only(podKind, true, false)
	pod := object("n", "p", "app", "web", "example.com/team", "core", "team", "platform", "unmatched", "x")
	both := func(labels, annotations string) []string {
		return append(podSeries("labels", labels), podSeries("annotations", annotations)...)
	}
	runBuildTests(t, []buildTest{
		{name: "matched anywhere in the key", kind: withLabels, object: pod, config: filter(patterns("team"), nil),
			want: podSeries("labels", `label_example.com/team="core",label_team="platform",`)},
		{name: "exclude wins", kind: withLabels, object: pod, config: filter(patterns("team", "app"), patterns("/", "^app$")),
			want: podSeries("labels", `label_team="platform",`)},
		{name: "labels and annotations each have theirs", kind: podKind, object: pod, config: func(cfg *config.Config) {
			cfg.Labels.Filters, cfg.Annotations.Filters, cfg.Annotations.Exclude = patterns("^app$"), patterns("team"), patterns("/")
		}, want: both(`label_app="web",`, `label_team="platform",`)},
		{name: "a series without a key that passes", kind: withLabels, object: pod, config: filter(patterns("^none$"), nil),
			want: podSeries("labels", "")},
		{name: "what a conversion to apps/v1 has added", kind: podKind, object: object("n", "p", "a", "1",
			"deprecated.daemonset.template.generation", "2", "deprecated.deployment.rollback.to", "3", "deprecated.deployment.rollback.tox", "4"),
			want: both(`label_a="1",label_deprecated.deployment.rollback.tox="4",`, `label_a="1",label_deprecated.deployment.rollback.tox="4",`)},
		{name: "what no filter passes is not counted as dropped", kind: withLabels,
			config: func(cfg *config.Config) { cfg.Labels.Filters, cfg.ValueMaxBytes = patterns("^keep"), 4 },
			object: object("n", "p", "empty", "", "keep-empty", "", "unsafe", "<", "keep-unsafe", "<", "long", "12345", "keep-long", "12345"),
			want:   podSeries("labels", `label_keep-long="1234",`), drops: Drops{Empty: 1, Unsafe: 1, Truncated: 1}},
	})
}

func TestBuildValues(t *testing.T) {
	limit := func(n int) func(*config.Config) { return func(cfg *config.Config) { cfg.ValueMaxBytes = n } }
	keep := func(cfg *config.Config) { cfg.UnsafeValues = config.UnsafeValuesKeep }
	var tests []buildTest
	for _, test := range []struct {
		name   string
		config func(*config.Config)
		values []string
		want   string
		drops  Drops
	}{
		{"empty", nil, []string{"", "x", ""}, `label_b="x",`, Drops{Empty: 2}},
		{"what HTML escapes, each", nil, []string{`<`, `>`, `&`, `'`, `"`, `safe`}, `label_f="safe",`, Drops{Unsafe: 5}},
		{"what HTML escapes, anywhere", nil, []string{"a<", ">a", "a longer text, with & in it", "ä'ö", `{"json":1}`, "; ` / = % + \\ # \x00\t"},
			`label_f="; ` + "`" + ` / = % + \\ # \x00\t",`, Drops{Unsafe: 5}},
		{"unsafe kept", keep, []string{`<a href="x">&'`, `{"json":1}`}, `label_a="<a href=\"x\">&'",label_b="{\"json\":1}",`, Drops{}},
		{"cut before a rune that does not fit", limit(6), []string{"1234é6", "12345é", "1234€", "123456é", "12😀x", "123😀"},
			`label_a="1234é",label_b="12345",label_c="1234",label_d="123456",label_e="12😀",label_f="123",`, Drops{Truncated: 6}},
		{"limit below the first rune", limit(1), []string{"é", "e", "😀"}, `label_b="e",`, Drops{Truncated: 2}},
		{"not UTF-8", nil, []string{"\xff", "a\xc3", "a\xe2\x82b", "\xed\xa0\x80", "\uFFFD"},
			"label_a=\"\uFFFD\",label_b=\"a\uFFFD\",label_c=\"a\uFFFDb\",label_d=\"\uFFFD\",label_e=\"\uFFFD\",", Drops{}},
		{"cut after the replacement, which is longer", limit(5), []string{"ab\xff", "abc\xff", "\xffa\xffb"},
			"label_a=\"ab\uFFFD\",label_b=\"abc\",label_c=\"\uFFFDa\",", Drops{Truncated: 2}},
	} {
		o := object("n", "p")
		for i, value := range test.values {
			o.Labels = append(o.Labels, KeyValue{Key: []byte{byte('a' + i)}, Value: []byte(value)})
		}
		tests = append(tests, buildTest{test.name, only(podKind, true, false), test.config, o, podSeries("labels", test.want), test.drops})
	}
	runBuildTests(t, tests)
}

func TestBuildExternalLabels(t *testing.T) {
	external := func(pairs config.Pairs) func(*config.Config) {
		return func(cfg *config.Config) { cfg.ExternalLabels = pairs }
	}
	withLabels, pod := only(podKind, true, false), object("n", "p", "app", "web", "team", "core")
	runBuildTests(t, []buildTest{
		{name: "sorted around the labels", kind: withLabels, object: pod, config: external(config.Pairs{
			"zone": "z", "A": "upper", "cluster": "c", "label": "before", "labels": "after", "_x": "y", "region": "r",
		}), want: []string{`t_pod_labels{A="upper",_x="y",cluster="c",label="before",label_app="web",label_team="core",` +
			`labels="after",namespace="n",pod="p",region="r",resource_type="pod",zone="z"}`}},
		{name: "the object's identity goes before", kind: withLabels, object: pod, config: external(config.Pairs{
			"__name__": "x", "resource_type": "x", "pod": "x", "namespace": "x",
		}), want: podSeries("labels", `label_app="web",label_team="core",`)},
		{name: "a kind without that identity has them", kind: only(nodeKind, true, false), object: object("", "one"),
			config: external(config.Pairs{"pod": "x", "namespace": "y", "node": "z"}),
			want:   []string{`t_node_labels{namespace="y",node="one",pod="x",resource_type="node"}`}},
		{name: "named like a label, which goes before", kind: withLabels, object: pod,
			config: external(config.Pairs{"label_app": "x", "label_b": "y", "label_zone": "z", "label_": "w"}),
			want:   podSeries("labels", `label_="w",label_app="web",label_b="y",label_team="core",label_zone="z",`)},
		{name: "named like a label that was left out", kind: withLabels, object: object("n", "p", "app", "", "team", "<"),
			config: external(config.Pairs{"label_app": "x", "label_team": "y"}),
			want:   podSeries("labels", `label_app="x",label_team="y",`), drops: Drops{Empty: 1, Unsafe: 1}},
	})
}

// TestBuildKubeStateMetrics has what kube-state-metrics v2 exposes for the same
// object. Keys that meet are numbered even where one of them has no value.
func TestBuildKubeStateMetrics(t *testing.T) {
	pod := &Kind{Resource: "pods", Metric: "pod", NameLabel: "pod", Namespaced: true, UID: true, Labels: true, Annotations: true}
	job := &Kind{Resource: "jobs.batch", Metric: "job", NameLabel: "job_name", Namespaced: true, Labels: true}
	id := `namespace="n",pod="p",uid="u-1"}`
	for _, test := range []struct {
		name               string
		kind               *Kind
		labels             []string
		series, annotation string
	}{
		{"snake case, and what labels cannot have", job, []string{"field.cattle.io/creatorId", "u", "aZb9C", "2", "ä", "3", "HTTPServer", "4"},
			`kube_job_labels{job_name="p",label__="3",label_a_zb9_c="2",label_field_cattle_io_creator_id="u",label_httpserver="4",namespace="n"}`, ""},
		{"keys that meet", pod, []string{"a.b", "", "a-b", "<1>", "a/b", "2", "ab", "3"},
			`kube_pod_labels{label_a_b_conflict1="<1>",label_a_b_conflict3="2",label_ab="3",` + id,
			`kube_pod_annotations{annotation_a_b_conflict1="<1>",annotation_a_b_conflict3="2",annotation_ab="3",` + id},
		{"a key that is spelled like a conflict", pod, []string{"a.b", "1", "a-b", "2", "a_b_conflict1", "3"},
			`kube_pod_labels{label_a_b_conflict1="3",label_a_b_conflict1_d44362d6="2",label_a_b_conflict2="1",` + id,
			`kube_pod_annotations{annotation_a_b_conflict1="3",annotation_a_b_conflict1_d44362d6="2",annotation_a_b_conflict2="1",` + id},
		{"named like the identity", pod, []string{"namespace", "1", "pod", "2", "uid", "3", "__name__", "4", "le", "5", "job", "6"},
			`kube_pod_labels{label___name__="4",label_job="6",label_le="5",label_namespace="1",label_pod="2",label_uid="3",` + id,
			`kube_pod_annotations{annotation___name__="4",annotation_job="6",annotation_le="5",annotation_namespace="1",annotation_pod="2",annotation_uid="3",` + id},
	} {
		o := object("n", "p", test.labels...)
		o.UID = []byte("u-1")
		want := []string{test.series}
		if test.annotation != "" {
			want = append(want, test.annotation)
		}
		if diff := cmp.Diff(want, build(t, NewBuilder(test.kind, testConfig(kubeStateMetrics), nil), o)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
	b := NewBuilder(pod, testConfig(kubeStateMetrics, func(cfg *config.Config) {
		cfg.ExternalLabels = config.Pairs{"annotation_x": "1", "label_x": "2", "cluster": "c"}
	}), nil)
	o := &Object{Namespace: []byte("n"), Name: []byte("p"), UID: []byte("u-1")}
	external := `annotation_x="1",cluster="c",label_x="2",` + id
	if diff := cmp.Diff([]string{"kube_pod_labels{" + external, "kube_pod_annotations{" + external}, build(t, b, o)); diff != "" {
		t.Errorf("external labels (-want +got):\n%s", diff)
	}
	if _, ok := b.Build(object("n", "p")); ok {
		t.Error("there is a record without the uid")
	}
}

// TestBuildLimits gives a pod more labels, and longer names, than are allowed: its
// identity and external labels stay, and then what the first filters match.
func TestBuildLimits(t *testing.T) {
	limit := func(labels, nameBytes int, filters ...string) func(*config.Config) {
		return func(cfg *config.Config) {
			cfg.MaxLabelsPerSeries, cfg.LabelNameMaxBytes, cfg.Labels.Filters = labels, nameBytes, patterns(filters...)
			cfg.ExternalLabels = config.Pairs{"label_zone": "z", "cluster": "c"}
		}
	}
	pod := object("n", "p", "a", "1", "b", "2", "c", "", "team", "3", "x.example/cost", "4", "zz", "5")
	series := func(labels string) []string { return podSeries("labels", `cluster="c",`+labels) }
	runBuildTests(t, []buildTest{
		{name: "as many as allowed", kind: only(podKind, true, false), object: pod, config: limit(11, 0, ".*"), drops: Drops{Empty: 1},
			want: series(`label_a="1",label_b="2",label_team="3",label_x.example/cost="4",label_zone="z",label_zz="5",`)},
		{name: "the last name goes", kind: only(podKind, true, false), object: pod, config: limit(10, 0, ".*"), drops: Drops{Empty: 1, TooMany: 1},
			want: series(`label_a="1",label_b="2",label_team="3",label_x.example/cost="4",label_zone="z",`)},
		{name: "the last filter's go", kind: only(podKind, true, false), object: pod, config: limit(8, 0, "cost", "z", ".*"), drops: Drops{Empty: 1, TooMany: 3},
			want: series(`label_x.example/cost="4",label_zone="z",label_zz="5",`)},
		{name: "the identity stays", kind: only(podKind, true, false), object: pod, config: limit(2, 0, ".*"), drops: Drops{Empty: 1, TooMany: 6},
			want: series("")},
		{name: "names that are too long", kind: only(podKind, true, false), object: pod, config: limit(0, 10, ".*"), drops: Drops{Empty: 1, LongName: 1},
			want: series(`label_a="1",label_b="2",label_team="3",label_zone="z",label_zz="5",`)},
	})
	// Where keys meet, a suffix may be what makes a name too long.
	b := NewBuilder(only(podKind, true, false), testConfig(kubeStateMetrics, limit(0, 12, ".*"), func(cfg *config.Config) { cfg.ExternalLabels = nil }), nil)
	want := []string{`kube_pod_labels{label_b="3",namespace="n",pod="p",resource_type="pod"}`}
	if diff := cmp.Diff(want, build(t, b, object("n", "p", "a.b", "1", "a-b", "2", "b", "3"))); diff != "" {
		t.Errorf("numbered names (-want +got):\n%s", diff)
	}
	if drops := b.TakeDrops(); drops != (Drops{LongName: 2}) {
		t.Errorf("drops %+v", drops)
	}
	// Names that are too long do not meet in a name of their own.
	if diff := cmp.Diff(want, build(t, b, object("n", "p", "much-too-long", "1", "b", "2", "long-as-well", "2", "b", "3"))); diff != "" {
		t.Errorf("two names that are too long (-want +got):\n%s", diff)
	}
}

// TestKeys counts what is sent, once, and tells when it is more than the limit.
func TestKeys(t *testing.T) {
	exceeded := 0
	keys := NewKeys(3, func() { exceeded++ })
	cfg := testConfig(func(cfg *config.Config) {
		cfg.Labels.Exclude, cfg.ExternalLabels = patterns("^no"), config.Pairs{"label_x": "1"}
	})
	pods, nodes := NewBuilder(podKind, cfg, keys), NewBuilder(only(nodeKind, true, false), cfg, keys)
	for i, step := range []struct {
		b          *Builder
		labels     []string
		want, told int
	}{
		{pods, []string{"a", "1", "b", "2", "empty", "", "unsafe", "<"}, 2, 0},
		{nodes, []string{"a", "1", "no", "2", "c", "3"}, 3, 0},
		{pods, []string{"z", "1", "a", "2"}, 4, 1},
		{nodes, []string{"e", "1", "empty", "2"}, 6, 1},
	} {
		build(t, step.b, &Object{Namespace: []byte("n"), Name: []byte("p"), Labels: labels(step.labels...)})
		if keys.Len() != step.want || exceeded != step.told {
			t.Errorf("step %d: %d keys, told %d times, want %d and %d", i, keys.Len(), exceeded, step.want, step.told)
		}
	}
}

// TestEnd finds the series that an object no longer has.
func TestEnd(t *testing.T) {
	b := NewBuilder(podKind, testConfig(), nil)
	build := func(label, annotation string) *Record {
		r, _ := b.Build(&Object{Namespace: []byte("n"), Name: []byte("p"), Labels: labels("a", label), Annotations: labels("b", annotation)})
		return r
	}
	old := bytes.Clone(build("1", "2").Series)
	for _, test := range []struct {
		label, annotation string
		want              []string
	}{
		{"1", "2", nil},
		{"x", "2", []string{"t_pod_labels"}},
		{"1", "x", []string{"t_pod_annotations"}},
		{"x", "x", []string{"t_pod_labels", "t_pod_annotations"}},
	} {
		r := build(test.label, test.annotation)
		hash := r.Hash()
		r.End(old)
		var got []string
		for c := Cursor(r.Ended); len(c) > 0; {
			for range c.Count() {
				if name, value := c.Label(); string(name) == "__name__" {
					got = append(got, string(value))
				}
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" || r.EndedCount != len(test.want) || r.Hash() != hash {
			t.Errorf("%+v: %d ended, hash is the same: %v (-want +got):\n%s", test, r.EndedCount, r.Hash() == hash, diff)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	exclude := func(cfg *config.Config) { cfg.NamespacesExclude = config.List{"kube-system", "tmp"} }
	for _, test := range []struct {
		why             string
		kind            *Kind
		namespace, text string
		want            bool
	}{
		{"pod elsewhere", podKind, "production", "web", true},
		{"pod in an excluded namespace", podKind, "kube-system", "web", false},
		{"workload in the other excluded namespace", deploymentKind, "tmp", "web", false},
		{"name of a pod is no namespace", podKind, "production", "tmp", true},
		{"part of an excluded name", podKind, "tmp-2", "web", true},
		{"excluded namespace itself", namespaceKind, "", "tmp", false},
		{"excluded namespace itself, namespace set as a review sets it", namespaceKind, "tmp", "tmp", false},
		{"other namespace itself", namespaceKind, "", "production", true},
		{"name of a node is no namespace", nodeKind, "", "tmp", true},
		{"no name", podKind, "production", "", false},
		{"no namespace", podKind, "", "web", false},
	} {
		b := NewBuilder(only(test.kind, true, false), testConfig(exclude), nil)
		r, ok := b.Build(object(test.namespace, test.text, "empty", ""))
		if ok != test.want || (r != nil) != test.want {
			t.Errorf("%s: record %v, %v; want %v", test.why, r, ok, test.want)
		}
		if drops := b.TakeDrops(); (drops == Drops{Empty: 1}) != test.want {
			t.Errorf("%s: drops %+v", test.why, drops)
		}
	}
}

// TestBuildLeavesTheObjectAlone pins that a source may hand its buffers over.
func TestBuildLeavesTheObjectAlone(t *testing.T) {
	b := NewBuilder(podKind, testConfig(underscoreNames, func(cfg *config.Config) { cfg.ValueMaxBytes = 4 }), nil)
	text := []string{"z", "12345678", "a.b", "\xff", "a/b", "", "a.b", "<"}
	o := object("n\xff", "p\xff", text...)
	build(t, b, o)
	if diff := cmp.Diff(object("n\xff", "p\xff", text...), o); diff != "" {
		t.Errorf("object (-before +after):\n%s", diff)
	}
}

// TestScan puts every byte at every place of values on both sides of the length
// at which the search changes.
func TestScan(t *testing.T) {
	for length := 1; length <= 2*shortValue+1; length++ {
		value := bytes.Repeat([]byte("a"), length)
		for at := range length {
			for c := range 256 {
				value[at] = byte(c)
				unsafe, ascii := scan(value)
				wantUnsafe, wantASCII := strings.IndexByte("<>&'\"", byte(c)) >= 0, c < 0x80 && length <= shortValue
				if unsafe != wantUnsafe || ascii != wantASCII {
					t.Fatalf("%q at %d of %d bytes: %v, %v, want %v, %v", byte(c), at, length, unsafe, ascii, wantUnsafe, wantASCII)
				}
			}
			value[at] = 'a'
		}
	}
}
