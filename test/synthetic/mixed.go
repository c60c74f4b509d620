// SPDX-License-Identifier: Apache-2.0

package synthetic

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// mixedShapes is how many sets of keys the mixed pods have. Which one a pod has
// is chance, so two neighbours by name have hardly a key in common.
const mixedShapes = 512

// origin is what makes pods, and the labels that it puts on each.
type origin struct {
	name, ownerVersion, ownerKind string
	keys                          []string
}

var origins = []origin{
	{"db", "apps/v1", "StatefulSet", []string{
		"app.kubernetes.io/managed-by", "apps.kubernetes.io/pod-index", "cluster-name", "controller-revision-hash", "statefulset.kubernetes.io/pod-name"}},
	{"web", "apps/v1", "ReplicaSet", []string{
		"app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "app.kubernetes.io/name", "helm.sh/chart", "pod-template-hash"}},
	{"wf", "argoproj.io/v1alpha1", "Workflow", []string{
		"workflows.argoproj.io/completed", "workflows.argoproj.io/creator", "workflows.argoproj.io/workflow"}},
	{"job", "batch/v1", "Job", []string{
		"batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name", "controller-uid", "job-name"}},
	{"run", "", "", []string{"run"}},
}

// words make the keys of the other labels, with a domain or without.
var (
	words = []string{
		"app", "branch", "build", "channel", "cluster", "commit", "component", "cost-center", "customer", "data-class", "env", "flavor",
		"group", "instance", "layer", "lifecycle", "owner", "part-of", "partition", "pipeline", "product", "project", "region", "release",
		"revision", "role", "service", "shard", "squad", "stage", "team", "tenant", "tier", "topology", "track", "unit", "version", "zone",
	}
	domains = []string{
		"", "", "", "app.kubernetes.io/", "example.com/", "finops.example.com/", "k8s.acme.dev/", "networking.example.org/", "operator.acme.dev/",
		"platform.example.com/", "postgresql.example.org/", "sidecar.mesh.example.io/", "strimzi.example.io/", "topology.example.org/",
	}
)

// mixedShape is one set of keys, all of it a function of its number.
type mixedShape struct {
	origin              origin
	labels, annotations []mixedValue
}

// mixedValue is a key with the text that all pods of the shape share, or, where
// unique is not negative, with that unique value of so many bytes.
type mixedValue struct {
	key    string
	width  int
	unique int
	shared string
}

// newMixedShape has 5 to 40 labels and 2 to 9 annotations. Half of the values are
// unique as long as there are letters for them.
func newMixedShape(number int) *mixedShape {
	chance := uint64(number)
	next := func(n int) int {
		chance = mix(chance)
		return int(chance % uint64(n))
	}
	s := &mixedShape{origin: origins[number%len(origins)]}
	unique := 0
	fill := func(keys []string, count int) (all []mixedValue) {
		taken := map[string]bool{}
		for len(all) < count {
			key := domains[next(len(domains))] + words[next(len(words))]
			if len(all) < len(keys) {
				key = keys[len(all)]
			}
			if taken[key] {
				continue
			}
			taken[key] = true
			value := mixedValue{key: key, width: 3 + next(58), unique: -1}
			if next(2) == 0 && unique < len(uniqueLetters) {
				value.unique = unique
				unique++
			} else {
				text := make([]byte, value.width)
				putText(text, uint64(next(1<<30)))
				value.shared = string(text)
			}
			all = append(all, value)
		}
		return all
	}
	s.labels = fill(s.origin.keys, 5+next(36))
	s.annotations = fill(nil, 2+next(8))
	return s
}

// meta is the metadata of a pod of this shape. Its labels are sorted by key when
// it is encoded, as by an API server; so a key's place differs from one to the next.
func (s *mixedShape) meta(v *values, extra int) metav1.ObjectMeta {
	created := metav1.NewTime(epoch)
	meta := metav1.ObjectMeta{
		Name:              v.text(fieldHash) + "-" + s.origin.name + "-" + v.text(fieldSuffix),
		Namespace:         v.text(fieldNamespace),
		UID:               types.UID(v.text(fieldUID)),
		ResourceVersion:   v.text(fieldVersion),
		CreationTimestamp: created,
		Labels:            mixedTexts(s.labels, v),
		Annotations:       mixedTexts(s.annotations, v),
		ManagedFields: []metav1.ManagedFieldsEntry{
			managed("controller", "", created, fmt.Sprintf(`{"f:metadata":{"f:labels":{".":{},"f:%s":{}}}}`, s.labels[0].key)),
			managed("kubelet", "status", created, kubeletFields),
		},
	}
	if s.origin.ownerKind != "" {
		meta.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: s.origin.ownerVersion, Kind: s.origin.ownerKind, Name: v.text(fieldHash), UID: types.UID(v.text(fieldOwnerUID)),
		}}
	}
	addFiller(meta.Annotations, extra)
	return meta
}

func mixedTexts(all []mixedValue, v *values) map[string]string {
	texts := make(map[string]string, len(all))
	for _, one := range all {
		texts[one.key] = one.shared
		if one.unique >= 0 {
			texts[one.key] = v.unique(one.unique, one.width)
		}
	}
	return texts
}
