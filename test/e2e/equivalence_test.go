// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"

	"labelstream/test/controlplane"
	"labelstream/test/receiver"
)

const (
	// alike is the namespace of the test, and the name of its objects.
	alike = "alike"
	// alikeValueMax cuts the largest annotation within a character.
	alikeValueMax = 100_000
)

// alikeKind is a kind of the API, and what its series are to look like.
type alikeKind struct {
	resource, kind, namespace string
	typ, metric, nameLabel    string
	// spec is what an object has beside its metadata, in JSON.
	spec string
	// name is the object's, alike where empty.
	name string
}

const (
	alikePodSpec  = `{"containers":[{"name":"main","image":"registry.example.com/app"}]}`
	alikeJobSpec  = `{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"main","image":"registry.example.com/app"}]}}}`
	alikeWorkload = `{"spec":{"selector":{"matchLabels":{"app":"a"}},"template":{"metadata":{"labels":{"app":"a"}},"spec":` + alikePodSpec + `}}}`
	alikeBackend  = `{"service":{"name":"alike","port":{"number":80}}}`
	alikeVersions = `[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object"}}}]`
)

var alikeKinds = []alikeKind{
	{"namespaces", "Namespace", "", "namespace", "namespace", "namespace", `{}`, ""},
	{"pods", "Pod", alike, "pod", "pod", "pod", `{"spec":` + alikePodSpec + `}`, ""},
	{"nodes", "Node", "", "node", "node", "node", `{}`, ""},
	{"services", "Service", alike, "service", "service", "workload", `{"spec":{"ports":[{"port":80}]}}`, ""},
	{"persistentvolumes", "PersistentVolume", "", "pv", "pv", "workload",
		`{"spec":{"capacity":{"storage":"1Gi"},"accessModes":["ReadWriteOnce"],"hostPath":{"path":"/data"}}}`, ""},
	{"persistentvolumeclaims", "PersistentVolumeClaim", alike, "pvc", "pvc", "workload",
		`{"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}`, ""},
	{"deployments.apps", "Deployment", alike, "deployment", "deployment", "workload", alikeWorkload, ""},
	{"statefulsets.apps", "StatefulSet", alike, "statefulset", "statefulset", "workload", alikeWorkload, ""},
	{"daemonsets.apps", "DaemonSet", alike, "daemonset", "daemonset", "workload", alikeWorkload, ""},
	{"replicasets.apps", "ReplicaSet", alike, "replicaset", "replicaset", "workload", alikeWorkload, ""},
	{"jobs.batch", "Job", alike, "job", "job", "workload", `{"spec":` + alikeJobSpec + `}`, ""},
	{"cronjobs.batch", "CronJob", alike, "cronjob", "cronjob", "workload", `{"spec":{"schedule":"@daily","jobTemplate":{"spec":` + alikeJobSpec + `}}}`, ""},
	{"ingresses.networking.k8s.io", "Ingress", alike, "ingress", "ingress", "workload", `{"spec":{"defaultBackend":` + alikeBackend + `}}`, ""},
	{"storageclasses.storage.k8s.io", "StorageClass", "", "storageclass", "storageclass", "workload", `{"provisioner":"example.com/disk"}`, ""},
	{"customresourcedefinitions.apiextensions.k8s.io", "CustomResourceDefinition", "", "crd", "crd", "workload",
		`{"spec":{"group":"alike.example.com","scope":"Namespaced","names":{"plural":"widgets","singular":"widget","kind":"Widget"},` +
			`"versions":` + alikeVersions + `}}`, "widgets.alike.example.com"},
	{"customresourcedefinitions.apiextensions.k8s.io", "CustomResourceDefinition", "", "crd", "crd", "workload",
		`{"spec":{"group":"alike.example.com","scope":"Cluster","names":{"plural":"gadgets","singular":"gadget","kind":"Gadget"},` +
			`"versions":` + alikeVersions + `}}`, "gadgets.alike.example.com"},
	// The two before define them.
	{"widgets.alike.example.com", "Widget", alike, "widget.alike.example.com", "widget_alike_example_com", "workload", `{}`, ""},
	{"gadgets.alike.example.com", "Gadget", "", "gadget.alike.example.com", "gadget_alike_example_com", "workload", `{}`, ""},
}

func (k *alikeKind) gvr() schema.GroupVersionResource {
	plural, group, _ := strings.Cut(k.resource, ".")
	return schema.GroupVersionResource{Group: group, Version: "v1", Resource: plural}
}

func (k *alikeKind) objectName() string { return cmp.Or(k.name, alike) }

// TestEquivalence puts unusual metadata on objects of all kinds. What is sent of
// them, by a backfill and by a daemon that saw them change, must be what follows
// from client-go's objects.
func TestEquivalence(t *testing.T) {
	t.Parallel()
	p := shared.plane
	var own, full []string
	for i := range alikeKinds {
		k := &alikeKinds[i]
		p.createAlike(t, k)
		full = append(full, k.resource)
		switch plural, group, _ := strings.Cut(k.resource, "."); group {
		case "apiextensions.k8s.io":
			own = append(own, k.resource)
		case "alike.example.com":
			own = append(own, "*."+group)
		default:
			// As kubectl calls it.
			own = append(own, plural)
		}
	}
	full, own = unique(full), unique(own)
	inv := invocation{user: p.follower(t, "", full...), settings: settings{
		"LABELS_RESOURCES": strings.Join(own, ","), "ANNOTATIONS_RESOURCES": strings.Join(full, "\n"),
		"ANNOTATIONS_ENABLED": "true", "VALUE_MAX_BYTES": fmt.Sprint(alikeValueMax),
	}}

	before := p.alikeSeries(t)
	compare(t, before, backfillAlike(t, inv))

	j := newJournal(t)
	d := startDaemon(t, inv.with(settings{"DESTINATION": j.URL(), "SEND_INTERVAL": "50ms"}))
	awaitSeries(t, j, before)
	for i := range alikeKinds {
		p.changeAlike(t, &alikeKinds[i])
	}
	after := p.alikeSeries(t)
	awaitSeries(t, j, after)
	d.terminate(t)
	compare(t, unique(slices.Concat(before, after)), ofAlike(j))

	// Most are being deleted by now, and are there all the same.
	compare(t, after, backfillAlike(t, inv))
}

func unique(texts []string) []string { return slices.Compact(slices.Sorted(slices.Values(texts))) }

func backfillAlike(t *testing.T, inv invocation) []string {
	t.Helper()
	j := newJournal(t)
	once(t, inv.with(settings{"DESTINATION": j.URL()})).mustSucceed(t)
	return ofAlike(j)
}

// awaitSeries waits until the series have arrived, among others.
func awaitSeries(t *testing.T, j *journal, want []string) {
	t.Helper()
	j.await(t, "all series", func([]sample) bool {
		got := ofAlike(j)
		return !slices.ContainsFunc(want, func(series string) bool { return !slices.Contains(got, series) })
	})
}

// alikeMeta is metadata with what is rare.
func alikeMeta(k *alikeKind) metav1.ObjectMeta {
	controller := true
	return metav1.ObjectMeta{
		Name: k.objectName(), Namespace: k.namespace,
		Labels: map[string]string{
			"team": "platform", "empty": "", "app.kubernetes.io/part-of": "a.b_c-D", "UPPER": "x",
			"example.com/" + strings.Repeat("k", 63): strings.Repeat("v", 63),
		},
		Annotations: map[string]string{
			"empty": "", "unicode": "héllo, 漢字 \U0001F680 \u202e\ufeff", "lines": "one\ntwo\r\n\ttabs\\ and / \x7f\x01",
			"unsafe": `<a href="x">&'</a>`, "replacement": "\ufffd", "space": " ",
			"kubectl.kubernetes.io/last-applied-configuration": `{secret: x}`,
			"a.example/last-applied-configuration":             "of another tool",
			"large":                                            strings.Repeat("漢", 68_267),
		},
		Finalizers: []string{"example.com/hold"},
		OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "example.com/v1", Kind: "Owner", Name: "one", UID: "7d0c1c2e-0000-4000-8000-000000000001", Controller: &controller},
			{APIVersion: "example.com/v1", Kind: "Owner", Name: "two", UID: "7d0c1c2e-0000-4000-8000-000000000002"},
		},
	}
}

func (p *plane) createAlike(t *testing.T, k *alikeKind) {
	t.Helper()
	object := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(k.spec), &object.Object); err != nil {
		t.Fatal(err)
	}
	meta := alikeMeta(k)
	object.SetGroupVersionKind(k.gvr().GroupVersion().WithKind(k.kind))
	object.SetName(meta.Name)
	object.SetNamespace(meta.Namespace)
	object.SetLabels(meta.Labels)
	object.SetAnnotations(meta.Annotations)
	object.SetFinalizers(meta.Finalizers)
	object.SetOwnerReferences(meta.OwnerReferences)
	p.createServed(t, k.gvr(), k.namespace, object)
	client := p.dynamic.Resource(k.gvr()).Namespace(k.namespace)
	for i := range 5 {
		patch := fmt.Appendf(nil, `{"apiVersion":%q,"kind":%q,"metadata":{"annotations":{"manager-%d":"value %[3]d"}}}`,
			k.gvr().GroupVersion(), k.kind, i)
		created(t)(client.Patch(t.Context(), k.objectName(), types.ApplyPatchType, patch,
			metav1.PatchOptions{FieldManager: fmt.Sprintf("manager-%d", i)}))
	}
}

// changeAlike changes an object's metadata, and deletes it, so that it waits for
// its finalizer. A namespace and a definition would take others along.
func (p *plane) changeAlike(t *testing.T, k *alikeKind) {
	t.Helper()
	client := p.dynamic.Resource(k.gvr()).Namespace(k.namespace)
	patch := []byte(`{"metadata":{"labels":{"team":"other","empty":null},"annotations":{"unicode":"další 🚢","space":null,"large":"small"}}}`)
	created(t)(client.Patch(t.Context(), k.objectName(), types.MergePatchType, patch, metav1.PatchOptions{}))
	if k.typ == "namespace" || k.typ == "crd" {
		return
	}
	if err := client.Delete(t.Context(), k.objectName(), metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// alikeSeries computes from client-go's objects what is to be sent of them.
func (p *plane) alikeSeries(t *testing.T) []string {
	t.Helper()
	config, err := p.Config(controlplane.Admin)
	if err != nil {
		t.Fatal(err)
	}
	client, err := metadata.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range alikeKinds {
		k := &alikeKinds[i]
		list, err := client.Resource(k.gvr()).Namespace(k.namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			if o := &list.Items[i]; o.Name == k.objectName() {
				want = append(want, k.series(o, "_labels", o.Labels), k.series(o, "_annotations", o.Annotations))
			}
		}
	}
	if len(want) != 2*len(alikeKinds) {
		t.Fatalf("%d series of %d kinds", len(want), len(alikeKinds))
	}
	return want
}

func (k *alikeKind) series(o *metav1.PartialObjectMetadata, suffix string, tags map[string]string) string {
	labels := map[string]string{"__name__": "cloudzero_" + k.metric + suffix, "resource_type": k.typ, k.nameLabel: o.Name}
	if k.namespace != "" {
		labels["namespace"] = o.Namespace
	}
	for key, value := range tags {
		if value == "" || strings.ContainsAny(value, `<>&'"`) || key == "kubectl.kubernetes.io/last-applied-configuration" {
			continue
		}
		for len(value) > alikeValueMax {
			_, last := utf8.DecodeLastRuneInString(value)
			value = value[:len(value)-last]
		}
		labels["label_"+key] = value
	}
	var s receiver.Series
	for name, value := range labels {
		s.Labels = append(s.Labels, receiver.Label{Name: name, Value: value})
	}
	slices.SortFunc(s.Labels, func(a, b receiver.Label) int { return cmp.Compare(a.Name, b.Name) })
	return s.String()
}

// ofAlike returns the received series of the test's objects.
func ofAlike(j *journal) []string {
	var all []string
	for _, series := range j.All() {
		names := []string{series.Get("namespace"), series.Get("node"), series.Get("workload")}
		own := names[0] == alike || names[0] == "" && slices.ContainsFunc(names, func(n string) bool {
			return n == alike || strings.HasSuffix(n, ".alike.example.com")
		})
		if own {
			all = append(all, series.String())
		}
	}
	return all
}
