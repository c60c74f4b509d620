package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"labelstream/test/receiver"
)

// defaultKinds are all that have a name of their own in series.
var defaultKinds = []string{
	"pods", "namespaces", "nodes", "services", "persistentvolumes", "persistentvolumeclaims",
	"deployments.apps", "statefulsets.apps", "daemonsets.apps", "replicasets.apps",
	"jobs.batch", "cronjobs.batch", "ingresses.networking.k8s.io", "storageclasses.storage.k8s.io",
	"customresourcedefinitions.apiextensions.k8s.io",
}

const showcase = "showcase"

func TestKinds(t *testing.T) {
	p := shared.plane
	p.namespace(t, metav1.ObjectMeta{Name: showcase, Labels: map[string]string{"team": "namespace"}})
	p.createShowcase(t)
	p.createWorkloads(t)
	p.createCustomResources(t)
	reader := p.grant(t, "", append(defaultKinds, "rollouts.argoproj.io", "experiments.argoproj.io")...)

	t.Run("well known", func(t *testing.T) {
		s := newReceiver(t)
		once(t, invocation{user: reader, settings: settings{
			"DESTINATION":           s.URL(),
			"LABELS_RESOURCES":      strings.Join(defaultKinds, ","),
			"LABELS_FILTERS":        "^team$",
			"ANNOTATIONS_ENABLED":   "true",
			"ANNOTATIONS_RESOURCES": "nodes\ningresses.networking.k8s.io",
		}}).mustSucceed(t)
		compareSeries(t, ofShowcase(s), wellKnownSeries)
	})

	// What kubectl calls them, without groups.
	t.Run("bare plurals", func(t *testing.T) {
		s := newReceiver(t)
		var bare []string
		for _, kind := range defaultKinds {
			plural, _, _ := strings.Cut(kind, ".")
			if plural == "customresourcedefinitions" {
				plural = kind
			}
			bare = append(bare, plural)
		}
		once(t, invocation{user: reader, settings: settings{
			"DESTINATION":      s.URL(),
			"LABELS_RESOURCES": strings.Join(bare, ","),
			"LABELS_FILTERS":   "^team$",
		}}).mustSucceed(t)
		var labels []string
		for _, series := range wellKnownSeries {
			if strings.Contains(series, "_labels{") {
				labels = append(labels, series)
			}
		}
		compareSeries(t, ofShowcase(s), labels)
	})

	rollout := `cloudzero_rollout_argoproj_io_labels{label_team="rollout",namespace="showcase",resource_type="rollout.argoproj.io",workload="showcase"}`
	experiment := `cloudzero_experiment_argoproj_io_labels{label_team="experiment",resource_type="experiment.argoproj.io",workload="showcase"}`
	for name, want := range map[string][]string{
		"rollouts.argoproj.io":    {rollout},
		"*.argoproj.io":           {rollout, experiment},
		"experiments.argoproj.io": {experiment},
	} {
		t.Run(name, func(t *testing.T) {
			s := newReceiver(t)
			once(t, invocation{user: reader, settings: settings{
				"DESTINATION": s.URL(), "LABELS_RESOURCES": name, "LABELS_FILTERS": "^team$",
			}}).mustSucceed(t)
			compareSeries(t, s.All(), want)
		})
	}
}

// wellKnownSeries are those of the objects that are called showcase, or
// belong to the namespace.
var wellKnownSeries = []string{
	`cloudzero_crd_labels{label_team="crd",resource_type="crd",workload="experiments.argoproj.io"}`,
	`cloudzero_crd_labels{label_team="crd",resource_type="crd",workload="rollouts.argoproj.io"}`,
	`cloudzero_cronjob_labels{label_team="cronjob",namespace="showcase",resource_type="cronjob",workload="showcase"}`,
	`cloudzero_daemonset_labels{label_team="daemonset",namespace="showcase",resource_type="daemonset",workload="showcase"}`,
	`cloudzero_deployment_labels{label_team="deployment",namespace="showcase",resource_type="deployment",workload="showcase"}`,
	`cloudzero_ingress_annotations{"label_example.com/rewrite"="/",namespace="showcase",resource_type="ingress",workload="showcase"}`,
	`cloudzero_ingress_labels{label_team="ingress",namespace="showcase",resource_type="ingress",workload="showcase"}`,
	`cloudzero_job_labels{label_team="job",namespace="showcase",resource_type="job",workload="showcase"}`,
	`cloudzero_namespace_labels{label_team="namespace",namespace="showcase",resource_type="namespace"}`,
	`cloudzero_node_annotations{"label_example.com/rack"="r7",node="showcase",resource_type="node"}`,
	`cloudzero_node_labels{label_team="node",node="showcase",resource_type="node"}`,
	`cloudzero_pod_labels{label_team="pod",namespace="showcase",pod="showcase",resource_type="pod"}`,
	`cloudzero_pv_labels{label_team="pv",resource_type="pv",workload="showcase"}`,
	`cloudzero_pvc_labels{label_team="pvc",namespace="showcase",resource_type="pvc",workload="showcase"}`,
	`cloudzero_replicaset_labels{label_team="replicaset",namespace="showcase",resource_type="replicaset",workload="showcase"}`,
	`cloudzero_service_labels{label_team="service",namespace="showcase",resource_type="service",workload="showcase"}`,
	`cloudzero_statefulset_labels{label_team="statefulset",namespace="showcase",resource_type="statefulset",workload="showcase"}`,
	`cloudzero_storageclass_labels{label_team="storageclass",resource_type="storageclass",workload="showcase"}`,
}

// ofShowcase returns the received series that the test's own objects give;
// the cluster has others of its own.
func ofShowcase(s *receiver.Server) []receiver.Series {
	var all []receiver.Series
	for _, series := range s.All() {
		own := series.Get("namespace") == showcase
		if series.Get("namespace") == "" {
			own = series.Get("node") == showcase || series.Get("workload") == showcase || series.Get("resource_type") == "crd"
		}
		if own {
			all = append(all, series)
		}
	}
	return all
}

// named is the metadata of an object of the showcase.
func named(kind string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: showcase, Labels: map[string]string{"team": kind, "unmatched": "x"}}
}

// created fails the test where something could not be created.
func created[T any](t *testing.T) func(T, error) {
	return func(_ T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (p *plane) createShowcase(t *testing.T) {
	t.Helper()
	var opts metav1.CreateOptions
	ctx, core := t.Context(), p.client.CoreV1()
	created[*corev1.Pod](t)(core.Pods(showcase).Create(ctx, pod(named("pod")), opts))
	node := &corev1.Node{ObjectMeta: named("node")}
	node.Annotations = map[string]string{"example.com/rack": "r7"}
	created[*corev1.Node](t)(core.Nodes().Create(ctx, node, opts))
	service := &corev1.Service{ObjectMeta: named("service"), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	created[*corev1.Service](t)(core.Services(showcase).Create(ctx, service, opts))
	gigabyte := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	volume := &corev1.PersistentVolume{ObjectMeta: named("pv"), Spec: corev1.PersistentVolumeSpec{
		Capacity: gigabyte, AccessModes: modes,
		PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/data"}},
	}}
	created[*corev1.PersistentVolume](t)(core.PersistentVolumes().Create(ctx, volume, opts))
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: named("pvc"), Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: modes, Resources: corev1.VolumeResourceRequirements{Requests: gigabyte},
	}}
	created[*corev1.PersistentVolumeClaim](t)(core.PersistentVolumeClaims(showcase).Create(ctx, claim, opts))
	class := &storagev1.StorageClass{ObjectMeta: named("storageclass"), Provisioner: "example.com/disk"}
	created[*storagev1.StorageClass](t)(p.client.StorageV1().StorageClasses().Create(ctx, class, opts))
	ingress := &networkingv1.Ingress{ObjectMeta: named("ingress"), Spec: networkingv1.IngressSpec{
		DefaultBackend: &networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
			Name: showcase, Port: networkingv1.ServiceBackendPort{Number: 80},
		}},
	}}
	ingress.Annotations = map[string]string{"example.com/rewrite": "/"}
	created[*networkingv1.Ingress](t)(p.client.NetworkingV1().Ingresses(showcase).Create(ctx, ingress, opts))
}

func (p *plane) createWorkloads(t *testing.T) {
	t.Helper()
	var opts metav1.CreateOptions
	ctx, apps, batch := t.Context(), p.client.AppsV1(), p.client.BatchV1()
	app := map[string]string{"app": showcase}
	selector, template := &metav1.LabelSelector{MatchLabels: app}, podTemplate(app)
	created[*appsv1.Deployment](t)(apps.Deployments(showcase).Create(ctx, &appsv1.Deployment{
		ObjectMeta: named("deployment"), Spec: appsv1.DeploymentSpec{Selector: selector, Template: template}}, opts))
	created[*appsv1.StatefulSet](t)(apps.StatefulSets(showcase).Create(ctx, &appsv1.StatefulSet{
		ObjectMeta: named("statefulset"), Spec: appsv1.StatefulSetSpec{Selector: selector, Template: template}}, opts))
	created[*appsv1.DaemonSet](t)(apps.DaemonSets(showcase).Create(ctx, &appsv1.DaemonSet{
		ObjectMeta: named("daemonset"), Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template}}, opts))
	created[*appsv1.ReplicaSet](t)(apps.ReplicaSets(showcase).Create(ctx, &appsv1.ReplicaSet{
		ObjectMeta: named("replicaset"), Spec: appsv1.ReplicaSetSpec{Selector: selector, Template: template}}, opts))
	job := batchv1.JobSpec{Template: podTemplate(nil)}
	job.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	created[*batchv1.Job](t)(batch.Jobs(showcase).Create(ctx, &batchv1.Job{ObjectMeta: named("job"), Spec: job}, opts))
	created[*batchv1.CronJob](t)(batch.CronJobs(showcase).Create(ctx, &batchv1.CronJob{ObjectMeta: named("cronjob"),
		Spec: batchv1.CronJobSpec{Schedule: "@daily", JobTemplate: batchv1.JobTemplateSpec{Spec: job}}}, opts))
}

var crds = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// createCustomResources defines a kind in a namespace and a kind of the
// cluster, both of two versions, and creates an object of each.
func (p *plane) createCustomResources(t *testing.T) {
	t.Helper()
	for _, kind := range []struct{ singular, kind, scope, namespace string }{
		{"rollout", "Rollout", "Namespaced", showcase},
		{"experiment", "Experiment", "Cluster", ""},
	} {
		created[*unstructured.Unstructured](t)(p.dynamic.Resource(crds).
			Create(t.Context(), definition(kind.singular, kind.kind, kind.scope), metav1.CreateOptions{}))
		object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "argoproj.io/v1", "kind": kind.kind}}
		object.SetName(showcase)
		object.SetNamespace(kind.namespace)
		object.SetLabels(map[string]string{"team": kind.singular})
		resource := schema.GroupVersionResource{Group: "argoproj.io", Version: "v1", Resource: kind.singular + "s"}
		// A kind is not served the moment that it is defined.
		p.eventually(t, func(ctx context.Context) (bool, error) {
			_, err := p.dynamic.Resource(resource).Namespace(kind.namespace).Create(ctx, object, metav1.CreateOptions{})
			if apierrors.IsNotFound(err) {
				return false, nil
			}
			return true, err
		})
		p.eventually(t, func(context.Context) (bool, error) {
			list, err := p.client.Discovery().ServerResourcesForGroupVersion("argoproj.io/v1")
			if apierrors.IsNotFound(err) {
				return false, nil
			}
			if err != nil {
				return false, errors.Join(fmt.Errorf("discover %s", resource), err)
			}
			for _, served := range list.APIResources {
				if served.Name == resource.Resource {
					return true, nil
				}
			}
			return false, nil
		})
	}
}

func definition(singular, kind, scope string) *unstructured.Unstructured {
	anything := map[string]any{"openAPIV3Schema": map[string]any{"type": "object"}}
	crd := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1",
		"kind":       "CustomResourceDefinition",
		"spec": map[string]any{
			"group": "argoproj.io",
			"scope": scope,
			"names": map[string]any{"plural": singular + "s", "singular": singular, "kind": kind},
			"versions": []any{
				map[string]any{"name": "v1", "served": true, "storage": true, "schema": anything},
				map[string]any{"name": "v1alpha1", "served": true, "storage": false, "schema": anything},
			},
		},
	}}
	crd.SetName(singular + "s.argoproj.io")
	crd.SetLabels(map[string]string{"team": "crd"})
	return crd
}
