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
	object Object
	want   []string
	drops  Drops
}

func runBuildTests(t *testing.T, tests []buildTest) {
	t.Helper()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := testConfig()
			if test.config != nil {
				test.config(cfg)
			}
			b := NewBuilder(test.kind, cfg)
			if diff := cmp.Diff(test.want, build(t, b, &test.object)); diff != "" {
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

func TestBuildKinds(t *testing.T) {
	namespaced := Object{
		Namespace: []byte("production"), Name: []byte("web"),
		Labels: labels("app", "web"), Annotations: labels("owner", "ada"),
	}
	clusterWide := Object{
		Name:   []byte("one"),
		Labels: labels("zone", "a"), Annotations: labels("rack", "7"),
	}
	runBuildTests(t, []buildTest{
		{
			name: "pod", kind: podKind, object: namespaced,
			want: []string{
				`t_pod_labels{label_app="web",namespace="production",pod="web",resource_type="pod"}`,
				`t_pod_annotations{label_owner="ada",namespace="production",pod="web",resource_type="pod"}`,
			},
		},
		{
			name: "namespace", kind: namespaceKind, object: clusterWide,
			want: []string{
				`t_namespace_labels{label_zone="a",namespace="one",resource_type="namespace"}`,
				`t_namespace_annotations{label_rack="7",namespace="one",resource_type="namespace"}`,
			},
		},
		{
			name: "node", kind: nodeKind, object: clusterWide,
			want: []string{
				`t_node_labels{label_zone="a",node="one",resource_type="node"}`,
				`t_node_annotations{label_rack="7",node="one",resource_type="node"}`,
			},
		},
		{
			name: "other kind in namespaces", kind: deploymentKind, object: namespaced,
			want: []string{
				`t_deployment_labels{label_app="web",namespace="production",resource_type="deployment",workload="web"}`,
				`t_deployment_annotations{label_owner="ada",namespace="production",resource_type="deployment",workload="web"}`,
			},
		},
		{
			name: "other kind of the cluster", kind: pvKind, object: clusterWide,
			want: []string{
				`t_pv_labels{label_zone="a",resource_type="pv",workload="one"}`,
				`t_pv_annotations{label_rack="7",resource_type="pv",workload="one"}`,
			},
		},
		{
			name: "kind named with its group", kind: knativeKind, object: namespaced,
			want: []string{
				`t_service_serving_knative_dev_labels{label_app="web",namespace="production",resource_type="service.serving.knative.dev",workload="web"}`,
				`t_service_serving_knative_dev_annotations{label_owner="ada",namespace="production",resource_type="service.serving.knative.dev",workload="web"}`,
			},
		},
		{
			name: "annotations only", kind: only(podKind, false, true), object: namespaced,
			want: []string{`t_pod_annotations{label_owner="ada",namespace="production",pod="web",resource_type="pod"}`},
		},
		{
			name: "no prefix", kind: podKind, object: namespaced,
			config: func(cfg *config.Config) { cfg.MetricPrefix = "" },
			want: []string{
				`pod_labels{label_app="web",namespace="production",pod="web",resource_type="pod"}`,
				`pod_annotations{label_owner="ada",namespace="production",pod="web",resource_type="pod"}`,
			},
		},
		{
			name: "namespaced kind whose object names no namespace", kind: podKind,
			object: Object{Name: []byte("web"), Labels: labels("app", "web")},
			want: []string{
				`t_pod_labels{label_app="web",pod="web",resource_type="pod"}`,
				`t_pod_annotations{pod="web",resource_type="pod"}`,
			},
		},
		{
			name: "identity that is not UTF-8", kind: podKind,
			object: Object{Namespace: []byte("a\xffb"), Name: []byte("\xfe")},
			want: []string{
				"t_pod_labels{namespace=\"a\uFFFDb\",pod=\"\uFFFD\",resource_type=\"pod\"}",
				"t_pod_annotations{namespace=\"a\uFFFDb\",pod=\"\uFFFD\",resource_type=\"pod\"}",
			},
		},
	})
}

func TestBuildFilters(t *testing.T) {
	object := Object{
		Namespace: []byte("production"), Name: []byte("web-1"),
		Labels:      labels("app", "web", "example.com/team", "core", "team", "platform", "unmatched", "x"),
		Annotations: labels("app", "web", "team", "platform", "team-secret", "s"),
	}
	filter := func(filters, exclude config.Patterns) func(*config.Config) {
		return func(cfg *config.Config) { cfg.Labels.Filters, cfg.Labels.Exclude = filters, exclude }
	}
	withLabels := only(podKind, true, false)
	runBuildTests(t, []buildTest{
		{
			name: "matched anywhere in the key", kind: withLabels, object: object,
			config: filter(patterns("team"), nil),
			want:   []string{`t_pod_labels{label_example.com/team="core",label_team="platform",namespace="production",pod="web-1",resource_type="pod"}`},
		},
		{
			name: "exclude wins", kind: withLabels, object: object,
			config: filter(patterns("team", "app"), patterns("/", "^app$")),
			want:   []string{`t_pod_labels{label_team="platform",namespace="production",pod="web-1",resource_type="pod"}`},
		},
		{
			name: "labels and annotations each have theirs", kind: podKind, object: object,
			config: func(cfg *config.Config) {
				cfg.Labels.Filters = patterns("^app$")
				cfg.Annotations.Filters = patterns("team")
				cfg.Annotations.Exclude = patterns("secret$")
			},
			want: []string{
				`t_pod_labels{label_app="web",namespace="production",pod="web-1",resource_type="pod"}`,
				`t_pod_annotations{label_team="platform",namespace="production",pod="web-1",resource_type="pod"}`,
			},
		},
		{
			name: "both series exist where no key passed", kind: podKind, object: object,
			config: func(cfg *config.Config) {
				cfg.Labels.Filters = patterns("^none$")
				cfg.Annotations.Exclude = patterns("")
			},
			want: []string{
				`t_pod_labels{namespace="production",pod="web-1",resource_type="pod"}`,
				`t_pod_annotations{namespace="production",pod="web-1",resource_type="pod"}`,
			},
		},
		{
			name: "what a conversion to apps/v1 has added", kind: podKind,
			object: Object{
				Namespace: []byte("n"), Name: []byte("p"),
				Labels: labels("deprecated.daemonset.template.generation", "2", "deprecated.other", "1"),
				Annotations: labels("a", "1", "deprecated.daemonset.template.generation", "2",
					"deprecated.deployment.rollback.to", "3", "deprecated.deployment.rollback.tox", "4"),
			},
			want: []string{
				`t_pod_labels{label_deprecated.other="1",namespace="n",pod="p",resource_type="pod"}`,
				`t_pod_annotations{label_a="1",label_deprecated.deployment.rollback.tox="4",namespace="n",pod="p",resource_type="pod"}`,
			},
		},
		{
			name: "what no filter passes is not counted as dropped", kind: withLabels,
			config: func(cfg *config.Config) {
				cfg.Labels.Filters = patterns("^keep")
				cfg.ValueMaxBytes = 4
			},
			object: Object{Namespace: []byte("n"), Name: []byte("p"), Labels: labels(
				"empty", "", "keep-empty", "",
				"unsafe", "<", "keep-unsafe", "<",
				"long", "12345", "keep-long", "12345",
			)},
			want:  []string{`t_pod_labels{label_keep-long="1234",namespace="n",pod="p",resource_type="pod"}`},
			drops: Drops{Empty: 1, Unsafe: 1, Truncated: 1},
		},
	})
}

func TestBuildValues(t *testing.T) {
	kind := only(nodeKind, true, false)
	object := func(values ...string) Object {
		o := Object{Name: []byte("n")}
		for i, value := range values {
			o.Labels = append(o.Labels, KeyValue{Key: []byte{byte('a' + i)}, Value: []byte(value)})
		}
		return o
	}
	series := func(labels string) []string {
		return []string{`t_node_labels{` + labels + `node="n",resource_type="node"}`}
	}
	limit := func(n int) func(*config.Config) {
		return func(cfg *config.Config) { cfg.ValueMaxBytes = n }
	}
	runBuildTests(t, []buildTest{
		{
			name: "empty", kind: kind, object: object("", "x", ""),
			want: series(`label_b="x",`), drops: Drops{Empty: 2},
		},
		{
			name: "what HTML escapes, each", kind: kind,
			object: object(`<`, `>`, `&`, `'`, `"`, `safe`),
			want:   series(`label_f="safe",`), drops: Drops{Unsafe: 5},
		},
		{
			name: "what HTML escapes, at either end and within", kind: kind,
			object: object("a<", ">a", "a longer text, with & in it", "ä'ö", `{"json":1}`, "; ` / = % + \\ # \x00\t"),
			want:   series(`label_f="; ` + "`" + ` / = % + \\ # \x00\t",`), drops: Drops{Unsafe: 5},
		},
		{
			name: "unsafe kept", kind: kind,
			config: func(cfg *config.Config) { cfg.UnsafeValues = config.UnsafeValuesKeep },
			object: object(`<a href="x">&'`, `{"json":1}`),
			want:   series(`label_a="<a href=\"x\">&'",label_b="{\"json\":1}",`),
		},
		{
			name: "cut before a rune that does not fit", kind: kind, config: limit(6),
			object: object("1234é6", "12345é", "1234€", "123456é", "12😀x", "123😀"),
			want:   series(`label_a="1234é",label_b="12345",label_c="1234",label_d="123456",label_e="12😀",label_f="123",`),
			drops:  Drops{Truncated: 6},
		},
		{
			name: "limit below the first rune leaves nothing", kind: kind, config: limit(1),
			object: object("é", "e", "😀"),
			want:   series(`label_b="e",`), drops: Drops{Truncated: 2},
		},
		{
			name: "not UTF-8", kind: kind,
			object: object("\xff", "a\xc3", "a\xe2\x82b", "\xed\xa0\x80", "\uFFFD"),
			want: series("label_a=\"\uFFFD\",label_b=\"a\uFFFD\",label_c=\"a\uFFFDb\"," +
				"label_d=\"\uFFFD\",label_e=\"\uFFFD\","),
		},
		{
			name: "cut after the replacement, which is longer", kind: kind, config: limit(5),
			object: object("ab\xff", "abc\xff", "\xffa\xffb"),
			want:   series("label_a=\"ab\uFFFD\",label_b=\"abc\",label_c=\"\uFFFDa\","),
			drops:  Drops{Truncated: 2},
		},
	})
}

func TestBuildExternalLabels(t *testing.T) {
	external := func(pairs config.Pairs) func(*config.Config) {
		return func(cfg *config.Config) { cfg.ExternalLabels = pairs }
	}
	pod := Object{Namespace: []byte("n"), Name: []byte("p"), Labels: labels("app", "web", "team", "core")}
	node := Object{Name: []byte("one")}
	withLabels := only(podKind, true, false)
	runBuildTests(t, []buildTest{
		{
			name: "sorted around the labels", kind: withLabels, object: pod,
			config: external(config.Pairs{
				"zone": "z", "A": "upper", "cluster": "c", "label": "before", "labels": "after", "_x": "y", "region": "r",
			}),
			want: []string{`t_pod_labels{A="upper",_x="y",cluster="c",label="before",label_app="web",label_team="core",` +
				`labels="after",namespace="n",pod="p",region="r",resource_type="pod",zone="z"}`},
		},
		{
			name: "the object's identity goes before", kind: withLabels, object: pod,
			config: external(config.Pairs{
				"__name__": "x", "resource_type": "x", "pod": "x", "namespace": "x", "cluster": "c",
			}),
			want: []string{`t_pod_labels{cluster="c",label_app="web",label_team="core",namespace="n",pod="p",resource_type="pod"}`},
		},
		{
			name: "a kind without that identity has them", kind: only(nodeKind, true, false), object: node,
			config: external(config.Pairs{"pod": "x", "namespace": "y", "node": "z"}),
			want:   []string{`t_node_labels{namespace="y",node="one",pod="x",resource_type="node"}`},
		},
		{
			name: "named like a label, which goes before", kind: withLabels, object: pod,
			config: external(config.Pairs{"label_app": "x", "label_b": "y", "label_zone": "z", "label_": "w"}),
			want: []string{`t_pod_labels{label_="w",label_app="web",label_b="y",label_team="core",label_zone="z",` +
				`namespace="n",pod="p",resource_type="pod"}`},
		},
		{
			name: "named like a label that was left out", kind: withLabels,
			object: Object{Namespace: []byte("n"), Name: []byte("p"), Labels: labels("app", "", "team", "<")},
			config: external(config.Pairs{"label_app": "x", "label_team": "y"}),
			want:   []string{`t_pod_labels{label_app="x",label_team="y",namespace="n",pod="p",resource_type="pod"}`},
			drops:  Drops{Empty: 1, Unsafe: 1},
		},
	})
}

func TestBuildRefuses(t *testing.T) {
	exclude := func(cfg *config.Config) { cfg.NamespacesExclude = config.List{"kube-system", "tmp"} }
	tests := []struct {
		name            string
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
		{"no name, no namespace", pvKind, "", "", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := NewBuilder(test.kind, testConfig(exclude))
			o := &Object{
				Namespace: []byte(test.namespace), Name: []byte(test.text),
				Labels: labels("empty", "", "unsafe", "<"),
			}
			r, ok := b.Build(o)
			if ok != test.want || (r != nil) != test.want {
				t.Errorf("record %v, %v; want %v", r, ok, test.want)
			}
			want := Drops{}
			if test.want {
				want = Drops{Empty: 1, Unsafe: 1}
			}
			if drops := b.TakeDrops(); drops != want {
				t.Errorf("drops %+v, want %+v", drops, want)
			}
		})
	}
}

// TestBuildLeavesTheObjectAlone pins that a source may hand its buffers over.
func TestBuildLeavesTheObjectAlone(t *testing.T) {
	object := func() *Object {
		return &Object{
			Namespace: []byte("n\xff"), Name: []byte("p\xff"),
			Labels:      labels("z", "12345678", "a.b", "\xff", "a/b", "", "a.b", "<"),
			Annotations: labels("k", "v"),
		}
	}
	b := NewBuilder(podKind, testConfig(underscoreNames, func(cfg *config.Config) { cfg.ValueMaxBytes = 4 }))
	o := object()
	if _, ok := b.Build(o); !ok {
		t.Fatal("no record")
	}
	if diff := cmp.Diff(object(), o); diff != "" {
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
				escaped, ascii := scan(value)
				if want := strings.IndexByte("<>&'\"", byte(c)) >= 0; escaped != want {
					t.Fatalf("%q at %d of %d bytes: escaped %v, want %v", byte(c), at, length, escaped, want)
				}
				if want := c < 0x80 && length <= shortValue; ascii != want {
					t.Fatalf("%q at %d of %d bytes: ascii %v, want %v", byte(c), at, length, ascii, want)
				}
			}
			value[at] = 'a'
		}
	}
}
