// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"labelstream/config"
	"labelstream/record"
)

const (
	// workloadLabel names the objects of most kinds.
	workloadLabel = "workload"
	// namespaceLabel names the objects that are namespaces themselves.
	namespaceLabel = "namespace"
)

// wellKnown are the kinds that have a name without their group, as the
// backends know them.
var wellKnown = []struct{ group, plural, name, nameLabel string }{
	{"", "pods", "pod", "pod"},
	{"", "namespaces", "namespace", namespaceLabel},
	{"", "nodes", "node", "node"},
	{"", "persistentvolumes", "pv", workloadLabel},
	{"", "persistentvolumeclaims", "pvc", workloadLabel},
	{"apps", "deployments", "deployment", workloadLabel},
	{"apps", "statefulsets", "statefulset", workloadLabel},
	{"apps", "daemonsets", "daemonset", workloadLabel},
	{"apps", "replicasets", "replicaset", workloadLabel},
	{"batch", "jobs", "job", workloadLabel},
	{"batch", "cronjobs", "cronjob", workloadLabel},
	{"networking.k8s.io", "ingresses", "ingress", workloadLabel},
	{"storage.k8s.io", "storageclasses", "storageclass", workloadLabel},
	{"apiextensions.k8s.io", "customresourcedefinitions", "crd", workloadLabel},
}

// naming names a kind in series: the well-known and core ones by their
// singular, any other with its group too, since a Knative service is no core
// service.
func naming(gr schema.GroupResource, resource *metav1.APIResource, form config.Form) record.Kind {
	if form == config.FormKubeStateMetrics {
		return kubeStateMetricsNaming(gr, resource)
	}
	kind := record.Kind{Resource: gr.String(), Namespaced: resource.Namespaced, NameLabel: workloadLabel}
	for _, k := range wellKnown {
		if k.group == gr.Group && k.plural == gr.Resource {
			kind.Type, kind.Metric, kind.NameLabel = k.name, k.name, k.nameLabel
			return kind
		}
	}
	name := singular(resource)
	kind.Type, kind.Metric = name, name
	if gr.Group != "" {
		kind.Type, kind.Metric = name+"."+gr.Group, name+"_"+gr.Group
	}
	return kind
}

func singular(resource *metav1.APIResource) string {
	if resource.SingularName != "" {
		return resource.SingularName
	}
	return strings.ToLower(resource.Kind)
}

// inKubeStateMetrics are the resources outside the core group that
// kube-state-metrics v2 has labels or annotations of.
var inKubeStateMetrics = map[string][]string{
	"apps":                      {"daemonsets", "deployments", "replicasets", "statefulsets"},
	"autoscaling":               {"horizontalpodautoscalers"},
	"batch":                     {"cronjobs", "jobs"},
	"certificates.k8s.io":       {"certificatesigningrequests"},
	"discovery.k8s.io":          {"endpointslices"},
	"networking.k8s.io":         {"ingressclasses", "ingresses", "networkpolicies"},
	"policy":                    {"poddisruptionbudgets"},
	"rbac.authorization.k8s.io": {"clusterrolebindings", "clusterroles", "rolebindings", "roles"},
	"storage.k8s.io":            {"storageclasses", "volumeattachments"},
}

// kubeStateMetricsLabels are the labels with an object's name that are not called
// like its kind, by resource.
var kubeStateMetricsLabels = map[string]string{"jobs.batch": "job_name", "endpoints": "endpoint"}

// withUID are the resources whose series have a label "uid" in kube-state-metrics.
var withUID = []string{"pods", "serviceaccounts", "services"}

// withOwners are the resources whose owners kube-state-metrics has in the form of
// kube_pod_owner.
var withOwners = []string{"pods", "replicasets.apps", "replicationcontrollers", "jobs.batch"}

// notInLabelName is what the classic Prometheus label name does not allow.
var notInLabelName = regexp.MustCompile(`[^a-zA-Z0-9_]`)

// otherLabel begins a label that is not the object's name, or is one.
var otherLabel = regexp.MustCompile(`^(label_|annotation_|namespace$|uid$)`)

// kubeStateMetricsNaming names a kind as kube-state-metrics v2 does. A kind that
// it does not know is named in the same spirit, with its group.
func kubeStateMetricsNaming(gr schema.GroupResource, resource *metav1.APIResource) record.Kind {
	name := notInLabelName.ReplaceAllLiteralString(singular(resource), "_")
	kind := record.Kind{
		Resource: gr.String(), Namespaced: resource.Namespaced, UID: gr.Group == "" && slices.Contains(withUID, gr.Resource),
		Metric: name, NameLabel: cmp.Or(kubeStateMetricsLabels[gr.String()], name),
	}
	switch {
	case gr.String() == "endpoints":
		kind.Metric = "endpoint"
	case gr.Group != "" && !slices.Contains(inKubeStateMetrics[gr.Group], gr.Resource):
		kind.Metric = gr.Group + "_" + name
		if otherLabel.MatchString(name) {
			kind.NameLabel = "name"
		}
	}
	return kind
}
