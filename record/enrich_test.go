// SPDX-License-Identifier: Apache-2.0

package record

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"labelstream/config"
)

func owner(kind, name string, isController bool) Owner {
	return Owner{Kind: []byte(kind), Name: []byte(name), IsController: isController}
}

// cronJobs says of the job "nightly-1" that a CronJob has made it.
type cronJobs struct{}

func (cronJobs) Workload(namespace, job []byte) *Owner {
	if string(namespace)+"/"+string(job) != "n/nightly-1" {
		return nil
	}
	above := owner("CronJob", "nightly", true)
	return &above
}

func withOwners(cfg *config.Config) {
	cfg.OwnerLabels, cfg.Labels.Added = true, []string{"owner_kind", "owner_name", "workload_kind", "workload_name"}
}

// TestEnrich shows the labels of a pod, as "[{key value} …]".
func TestEnrich(t *testing.T) {
	inherits := func(cfg *config.Config) {
		cfg.InheritNamespaceLabels, cfg.InheritedLabel = patterns("team", "cost"), "inherited"
	}
	renames := func(cfg *config.Config) {
		cfg.Rename = config.Renames{{From: "Team", To: "team"}, {From: "x.io/team", To: "team"}, {From: "a", To: "z"}}
		cfg.LowercaseValues = patterns("^team$")
	}
	owned := func(owners ...Owner) *Object { return &Object{Owners: owners, Labels: labels("p", "1")} }
	workload := func(kind, name, workloadKind, workloadName string) string {
		return fmt.Sprintf("[{owner_kind %s} {owner_name %s} {p 1} {workload_kind %s} {workload_name %s}]", kind, name, workloadKind, workloadName)
	}
	hashed := func(label, value, replicaSet string) *Object {
		return &Object{Owners: []Owner{owner("ReplicaSet", replicaSet, true)}, Labels: labels(label, value)}
	}
	for name, test := range map[string]struct {
		config    func(*config.Config)
		object    *Object
		inherited []KeyValue
		want      string
	}{
		"nothing asked for":    {nil, owned(owner("Job", "j", true)), labels("team", "a"), "[{p 1}]"},
		"nobody's":             {withOwners, owned(), nil, "[{p 1}]"},
		"no controller":        {withOwners, owned(owner("Job", "j", false)), nil, "[{p 1}]"},
		"the controller":       {withOwners, owned(owner("Node", "x", false), owner("StatefulSet", "db", true)), nil, workload("StatefulSet", "db", "StatefulSet", "db")},
		"a job's":              {withOwners, owned(owner("Job", "j", true)), nil, workload("Job", "j", "Job", "j")},
		"a cron job's":         {withOwners, owned(owner("Job", "nightly-1", true)), nil, workload("Job", "nightly-1", "CronJob", "nightly")},
		"a bare replica set's": {withOwners, owned(owner("ReplicaSet", "web-5", true)), nil, workload("ReplicaSet", "web-5", "ReplicaSet", "web-5")},
		"a deployment's": {withOwners, hashed("pod-template-hash", "5f", "web-5f"), nil,
			"[{owner_kind ReplicaSet} {owner_name web-5f} {pod-template-hash 5f} {workload_kind Deployment} {workload_name web}]"},
		"a rollout's": {withOwners, hashed("rollouts-pod-template-hash", "5f", "web-5f"), nil,
			"[{owner_kind ReplicaSet} {owner_name web-5f} {rollouts-pod-template-hash 5f} {workload_kind Rollout} {workload_name web}]"},
		"another hash": {withOwners, hashed("pod-template-hash", "6a", "web-5f"), nil,
			"[{owner_kind ReplicaSet} {owner_name web-5f} {pod-template-hash 6a} {workload_kind ReplicaSet} {workload_name web-5f}]"},
		"only a hash": {withOwners, hashed("pod-template-hash", "5f", "-5f"), nil,
			"[{owner_kind ReplicaSet} {owner_name -5f} {pod-template-hash 5f} {workload_kind ReplicaSet} {workload_name -5f}]"},
		"as kube-state-metrics": {func(cfg *config.Config) { withOwners(cfg); kubeStateMetrics(cfg) }, owned(owner("Job", "j", true)), nil,
			"[{p 1} {workload_kind Job} {workload_name j}]"},
		"own labels stay": {func(cfg *config.Config) { withOwners(cfg); inherits(cfg) },
			&Object{Owners: []Owner{owner("Job", "j", true)}, Labels: labels("owner_kind", "me", "team", "own")}, labels("cost", "7", "team", "a", "unit", "u"),
			"[{cost 7} {inherited cost,unit} {owner_kind me} {owner_name j} {team own} {unit u} {workload_kind Job} {workload_name j}]"},
		"nothing to inherit": {inherits, &Object{Labels: labels("team", "own")}, labels("team", "a"), "[{team own}]"},
		"renamed":            {renames, &Object{Labels: labels("a", "1", "b", "X", "x.io/team", "CORE")}, nil, "[{b X} {team core} {z 1}]"},
		"the first written":  {renames, &Object{Labels: labels("Team", "One", "x.io/team", "two")}, nil, "[{team one}]"},
		"the key itself":     {renames, &Object{Labels: labels("Team", "one", "team", "Three", "x.io/team", "two")}, nil, "[{team three}]"},
		"renamed, no heir": {func(cfg *config.Config) { renames(cfg); inherits(cfg) }, &Object{Labels: labels("Team", "One")}, labels("team", "a"),
			"[{team one}]"},
	} {
		t.Run(name, func(t *testing.T) {
			e := NewEnricher(testConfig(test.config), cronJobs{})
			test.object.Namespace = []byte("n")
			for range 2 { // the second time from memory
				if got := fmt.Sprintf("%s", e.Enrich(test.object, test.inherited).Labels); got != test.want {
					t.Errorf("%s\nwant %s", got, test.want)
				}
			}
		})
	}
}

// TestInheritable are the labels of a namespace under the keys that others have.
func TestInheritable(t *testing.T) {
	e := NewEnricher(testConfig(func(cfg *config.Config) {
		cfg.InheritNamespaceLabels, cfg.Rename = patterns("^team$"), config.Renames{{From: "Team", To: "team"}}
	}), nil)
	if got := fmt.Sprintf("%s", e.Inheritable(&Object{Labels: labels("Team", "a", "steam", "b")})); got != "[{team a}]" {
		t.Errorf("inheritable: %s", got)
	}
}

// TestEnrichAllocatesNothing has all of it at once.
func TestEnrichAllocatesNothing(t *testing.T) {
	e := NewEnricher(testConfig(withOwners, func(cfg *config.Config) {
		cfg.InheritNamespaceLabels, cfg.InheritedLabel = patterns("tenant"), "inherited"
		cfg.Rename = config.Renames{{From: "team", To: "owner"}}
	}), cronJobs{})
	o, inherited := realisticPod(), labels("tenant", "a")
	o.Owners = []Owner{owner("ReplicaSet", "checkout-api-7d9f8c6b5d", true)}
	if n := testing.AllocsPerRun(100, func() { e.Enrich(o, inherited) }); n != 0 {
		t.Errorf("%v allocations an object, want 0", n)
	}
}

// TestBuildOwners has a series for each owner, and one for none. What is added needs no
// filter.
func TestBuildOwners(t *testing.T) {
	ownedKind := kind("pods", "", "pod", "pod", true)
	ownedKind.UID, ownedKind.Owners, ownedKind.Annotations = true, true, false
	o := &Object{Namespace: []byte("n"), Name: []byte("p"), UID: []byte("u"), Labels: labels("workload_kind", "Job", "x", "1")}
	cfg := testConfig(withOwners, kubeStateMetrics, func(cfg *config.Config) {
		cfg.Labels.Filters, cfg.ExternalLabels = patterns("^team$"), config.Pairs{"cluster": "c"}
	})
	b := NewBuilder(ownedKind, cfg, nil)
	const identity, base = `namespace="n",pod="p",uid="u"}`, `kube_pod_labels{cluster="c",label_workload_kind="Job",`
	want := []string{base + identity, `kube_pod_owner{cluster="c",` + identity}
	if diff := cmp.Diff(want, build(t, b, o)); diff != "" {
		t.Errorf("nobody's (-want +got):\n%s", diff)
	}
	o.Owners = []Owner{owner("Job", "j", true), owner("Node", "x", false), owner("Job", "j", true)}
	want = []string{base + identity,
		`kube_pod_owner{cluster="c",namespace="n",owner_is_controller="true",owner_kind="Job",owner_name="j",pod="p",uid="u"}`,
		`kube_pod_owner{cluster="c",namespace="n",owner_is_controller="false",owner_kind="Node",owner_name="x",pod="p",uid="u"}`}
	if diff := cmp.Diff(want, build(t, b, o)); diff != "" {
		t.Errorf("owned (-want +got):\n%s", diff)
	}
}
