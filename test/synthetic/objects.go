// SPDX-License-Identifier: Apache-2.0

package synthetic

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

type workload struct{ name, component, environment string }

// workloads are sorted by name. No name is another's beginning up to a dash, or
// their pods would not follow each other in the order of names.
var workloads = []workload{
	{"admin-console", "frontend", "staging"},
	{"api-gateway", "gateway", "production"},
	{"audit-log", "worker", "production"},
	{"basket-service", "backend", "production"},
	{"catalog-search", "backend", "production"},
	{"checkout-api", "backend", "production"},
	{"currency-rates", "backend", "staging"},
	{"email-sender", "worker", "production"},
	{"feature-flags", "backend", "development"},
	{"fraud-scoring", "worker", "production"},
	{"image-resizer", "worker", "production"},
	{"inventory-sync", "worker", "staging"},
	{"invoice-export", "worker", "production"},
	{"login-page", "frontend", "production"},
	{"metrics-relay", "telemetry", "production"},
	{"notification-hub", "worker", "production"},
	{"order-history", "backend", "staging"},
	{"price-engine", "backend", "production"},
	{"recommendation-ranker", "worker", "development"},
	{"returns-portal", "frontend", "production"},
	{"session-store", "cache", "production"},
	{"stock-ticker", "backend", "development"},
	{"tax-calculator", "backend", "production"},
	{"warehouse-planner", "worker", "staging"},
}

var epoch = time.Date(2026, time.March, 2, 8, 0, 0, 0, time.UTC)

// podMeta is the metadata of a pod of workload w, about 1.3 KB of it without
// the annotations that extra asks for, in bytes.
func podMeta(w int, v *values, extra int) metav1.ObjectMeta {
	owner := workloads[w].name + "-" + v.text(fieldHash)
	created := metav1.NewTime(epoch.Add(time.Duration(w) * 7919 * time.Second))
	started := metav1.NewTime(created.Add(11 * time.Second))
	yes := true
	return metav1.ObjectMeta{
		Name:              owner + "-" + v.text(fieldSuffix),
		GenerateName:      owner + "-",
		Namespace:         v.text(fieldNamespace),
		UID:               types.UID(v.text(fieldUID)),
		ResourceVersion:   v.text(fieldVersion),
		CreationTimestamp: created,
		Labels:            podLabels(w, v),
		Annotations:       podAnnotations(w, v, extra),
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: "apps/v1", Kind: "ReplicaSet", Name: owner, UID: types.UID(v.text(fieldOwnerUID)),
			Controller: &yes, BlockOwnerDeletion: &yes,
		}},
		ManagedFields: []metav1.ManagedFieldsEntry{
			managed("kube-controller-manager", "", created, `{"f:metadata":{"f:generateName":{},"f:labels":{".":{},"f:app.kubernetes.io/name":{},"f:pod-template-hash":{},"f:team":{}},`+
				`"f:ownerReferences":{".":{},"k:{\"uid\":\"`+v.text(fieldOwnerUID)+`\"}":{}}},"f:spec":{"f:containers":{},"f:restartPolicy":{}}}`),
			managed("kubelet", "status", started, kubeletFields),
		},
	}
}

const kubeletFields = `{"f:status":{"f:conditions":{"k:{\"type\":\"Ready\"}":{".":{},"f:lastProbeTime":{},"f:status":{},"f:type":{}}},` +
	`"f:containerStatuses":{},"f:hostIP":{},"f:phase":{},"f:podIP":{},"f:podIPs":{".":{},"k:{\"ip\":\"10.64.0.1\"}":{".":{},"f:ip":{}}},"f:startTime":{}}}`

func managed(manager, subresource string, at metav1.Time, fields string) metav1.ManagedFieldsEntry {
	return metav1.ManagedFieldsEntry{
		Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1",
		Time: &at, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields), Subresource: subresource,
	}
}

// podLabels are eight to ten, some of one value in the cluster, some of one
// per ReplicaSet, one of one per pod.
func podLabels(w int, v *values) map[string]string {
	labels := map[string]string{
		"app.kubernetes.io/name":       workloads[w].name,
		"app.kubernetes.io/instance":   workloads[w].name + "-" + v.text(fieldNamespace),
		"app.kubernetes.io/component":  workloads[w].component,
		"app.kubernetes.io/managed-by": "Helm",
		"team":                         v.text(fieldTeam),
		"environment":                  workloads[w].environment,
		"pod-template-hash":            v.text(fieldHash),
		"example.com/replica":          v.text(fieldSuffix),
	}
	if w%3 > 0 {
		labels["app.kubernetes.io/part-of"] = v.text(fieldTeam)
	}
	if w%3 > 1 {
		labels["app.kubernetes.io/version"] = fmt.Sprintf("2.%d.0", w)
	}
	return labels
}

// podAnnotations are three or four, and those of extra bytes in all, keys
// included.
func podAnnotations(w int, v *values, extra int) map[string]string {
	annotations := map[string]string{
		"prometheus.io/scrape":              "true",
		"checksum/config":                   strings.Repeat(v.text(fieldHash), 4),
		"kubectl.kubernetes.io/restartedAt": epoch.Format(time.RFC3339),
	}
	if w%2 == 1 {
		annotations["prometheus.io/port"] = "9102"
	}
	addFiller(annotations, extra)
	return annotations
}

// fillerBytes is what one of the extra annotations holds at most, its key
// included.
const fillerBytes = 32 << 10

// addFiller adds annotations of so many bytes in all, in several keys. Their text
// does not compress, which is the worst that can be sent.
func addFiller(annotations map[string]string, size int) {
	for i := 0; size > 0; i++ {
		key := fmt.Sprintf("example.com/filler-%03d", i)
		n := min(size, fillerBytes)
		text := make([]byte, max(n-len(key), 1))
		putText(text, uint64(i))
		annotations[key] = string(text)
		size -= n
	}
}
