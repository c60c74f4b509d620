// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"labelstream/config"
	"labelstream/record"
)

// TestKubeStateMetricsNaming has the names that kube-state-metrics gives, and such
// as it would give. No name of an object may be taken for its namespace, or for one
// of its labels.
func TestKubeStateMetricsNaming(t *testing.T) {
	for _, test := range []struct {
		resource, kind, singular string
		metric, nameLabel        string
		uid                      bool
	}{
		{"pods", "Pod", "pod", "pod", "pod", true},
		{"services", "Service", "", "service", "service", true},
		{"serviceaccounts", "ServiceAccount", "", "serviceaccount", "serviceaccount", true},
		{"namespaces", "Namespace", "", "namespace", "namespace", false},
		{"persistentvolumeclaims", "PersistentVolumeClaim", "", "persistentvolumeclaim", "persistentvolumeclaim", false},
		{"endpoints", "Endpoints", "endpoints", "endpoint", "endpoint", false},
		{"limitranges", "LimitRange", "", "limitrange", "limitrange", false},
		{"deployments.apps", "Deployment", "", "deployment", "deployment", false},
		{"jobs.batch", "Job", "", "job", "job_name", false},
		{"cronjobs.batch", "CronJob", "", "cronjob", "cronjob", false},
		{"controllerrevisions.apps", "ControllerRevision", "", "apps_controllerrevision", "controllerrevision", false},
		{"pods.metrics.k8s.io", "PodMetrics", "", "metrics.k8s.io_podmetrics", "podmetrics", false},
		{"services.serving.knative.dev", "Service", "service", "serving.knative.dev_service", "service", false},
		{"namespaces.example.com", "Namespace", "namespace", "example.com_namespace", "name", false},
		{"uids.example.com", "UID", "", "example.com_uid", "name", false},
		{"label-sets.example.com", "LabelSet", "label-set", "example.com_label_set", "name", false},
	} {
		gr := schema.ParseGroupResource(test.resource)
		want := record.Kind{Resource: test.resource, Metric: test.metric, NameLabel: test.nameLabel, Namespaced: true, UID: test.uid}
		got := naming(gr, &metav1.APIResource{Kind: test.kind, SingularName: test.singular, Namespaced: true}, config.FormKubeStateMetrics)
		if got != want {
			t.Errorf("%s is named %+v, want %+v", test.resource, got, want)
		}
	}
}
