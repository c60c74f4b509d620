// SPDX-License-Identifier: Apache-2.0

package record

import (
	"fmt"
	"strings"
	"testing"

	"labelstream/config"
)

// realisticPod has what a workload controller, Helm and a mesh leave on a pod:
// ten labels and four annotations, sorted by key as an API server sends them.
func realisticPod() *Object {
	return &Object{
		Namespace: []byte("checkout-production"),
		Name:      []byte("checkout-api-7d9f8c6b5d-x2x7k"),
		Labels: labels(
			"app", "checkout-api",
			"app.kubernetes.io/component", "api",
			"app.kubernetes.io/instance", "checkout-production",
			"app.kubernetes.io/managed-by", "Helm",
			"app.kubernetes.io/name", "checkout-api",
			"app.kubernetes.io/version", "2.41.0",
			"cost-center", "cc-4711",
			"environment", "production",
			"pod-template-hash", "7d9f8c6b5d",
			"team", "payments",
		),
		Annotations: labels(
			"checksum/config", "0f343b0931126a20f133d67c2b018a3b5d0a3b1e7f5c2d4a6b8c9d0e1f2a3b4c",
			"kubectl.kubernetes.io/restartedAt", "2026-03-01T09:30:00Z",
			"prometheus.io/port", "9090",
			"prometheus.io/scrape", "true",
		),
	}
}

// buildCase is one of the ways in which Build runs once for each object.
type buildCase struct {
	kind   *Kind
	config *config.Config
}

func buildCases() map[string]buildCase {
	external := func(cfg *config.Config) {
		cfg.NamespacesExclude = config.List{"kube-system"}
		cfg.ExternalLabels = config.Pairs{"cluster": "eu-1", "label_cloud": "one", "region": "eu"}
	}
	return map[string]buildCase{
		"labels":                 {only(podKind, true, false), testConfig()},
		"annotations":            {podKind, testConfig()},
		"underscore":             {only(podKind, true, false), testConfig(underscoreNames)},
		"underscore-annotations": {podKind, testConfig(underscoreNames)},
		"external-labels":        {podKind, testConfig(external)},
		"cut":                    {podKind, testConfig(func(cfg *config.Config) { cfg.ValueMaxBytes = 8 })},
	}
}

func TestBuildAllocatesNothing(t *testing.T) {
	for name, c := range buildCases() {
		t.Run(name, func(t *testing.T) {
			b := NewBuilder(c.kind, c.config, nil)
			o := realisticPod()
			// AllocsPerRun calls once before it counts: that grows the buffers.
			if n := testing.AllocsPerRun(100, func() { b.Build(o) }); n != 0 {
				t.Errorf("%v allocations an object, want 0", n)
			}
		})
	}
}

// workloads returns pods of five workloads, one workload after the other as a list
// has them: ten pods have the same labels.
func workloads() []*Object {
	var pods []*Object
	for i := range 50 {
		pod := realisticPod()
		pod.Name = fmt.Appendf(nil, "%s-%d", pod.Name, i)
		pod.Labels[0].Value = fmt.Appendf(nil, "app-%d", i/10)
		pod.Labels[8].Value = fmt.Appendf(nil, "7d9f8c6b5%d", i/10)
		pods = append(pods, pod)
	}
	return pods
}

// mixed returns pods that differ from each other in half of their keys, and in all
// of their values.
func mixed() []*Object {
	var pods []*Object
	for i := range 50 {
		pod := realisticPod()
		for j := range pod.Labels {
			l := &pod.Labels[j]
			l.Value = fmt.Appendf(nil, "%s-%02d", l.Value, i)
			if j%2 == 0 {
				l.Key = fmt.Appendf(nil, "%s-%02d", l.Key, i)
			}
		}
		pods = append(pods, pod)
	}
	return pods
}

func BenchmarkBuild(b *testing.B) {
	for _, bench := range []struct {
		name, config string
		pods         []*Object
	}{
		{"alike", "labels", workloads()},
		{"mixed", "labels", mixed()},
		{"annotations", "annotations", workloads()},
		{"underscore", "underscore", mixed()},
		{"external-labels", "external-labels", workloads()},
	} {
		b.Run(bench.name, func(b *testing.B) {
			c := buildCases()[bench.config]
			builder := NewBuilder(c.kind, c.config, nil)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				builder.Build(bench.pods[i%len(bench.pods)])
			}
		})
	}
}

// BenchmarkEnrich is what each setting adds to BenchmarkBuild/alike.
func BenchmarkEnrich(b *testing.B) {
	pods, tenant := workloads(), labels("tenant", "a")
	for i, pod := range pods {
		pod.Owners = []Owner{owner("ReplicaSet", fmt.Sprintf("checkout-api-7d9f8c6b5%d", i/10), true)}
	}
	for name, change := range map[string]func(*config.Config){
		"owners":    withOwners,
		"inherited": func(cfg *config.Config) { cfg.InheritNamespaceLabels = patterns("tenant") },
		"renamed":   func(cfg *config.Config) { cfg.Rename = config.Renames{{From: "team", To: "owner"}} },
	} {
		b.Run(name, func(b *testing.B) {
			cfg := testConfig(change)
			e, builder := NewEnricher(cfg, nil), NewBuilder(only(podKind, true, false), cfg, nil)
			inherited := tenant
			if len(cfg.InheritNamespaceLabels) == 0 {
				inherited = nil
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				builder.Build(e.Enrich(pods[i%len(pods)], inherited))
			}
		})
	}
}

// BenchmarkBuildLongAnnotation has the size that an object's annotations may
// reach together, in one: all of it is searched, little of it is sent.
func BenchmarkBuildLongAnnotation(b *testing.B) {
	builder := NewBuilder(only(podKind, false, true), testConfig(), nil)
	o := realisticPod()
	value := strings.Repeat("status ok; ", 256<<10/11)
	o.Annotations = append(o.Annotations, labels("zz", value)...)
	b.SetBytes(int64(len(value)))
	b.ReportAllocs()
	for b.Loop() {
		builder.Build(o)
	}
}
