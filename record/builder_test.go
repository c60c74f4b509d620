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
			b := NewBuilder(test.kind, testConfig(test.config))
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
		b := NewBuilder(only(test.kind, true, false), testConfig(exclude))
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
	b := NewBuilder(podKind, testConfig(underscoreNames, func(cfg *config.Config) { cfg.ValueMaxBytes = 4 }))
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
