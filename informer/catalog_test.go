package informer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	"labelstream/config"
	"labelstream/record"
	"labelstream/status/outage"
)

// serves writes one group's list in short: "pods Pod pod ns lw" is the
// resource, its kind, its singular ("-" for none), ns or cluster, and its verbs
// (l for list, w for watch).
func serves(groupVersion string, resources ...string) *metav1.APIResourceList {
	list := &metav1.APIResourceList{GroupVersion: groupVersion}
	for _, text := range resources {
		f := strings.Fields(text)
		resource := metav1.APIResource{
			Name: f[0], Kind: f[1], SingularName: strings.TrimPrefix(f[2], "-"), Namespaced: f[3] == "ns", Verbs: metav1.Verbs{"get"},
		}
		if strings.Contains(f[4], "l") {
			resource.Verbs = append(resource.Verbs, "list")
		}
		if strings.Contains(f[4], "w") {
			resource.Verbs = append(resource.Verbs, "watch")
		}
		list.APIResources = append(list.APIResources, resource)
	}
	return list
}

func cluster() []*metav1.APIResourceList {
	return []*metav1.APIResourceList{
		// Custom groups first: what is looked for must not depend on the order.
		serves("serving.knative.dev/v1", "services Service service ns lw", "revisions Revision revision ns lw"),
		serves("argoproj.io/v1alpha1", "rollouts Rollout rollout ns lw", "rollouts/scale Scale - ns -"),
		serves("example.com/v1", "revisions Revision revision ns lw", "pods Pod pod ns lw"),
		serves("v1",
			"pods Pod pod ns lw", "pods/log Pod - ns lw", "namespaces Namespace namespace cluster lw", "nodes Node node cluster lw",
			"services Service service ns lw", "events Event event ns lw", "bindings Binding binding ns -",
			"persistentvolumes PersistentVolume persistentvolume cluster lw",
			"persistentvolumeclaims PersistentVolumeClaim persistentvolumeclaim ns lw",
			"componentstatuses ComponentStatus - cluster l"),
		serves("events.k8s.io/v1", "events Event event ns lw"),
		serves("extensions/v1beta1", "ingresses Ingress ingress ns lw"),
		serves("networking.k8s.io/v1", "ingresses Ingress ingress ns lw", "networkpolicies NetworkPolicy networkpolicy ns lw"),
		serves("apps/v1",
			"statefulsets StatefulSet statefulset ns lw", "deployments Deployment deployment ns lw", "deployments/scale Scale - ns lw",
			"daemonsets DaemonSet daemonset ns lw", "replicasets ReplicaSet replicaset ns lw",
			"controllerrevisions ControllerRevision - ns lw"),
		serves("batch/v1", "jobs Job job ns lw", "cronjobs CronJob cronjob ns lw"),
		serves("storage.k8s.io/v1", "storageclasses StorageClass storageclass cluster lw"),
		serves("apiextensions.k8s.io/v1", "customresourcedefinitions CustomResourceDefinition customresourcedefinition cluster lw"),
		serves("authorization.k8s.io/v1", "subjectaccessreviews SubjectAccessReview subjectaccessreview cluster -"),
		serves("metrics.k8s.io/v1beta1", "pods PodMetrics - ns l", "nodes NodeMetrics - cluster l"),
	}
}

// resolved is a kind in short.
func resolved(k *Kind) string {
	scope, series := "cluster", ""
	if k.Namespaced {
		scope = "ns"
	}
	if k.Labels {
		series += "L"
	}
	if k.Annotations {
		series += "A"
	}
	if !k.Watchable {
		series += " list only"
	}
	return fmt.Sprintf("%s %s %s/%s %s %s %s", k.Resource, k.GVR.Version, k.Type, k.Metric, k.NameLabel, scope, series)
}

func chosen(labels, annotations string) *config.Config {
	cfg := &config.Config{}
	if labels != "" {
		cfg.Labels = config.LabelSource{Enabled: true, Resources: strings.Split(labels, ",")}
	}
	if annotations != "" {
		cfg.Annotations = config.LabelSource{Enabled: true, Resources: strings.Split(annotations, ",")}
	}
	return cfg
}

func texts(errs []error) []string {
	all := make([]string, len(errs))
	for i, err := range errs {
		all[i] = err.Error()
	}
	return all
}

type kindsTest struct {
	labels, annotations string
	lists               []*metav1.APIResourceList
	discovery           error
	want                []string
	errs                []string
}

func runKindsTests(t *testing.T, tests map[string]kindsTest) {
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.lists == nil {
				test.lists = cluster()
			}
			catalog, err := NewCatalog(test.lists, test.discovery)
			if err != nil {
				t.Fatal(err)
			}
			kinds, errs := catalog.Kinds(chosen(test.labels, test.annotations))
			got := make([]string, 0, len(kinds))
			for _, k := range kinds {
				got = append(got, resolved(k))
			}
			if diff := cmp.Diff(append([]string{}, test.want...), got); diff != "" {
				t.Errorf("kinds (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(append([]string{}, test.errs...), texts(errs)); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKinds(t *testing.T) {
	runKindsTests(t, map[string]kindsTest{
		"well known": {
			labels: "pods,namespaces,nodes,persistentvolumes,persistentvolumeclaims,deployments,statefulsets,daemonsets,replicasets," +
				"jobs,cronjobs,ingresses,storageclasses,customresourcedefinitions.apiextensions.k8s.io",
			want: []string{
				"pods v1 pod/pod pod ns L", "namespaces v1 namespace/namespace namespace cluster L", "nodes v1 node/node node cluster L",
				"persistentvolumes v1 pv/pv workload cluster L", "persistentvolumeclaims v1 pvc/pvc workload ns L",
				"deployments.apps v1 deployment/deployment workload ns L", "statefulsets.apps v1 statefulset/statefulset workload ns L",
				"daemonsets.apps v1 daemonset/daemonset workload ns L", "replicasets.apps v1 replicaset/replicaset workload ns L",
				"jobs.batch v1 job/job workload ns L", "cronjobs.batch v1 cronjob/cronjob workload ns L",
				"ingresses.networking.k8s.io v1 ingress/ingress workload ns L",
				"storageclasses.storage.k8s.io v1 storageclass/storageclass workload cluster L",
				"customresourcedefinitions.apiextensions.k8s.io v1 crd/crd workload cluster L",
			},
		},
		"core before other groups": {
			labels: "services,events", want: []string{"services v1 service/service workload ns L", "events v1 event/event workload ns L"},
		},
		"others with their group": {
			labels: "services.serving.knative.dev,events.events.k8s.io,networkpolicies,rollouts.argoproj.io",
			want: []string{
				"services.serving.knative.dev v1 service.serving.knative.dev/service_serving.knative.dev workload ns L",
				"events.events.k8s.io v1 event.events.k8s.io/event_events.k8s.io workload ns L",
				"networkpolicies.networking.k8s.io v1 networkpolicy.networking.k8s.io/networkpolicy_networking.k8s.io workload ns L",
				"rollouts.argoproj.io v1alpha1 rollout.argoproj.io/rollout_argoproj.io workload ns L",
			},
		},
		"no singular": {
			labels: "componentstatuses,controllerrevisions.apps",
			want: []string{
				"componentstatuses v1 componentstatus/componentstatus workload cluster L list only",
				"controllerrevisions.apps v1 controllerrevision.apps/controllerrevision_apps workload ns L",
			},
		},
		"a whole group, sorted": {
			labels: "*.apps",
			want: []string{
				"controllerrevisions.apps v1 controllerrevision.apps/controllerrevision_apps workload ns L",
				"daemonsets.apps v1 daemonset/daemonset workload ns L", "deployments.apps v1 deployment/deployment workload ns L",
				"replicasets.apps v1 replicaset/replicaset workload ns L", "statefulsets.apps v1 statefulset/statefulset workload ns L",
			},
		},
		"a group of what cannot be watched": {
			labels: "*.metrics.k8s.io,*.authorization.k8s.io,*.nowhere.io",
			errs: []string{
				`LABELSTREAM_LABELS_RESOURCES: "*.metrics.k8s.io": the server has no such group with resources to list and watch`,
				`LABELSTREAM_LABELS_RESOURCES: "*.authorization.k8s.io": the server has no such group with resources to list and watch`,
				`LABELSTREAM_LABELS_RESOURCES: "*.nowhere.io": the server has no such group with resources to list and watch`,
			},
		},
		"a kind once, with the flags of both": {
			labels: "deployments,pods,*.batch,deployments.apps", annotations: "pods,jobs,nodes",
			want: []string{
				"deployments.apps v1 deployment/deployment workload ns L", "pods v1 pod/pod pod ns LA",
				"cronjobs.batch v1 cronjob/cronjob workload ns L", "jobs.batch v1 job/job workload ns LA", "nodes v1 node/node node cluster A",
			},
		},
		"annotations alone": {annotations: "pods", want: []string{"pods v1 pod/pod pod ns A"}},
		"nothing enabled":   {},
		"custom resources are named in full": {
			labels: "rollouts,revisions,customresourcedefinitions,pods",
			want:   []string{"pods v1 pod/pod pod ns L"},
			errs: []string{
				`LABELSTREAM_LABELS_RESOURCES: "rollouts": a resource outside Kubernetes' own groups is named with its group, such as "rollouts.argoproj.io"`,
				`LABELSTREAM_LABELS_RESOURCES: "revisions": a resource outside Kubernetes' own groups is named with its group, such as "revisions.example.com"`,
				`LABELSTREAM_LABELS_RESOURCES: "customresourcedefinitions": a resource outside Kubernetes' own groups is named with its group, such as "customresourcedefinitions.apiextensions.k8s.io"`,
			},
		},
		"what is not there": {
			labels: "pods", annotations: "gadgets,deployments.batch,pods/log,bindings",
			want: []string{"pods v1 pod/pod pod ns L"},
			errs: []string{
				`LABELSTREAM_ANNOTATIONS_RESOURCES: "gadgets": the server has no such resource`,
				`LABELSTREAM_ANNOTATIONS_RESOURCES: "deployments.batch": the server has no such resource`,
				`LABELSTREAM_ANNOTATIONS_RESOURCES: "pods/log": the server has no such resource`,
				`LABELSTREAM_ANNOTATIONS_RESOURCES: "bindings": the server does not let this resource be listed`,
			},
		},
		"the first version that is offered": {
			labels: "pods,cronjobs",
			lists:  []*metav1.APIResourceList{serves("v1", "pods Pod pod ns lw"), serves("batch/v1", "cronjobs CronJob cronjob ns lw"), serves("batch/v1beta1", "cronjobs OldCronJob cronjob ns lw")},
			want:   []string{"pods v1 pod/pod pod ns L", "cronjobs.batch v1 cronjob/cronjob workload ns L"},
		},
	})
}

func TestKindsOfPartialDiscovery(t *testing.T) {
	failed := func(groups ...string) error {
		err := &discovery.ErrGroupDiscoveryFailed{Groups: make(map[schema.GroupVersion]error)}
		for _, group := range groups {
			err.Groups[schema.GroupVersion{Group: group, Version: "v1"}] = errors.New("no endpoints")
		}
		return fmt.Errorf("discovery: %w", err)
	}
	without := func(group string) []*metav1.APIResourceList {
		return slices.DeleteFunc(cluster(), func(list *metav1.APIResourceList) bool { return strings.HasPrefix(list.GroupVersion, group+"/") })
	}
	runKindsTests(t, map[string]kindsTest{
		"of a group that nobody asks for": {
			labels: "pods,*.batch", discovery: failed("custom.metrics.k8s.io"),
			want: []string{"pods v1 pod/pod pod ns L", "cronjobs.batch v1 cronjob/cronjob workload ns L", "jobs.batch v1 job/job workload ns L"},
		},
		"of a group that is asked for": {
			labels: "pods,deployments.apps,*.apps", discovery: failed("apps"), lists: without("apps"),
			want: []string{"pods v1 pod/pod pod ns L"},
			errs: []string{
				`LABELSTREAM_LABELS_RESOURCES: "deployments.apps": the server could not say what the group "apps" serves: no endpoints`,
				`LABELSTREAM_LABELS_RESOURCES: "*.apps": the server could not say what the group "apps" serves: no endpoints`,
			},
		},
		"of the group that a bare name may be in": {
			labels: "deployments", discovery: failed("apps", "custom.metrics.k8s.io"), lists: without("apps"),
			errs: []string{`LABELSTREAM_LABELS_RESOURCES: "deployments": the server could not say what the group "apps" serves: no endpoints`},
		},
		"of a group that no bare name is in": {
			labels: "gadgets", discovery: failed("custom.metrics.k8s.io"),
			errs: []string{`LABELSTREAM_LABELS_RESOURCES: "gadgets": the server has no such resource`},
		},
		"of one version of a group": {
			labels: "deployments.apps", discovery: failed("apps"),
			want: []string{"deployments.apps v1 deployment/deployment workload ns L"},
		},
	})
}

func TestNewCatalogErrors(t *testing.T) {
	down := errors.New("connection refused")
	if c, err := NewCatalog(nil, down); c != nil || !errors.Is(err, down) || outage.Hint(err) != "" {
		t.Errorf("catalog %v, error %v; want none and %q without a hint", c, err, down)
	}
	if c, err := NewCatalog([]*metav1.APIResourceList{serves("a/b/c")}, nil); c != nil || err == nil || !strings.HasPrefix(err.Error(), "discovery: ") {
		t.Errorf("catalog %v, error %v; want none and one of discovery", c, err)
	}
}

// TestDiscoveryForbidden says what to grant, be it all that is forbidden or a group.
func TestDiscoveryForbidden(t *testing.T) {
	const want = "grant the verb get on the nonResourceURLs /api, /api/*, /apis and /apis/*, as the ClusterRole system:discovery does"
	forbidden := apierrors.NewForbidden(schema.GroupResource{}, "", errors.New(`cannot get path "/apis"`))
	if _, err := NewCatalog(nil, forbidden); outage.Hint(err) != want {
		t.Errorf("error %v with hint %q, want %q", err, outage.Hint(err), want)
	}
	catalog, err := NewCatalog(nil, &discovery.ErrGroupDiscoveryFailed{Groups: map[schema.GroupVersion]error{{Group: "apps", Version: "v1"}: forbidden}})
	if err != nil {
		t.Fatal(err)
	}
	if _, errs := catalog.Kinds(chosen("deployments.apps", "")); len(errs) != 1 || outage.Hint(errs[0]) != want {
		t.Errorf("errors %v, want one with hint %q", errs, want)
	}
}

// TestKindsOfManyGroups has the suggestion not depend on a map's order.
func TestKindsOfManyGroups(t *testing.T) {
	var lists []*metav1.APIResourceList
	for _, group := range []string{"h", "c", "b", "g", "a", "f", "e", "d"} {
		lists = append(lists, serves(group+".example.com/v1", "widgets Widget widget ns lw"))
	}
	for range 20 {
		catalog, err := NewCatalog(lists, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, errs := catalog.Kinds(chosen("widgets", ""))
		if len(errs) != 1 || !strings.HasSuffix(errs[0].Error(), `such as "widgets.a.example.com"`) {
			t.Fatalf("errors %q, want one that suggests widgets.a.example.com", errs)
		}
	}
}

func TestKindOfTheServer(t *testing.T) {
	catalog, err := NewCatalog(cluster(), nil)
	if err != nil {
		t.Fatal(err)
	}
	kinds, errs := catalog.Kinds(chosen("deployments", ""))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	want := []*Kind{{
		Kind: record.Kind{
			Resource: "deployments.apps", Type: "deployment", Metric: "deployment", NameLabel: "workload", Namespaced: true, Labels: true,
		},
		GVR:       schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"},
		GVK:       schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"},
		Watchable: true,
	}}
	if diff := cmp.Diff(want, kinds); diff != "" {
		t.Errorf("kinds (-want +got):\n%s", diff)
	}
}
