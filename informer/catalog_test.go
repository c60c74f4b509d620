// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	"labelstream/config"
	"labelstream/status/outage"
)

// serves writes one group's list in short: "pods Pod pod ns lw" is the
// resource, its kind, its singular ("-" for none), ns or cluster, its verbs (l for
// list, w for watch), and short names if there are any.
func serves(groupVersion string, resources ...string) *metav1.APIResourceList {
	list := &metav1.APIResourceList{GroupVersion: groupVersion}
	for _, text := range resources {
		f := strings.Fields(text)
		resource := metav1.APIResource{
			Name: f[0], Kind: f[1], SingularName: strings.TrimPrefix(f[2], "-"), Namespaced: f[3] == "ns", Verbs: metav1.Verbs{"get"},
			ShortNames: f[5:],
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
		// Custom groups first: what is found must not depend on the order.
		serves("serving.knative.dev/v1", "services Service service ns lw", "revisions Revision revision ns lw"),
		serves("argoproj.io/v1alpha1", "rollouts Rollout rollout ns lw", "rollouts/scale Scale - ns -"),
		serves("example.com/v1", "revisions Revision revision ns lw", "pods Pod pod ns lw", "people Human person ns lw"),
		serves("v1", "pods Pod pod ns lw po", "pods/log Pod - ns lw", "namespaces Namespace namespace cluster lw", "nodes Node node cluster lw",
			"services Service service ns lw", "events Event event ns lw", "bindings Binding binding ns -",
			"persistentvolumes PersistentVolume persistentvolume cluster lw", "persistentvolumeclaims PersistentVolumeClaim persistentvolumeclaim ns lw",
			"componentstatuses ComponentStatus - cluster l"),
		serves("events.k8s.io/v1", "events Event event ns lw"),
		serves("extensions/v1beta1", "ingresses Ingress ingress ns lw"),
		serves("networking.k8s.io/v1", "ingresses Ingress ingress ns lw", "networkpolicies NetworkPolicy networkpolicy ns lw"),
		serves("apps/v1", "statefulsets StatefulSet statefulset ns lw", "deployments Deployment deployment ns lw dp deploy", "deployments/scale Scale - ns lw",
			"daemonsets DaemonSet daemonset ns lw", "replicasets ReplicaSet replicaset ns lw", "controllerrevisions ControllerRevision - ns lw"),
		serves("batch/v1", "jobs Job job ns lw", "cronjobs CronJob cronjob ns lw"),
		serves("storage.k8s.io/v1", "storageclasses StorageClass storageclass cluster lw"),
		serves("apiextensions.k8s.io/v1", "customresourcedefinitions CustomResourceDefinition customresourcedefinition cluster lw"),
		serves("metrics.k8s.io/v1beta1", "pods PodMetrics - ns l", "nodes NodeMetrics - cluster l"),
	}
}

// resolved is a kind in short.
func resolved(k *Kind) string {
	text := fmt.Sprintf("%s %s %s/%s %s ", k.Resource, k.GVR.Version, k.Type, k.Metric, k.NameLabel)
	for _, flag := range []struct {
		is   bool
		text string
	}{{k.Namespaced, "ns "}, {!k.Namespaced, "cluster "}, {k.Labels, "L"}, {k.Annotations, "A"}, {!k.Watchable, " list only"}} {
		if flag.is {
			text += flag.text
		}
	}
	return text
}

func chosen(labels, annotations string) *config.Config {
	source := func(resources string) config.LabelSource {
		return config.LabelSource{Enabled: resources != "", Resources: strings.Split(resources, ",")}
	}
	return &config.Config{Labels: source(labels), Annotations: source(annotations)}
}

// resolve returns the kinds of a catalog in short, and then the errors.
func resolve(catalog *Catalog, cfg *config.Config) []string {
	kinds, errs := catalog.Kinds(cfg)
	got := []string{}
	for _, k := range kinds {
		got = append(got, resolved(k))
	}
	for _, err := range errs {
		got = append(got, strings.ReplaceAll(err.Error(), "LABELSTREAM_LABELS_RESOURCES: ", "error: "))
	}
	return got
}

func groupsFailed(groups ...string) error {
	err := &discovery.ErrGroupDiscoveryFailed{Groups: make(map[schema.GroupVersion]error)}
	for _, group := range groups {
		err.Groups[schema.GroupVersion{Group: group, Version: "v1"}] = errors.New("no endpoints")
	}
	return fmt.Errorf("discovery: %w", err)
}

func TestKinds(t *testing.T) {
	withoutApps := slices.DeleteFunc(cluster(), func(list *metav1.APIResourceList) bool { return strings.HasPrefix(list.GroupVersion, "apps/") })
	for name, test := range map[string]struct {
		labels, annotations string
		lists               []*metav1.APIResourceList
		err                 error
		want                []string
	}{
		"well known": {
			labels: "pods,namespaces,nodes,persistentvolumes,persistentvolumeclaims,deployments,statefulsets,daemonsets,replicasets," +
				"jobs,cronjobs,ingresses,storageclasses,customresourcedefinitions.apiextensions.k8s.io",
			want: []string{
				"pods v1 pod/pod pod ns L", "namespaces v1 namespace/namespace namespace cluster L", "nodes v1 node/node node cluster L",
				"persistentvolumes v1 pv/pv workload cluster L", "persistentvolumeclaims v1 pvc/pvc workload ns L",
				"deployments.apps v1 deployment/deployment workload ns L", "statefulsets.apps v1 statefulset/statefulset workload ns L",
				"daemonsets.apps v1 daemonset/daemonset workload ns L", "replicasets.apps v1 replicaset/replicaset workload ns L",
				"jobs.batch v1 job/job workload ns L", "cronjobs.batch v1 cronjob/cronjob workload ns L",
				"ingresses.networking.k8s.io v1 ingress/ingress workload ns L", "storageclasses.storage.k8s.io v1 storageclass/storageclass workload cluster L",
				"customresourcedefinitions.apiextensions.k8s.io v1 crd/crd workload cluster L",
			},
		},
		"others": {
			labels: "services,events,services.serving.knative.dev,events.events.k8s.io,networkpolicies,rollouts.argoproj.io,controllerrevisions,componentstatuses",
			want: []string{
				"services v1 service/service workload ns L", "events v1 event/event workload ns L",
				"services.serving.knative.dev v1 service.serving.knative.dev/service_serving.knative.dev workload ns L",
				"events.events.k8s.io v1 event.events.k8s.io/event_events.k8s.io workload ns L",
				"networkpolicies.networking.k8s.io v1 networkpolicy.networking.k8s.io/networkpolicy_networking.k8s.io workload ns L",
				"rollouts.argoproj.io v1alpha1 rollout.argoproj.io/rollout_argoproj.io workload ns L",
				"controllerrevisions.apps v1 controllerrevision.apps/controllerrevision_apps workload ns L",
				"componentstatuses v1 componentstatus/componentstatus workload cluster L list only",
			},
		},
		"groups": {
			labels: "*.batch,*.metrics.k8s.io,*.nowhere.io",
			want: []string{
				"cronjobs.batch v1 cronjob/cronjob workload ns L", "jobs.batch v1 job/job workload ns L",
				`error: "*.metrics.k8s.io": the server has no such group with resources to list and watch`,
				`error: "*.nowhere.io": the server has no such group with resources to list and watch`,
			},
		},
		"a kind once, with the flags of both": {
			labels: "deployments,pods,*.batch,deployments.apps", annotations: "pods,jobs,nodes",
			want: []string{
				"deployments.apps v1 deployment/deployment workload ns L", "pods v1 pod/pod pod ns LA",
				"cronjobs.batch v1 cronjob/cronjob workload ns L", "jobs.batch v1 job/job workload ns LA", "nodes v1 node/node node cluster A",
			},
		},
		"what is not there": {
			labels: "gadgets,deployments.batch,pods/log,bindings,rollouts,revisions", annotations: "pods,gadgets",
			want: []string{
				"pods v1 pod/pod pod ns A", `error: "gadgets": the server has no such resource`, `error: "deployments.batch": the server has no such resource`,
				`error: "pods/log": the server has no such resource`, `error: "bindings": the server does not let this resource be listed`,
				`error: "rollouts": no such resource; write "rollouts.argoproj.io"`,
				`error: "revisions": no such resource; write "revisions.example.com" or "revisions.serving.knative.dev"`,
				`LABELSTREAM_ANNOTATIONS_RESOURCES: "gadgets": the server has no such resource`,
			},
		},
		"what is meant": {
			labels: "deployment,Deployment,DEPLOYMENTS,deploy.apps,controllerrevision,Pod,po,event,rollout,person,human,binding,componentstatus,nodemetrics,deployment.batch,role,language",
			want: []string{
				`error: "deployment": no such resource; write "deployments.apps"`, `error: "Deployment": no such resource; write "deployments.apps"`,
				`error: "DEPLOYMENTS": no such resource; write "deployments.apps"`, `error: "deploy.apps": no such resource; write "deployments.apps"`,
				`error: "controllerrevision": no such resource; write "controllerrevisions.apps"`,
				`error: "Pod": no such resource; write "pods" or "pods.example.com"`, `error: "po": no such resource; write "pods"`,
				`error: "event": no such resource; write "events" or "events.events.k8s.io"`, `error: "rollout": no such resource; write "rollouts.argoproj.io"`,
				`error: "person": no such resource; write "people.example.com"`, `error: "human": no such resource; write "people.example.com"`,
				// What cannot be listed and watched is not proposed.
				`error: "binding": the server has no such resource`, `error: "componentstatus": the server has no such resource`,
				`error: "nodemetrics": the server has no such resource`, `error: "deployment.batch": the server has no such resource`,
				`error: "role": the server has no such resource`, `error: "language": the server has no such resource`,
			},
		},
		"the first version that is offered": {
			labels: "cronjobs", lists: []*metav1.APIResourceList{serves("batch/v1", "cronjobs CronJob cronjob ns lw"), serves("batch/v1beta1", "cronjobs OldCronJob cronjob ns lw")},
			want: []string{"cronjobs.batch v1 cronjob/cronjob workload ns L"},
		},
		"a group of what is chosen failed": {
			labels: "pods,deployments.apps,*.apps,deployments,gadgets", err: groupsFailed("apps", "custom.metrics.k8s.io"), lists: withoutApps,
			want: []string{
				"pods v1 pod/pod pod ns L", `error: "deployments.apps": the server could not say what the group "apps" serves: no endpoints`,
				`error: "*.apps": the server could not say what the group "apps" serves: no endpoints`,
				`error: "deployments": the server could not say what the group "apps" serves: no endpoints`,
				`error: "gadgets": the server could not say what the group "apps" serves: no endpoints`,
			},
		},
		"another group failed":       {labels: "gadgets", err: groupsFailed("custom.metrics.k8s.io"), want: []string{`error: "gadgets": the server has no such resource`}},
		"a version of a group fails": {labels: "deployments.apps", err: groupsFailed("apps"), want: []string{"deployments.apps v1 deployment/deployment workload ns L"}},
	} {
		t.Run(name, func(t *testing.T) {
			if test.lists == nil {
				test.lists = cluster()
			}
			catalog, err := NewCatalog(test.lists, test.err)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, "kinds and errors", test.want, resolve(catalog, chosen(test.labels, test.annotations)))
		})
	}
}

func TestNewCatalogErrors(t *testing.T) {
	const grant = "grant the verb get on the nonResourceURLs /api, /api/*, /apis and /apis/*, as the ClusterRole system:discovery does"
	down, forbidden := errors.New("connection refused"), apierrors.NewForbidden(schema.GroupResource{}, "", errors.New(`cannot get path "/apis"`))
	for _, test := range []struct {
		lists      []*metav1.APIResourceList
		err        error
		want, hint string
	}{
		{nil, down, "connection refused", ""},
		{nil, forbidden, forbidden.Error(), grant},
		{[]*metav1.APIResourceList{serves("a/b/c")}, nil, "discovery: unexpected GroupVersion string: a/b/c", ""},
	} {
		c, err := NewCatalog(test.lists, test.err)
		if c != nil || err == nil || err.Error() != test.want || outage.Hint(err) != test.hint {
			t.Errorf("catalog %v, error %v with hint %q; want none and %q with %q", c, err, outage.Hint(err), test.want, test.hint)
		}
	}
	groupForbidden := &discovery.ErrGroupDiscoveryFailed{Groups: map[schema.GroupVersion]error{{Group: "apps", Version: "v1"}: forbidden}}
	c, err := NewCatalog(nil, groupForbidden)
	if err != nil {
		t.Fatal(err)
	}
	if _, errs := c.Kinds(chosen("deployments.apps", "")); len(errs) != 1 || outage.Hint(errs[0]) != grant {
		t.Errorf("errors %v, want one with hint %q", errs, grant)
	}
}

func TestByName(t *testing.T) {
	for name, test := range map[string]struct {
		labels, annotations, namespaces string
		// want is a kind a line, with its scopes: namespaces, names after an =,
		// and nothing for all.
		want []string
		err  string
	}{
		"Kubernetes' own": {
			labels: "pods,namespaces,deployments,events,ingresses", annotations: "events.events.k8s.io,deployments.apps,customresourcedefinitions.apiextensions.k8s.io", namespaces: "a,b",
			want: []string{
				"pods a b", "namespaces =a =b", "deployments.apps a b", "events a b", "ingresses.networking.k8s.io a b", "events.events.k8s.io a b",
				"customresourcedefinitions.apiextensions.k8s.io ",
			},
		},
		"others":               {labels: "widgets.example.com,betas.apps,pods", want: []string{"widgets.example.com ", "betas.apps ", "pods "}},
		"others in namespaces": {labels: "pods,betas.apps", namespaces: "a", err: `"betas.apps": only an API server knows whether it is in namespaces`},
		"without a group":      {annotations: "widgets", err: `"widgets": only an API server knows of which group it is`},
		"a whole group":        {labels: "pods,*.apps", err: `"*.apps": only an API server knows what the group holds`},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := chosen(test.labels, test.annotations)
			cfg.Namespaces = strings.FieldsFunc(test.namespaces, func(r rune) bool { return r == ',' })
			catalog, err := ByName(cfg)
			if test.err != "" || err != nil {
				if catalog != nil || err == nil || err.Error() != test.err {
					t.Errorf("catalog %v, error %v; want none and %s", catalog, err, test.err)
				}
				return
			}
			var got []string
			kinds, errs := catalog.Kinds(cfg)
			for _, kind := range kinds {
				var scopes []string
				for _, scope := range kind.Scopes(cfg.Namespaces) {
					scopes = append(scopes, strings.TrimSuffix(scope.Namespace+"="+scope.Name, "="))
				}
				got = append(got, kind.Resource+" "+strings.Join(scopes, " "))
			}
			expect(t, "kinds", test.want, got)
			if len(errs) > 0 {
				t.Errorf("errors %v", errs)
			}
		})
	}
}

// TestByNameKnowsTheWellKnown has the two tables agree.
func TestByNameKnowsTheWellKnown(t *testing.T) {
	catalog, err := ByName(chosen("pods", ""))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range wellKnown {
		resource := catalog.resources[schema.GroupResource{Group: k.group, Resource: k.plural}]
		if !resource.can("watch") {
			t.Errorf("%s of %q is not known by name", k.plural, k.group)
		}
	}
}

// TestMeantByName answers without a server where that is no guess, and says where
// the keys go.
func TestMeantByName(t *testing.T) {
	for name, want := range map[string]string{
		"deployment": `error: "deployment": no such resource; write "deployments.apps"`, "Pod": `error: "Pod": no such resource; write "pods"`,
		"NetworkPolicy.networking.k8s.io": `error: "NetworkPolicy.networking.k8s.io": no such resource; write "networkpolicies.networking.k8s.io"`,
		"po":                              `"po": only an API server knows of which group it is`, "Widget.example.com": `"Widget.example.com": only an API server knows the plural of a kind`,
	} {
		catalog, err := ByName(chosen(name, ""))
		got := []string{fmt.Sprint(err)}
		if err == nil {
			got = resolve(catalog, chosen(name, ""))
		}
		expect(t, name, []string{want}, got)
	}
	catalog, _ := NewCatalog(cluster(), nil)
	_, errs := catalog.Kinds(chosen("role", ""))
	const want = "kubectl api-resources lists what the server has; keys of labels go to LABELSTREAM_LABELS_FILTERS, those of annotations to LABELSTREAM_ANNOTATIONS_FILTERS"
	if len(errs) != 1 || outage.Hint(errs[0]) != want {
		t.Errorf("errors %v, want one with hint %q", errs, want)
	}
}
