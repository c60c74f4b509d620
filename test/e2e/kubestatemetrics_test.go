// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"labelstream/test/controlplane"
	"labelstream/test/metrics"
)

// mirrored is the namespace of the test, and begins the names of its objects.
const mirrored = "mirrored"

// mirroredRequest asks for the certificate of a key that nobody has.
const mirroredRequest = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUg4d013SUJBREFBTUNvd0JRWURLMlZ3QXlFQWxsOS93d3N1Rk9tVUlzSUZkSFFVREgrdHpRUnFUNVJJSWk1cAplaklkYkFHZ0FEQUZCZ01yWlhBRFFR" +
	"Qkk4WCtpd3I5RlZFc3ZZZit6andsdmlORHpJMEx5WGZibUlDQjc4dWZ3CjRVK00xR01hbWdLREhncm5CS1J6Y1NKTGpUcWpjekJ0Tm9PZ2JONGgzTzRCCi0tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVFU1QtLS0tLQo="

// mirroredKinds are the kinds that kube-state-metrics has labels of, beside those of
// TestEquivalence.
var mirroredKinds = []alikeKind{
	{resource: "certificatesigningrequests.certificates.k8s.io", kind: "CertificateSigningRequest",
		spec: `{"spec":{"signerName":"example.com/mirrored","usages":["client auth"],"request":"` + mirroredRequest + `"}}`},
	{resource: "clusterrolebindings.rbac.authorization.k8s.io", kind: "ClusterRoleBinding",
		spec: `{"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"mirrored"}}`},
	{resource: "clusterroles.rbac.authorization.k8s.io", kind: "ClusterRole", spec: `{}`},
	{resource: "configmaps", kind: "ConfigMap", namespace: mirrored, spec: `{}`},
	{resource: "endpoints", kind: "Endpoints", namespace: mirrored, spec: `{}`},
	{resource: "endpointslices.discovery.k8s.io", kind: "EndpointSlice", namespace: mirrored, spec: `{"addressType":"IPv4","endpoints":[]}`},
	{resource: "horizontalpodautoscalers.autoscaling", kind: "HorizontalPodAutoscaler", namespace: mirrored,
		spec: `{"spec":{"maxReplicas":1,"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"mirrored"}}}`},
	{resource: "ingressclasses.networking.k8s.io", kind: "IngressClass", spec: `{"spec":{"controller":"example.com/mirrored"}}`},
	{resource: "networkpolicies.networking.k8s.io", kind: "NetworkPolicy", namespace: mirrored, spec: `{"spec":{"podSelector":{}}}`},
	{resource: "poddisruptionbudgets.policy", kind: "PodDisruptionBudget", namespace: mirrored, spec: `{"spec":{"minAvailable":1}}`},
	{resource: "resourcequotas", kind: "ResourceQuota", namespace: mirrored, spec: `{}`},
	{resource: "rolebindings.rbac.authorization.k8s.io", kind: "RoleBinding", namespace: mirrored,
		spec: `{"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"mirrored"}}`},
	{resource: "roles.rbac.authorization.k8s.io", kind: "Role", namespace: mirrored, spec: `{}`},
	{resource: "secrets", kind: "Secret", namespace: mirrored, spec: `{}`},
	{resource: "serviceaccounts", kind: "ServiceAccount", namespace: mirrored, spec: `{}`},
	{resource: "volumeattachments.storage.k8s.io", kind: "VolumeAttachment",
		spec: `{"spec":{"attacher":"example.com","nodeName":"mirrored","source":{"persistentVolumeName":"mirrored"}}}`},
}

// TestKubeStateMetrics compares what a Prometheus agent forwards of a backfill with
// what kube-state-metrics exposes of the same objects. Three things differ:
// certificatesigningrequests have a label signer_name there, which is not in the
// metadata; an annotation that API servers make up is left out; and volumeattachments
// have no annotations there.
func TestKubeStateMetrics(t *testing.T) {
	t.Parallel()
	p := shared.plane
	kinds := slices.Clone(mirroredKinds)
	for _, k := range alikeKinds {
		if !strings.Contains(k.resource, "alike.") && !strings.HasPrefix(k.resource, "customresourcedefinitions.") {
			k.namespace = strings.Replace(k.namespace, alike, mirrored, 1)
			kinds = slices.Insert(kinds, 0, k)
		}
	}
	slices.SortStableFunc(kinds, func(a, b alikeKind) int { return cmp.Compare(a.namespace, b.namespace) })
	odd := oddities{rand.New(rand.NewPCG(1, 2))}
	var full, plurals []string
	for _, k := range kinds {
		full, plurals = append(full, k.resource), append(plurals, k.gvr().Resource)
		p.createMirrored(t, &k, odd)
	}
	metas := make([]metav1.ObjectMeta, 150)
	for i := range metas {
		metas[i] = odd.meta(mirrored, fmt.Sprintf("%s-%03d", mirrored, i))
	}
	p.pods(t, len(metas), func(i int) metav1.ObjectMeta { return metas[i] })

	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := p.WriteKubeconfig(kubeconfig, controlplane.Admin); err != nil {
		t.Fatal(err)
	}
	exporter := kubeStateMetrics.start(t, "--host=127.0.0.1", "--port=PORT", "--telemetry-host=127.0.0.1", "--telemetry-port=0",
		"--kubeconfig="+kubeconfig, "--resources="+strings.Join(plurals, ","), "--metric-allowlist=kube_.*_(labels|annotations),kube_(pod|replicaset|job)_owner",
		"--metric-labels-allowlist=*=[*]", "--metric-annotations-allowlist=*=[*]")
	j := newJournal(t)
	once(t, invocation{kubeconfig: kubeconfig, settings: settings{
		"DESTINATION": startAgent(t, "", j).WriteURL(), "PRESET": "prometheus", "VALUE_MAX_BYTES": "262144",
		"LABELS_RESOURCES": strings.Join(full, ","), "LABELS_EXCLUDE": "^workload_(kind|name)$", "OWNER_LABELS": "true",
		"ANNOTATIONS_ENABLED": "true", "ANNOTATIONS_RESOURCES": strings.Join(full, ","), "ANNOTATIONS_EXCLUDE": "",
	}}).mustSucceed(t)

	var want, got []string
	for end := time.Now().Add(patience / 4); ; elapse(t, 200*time.Millisecond) {
		want, got = exposed(t, exporter), slices.DeleteFunc(textsOf(j.All()), isOther)
		if slices.Sort(got); slices.Equal(want, got) || time.Now().After(end) {
			break
		}
	}
	compare(t, want, got)
	counts := make(map[string]int)
	for _, series := range want {
		metric, _, _ := strings.Cut(series, "{")
		counts[metric]++
	}
	if len(counts) != 2*len(kinds)-1+3 || counts["kube_pod_annotations"] != len(metas)+1 {
		t.Errorf("the series of %d kinds were compared: %v", len(kinds), counts)
	}
}

// exposed are the exporter's series of the test's objects, and of those that the API
// server has by itself, without what is known to differ.
func exposed(t *testing.T, exporter string) (all []string) {
	t.Helper()
	families, err := metrics.Get(t.Context(), unkept, exporter+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for name, family := range families {
		for _, metric := range family.GetMetric() {
			labels := map[string]string{"__name__": name}
			for _, pair := range metric.GetLabel() {
				labels[pair.GetName()] = pair.GetValue()
			}
			delete(labels, "signer_name")
			delete(labels, "annotation_deprecated_daemonset_template_generation")
			if series := seriesOf(labels); !isOther(series) {
				all = append(all, series)
			}
		}
	}
	slices.Sort(all)
	return all
}

var (
	namespaced   = regexp.MustCompile(`[{,]namespace="([^"]*)"`)
	clusterNamed = regexp.MustCompile(`[{,][a-z]+="(mirrored|system:)`)
)

// isOther tells whether a series is not compared: it belongs to another test, or only
// one of both programs has such.
func isOther(series string) bool {
	if of := namespaced.FindStringSubmatch(series); of != nil {
		return of[1] != mirrored && of[1] != "kube-system"
	}
	return !clusterNamed.MatchString(series) || strings.HasPrefix(series, "kube_volumeattachment_annotations{")
}

// createMirrored creates an object with odd labels and annotations.
func (p *plane) createMirrored(t *testing.T, k *alikeKind, odd oddities) {
	t.Helper()
	object := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(k.spec), &object.Object); err != nil {
		t.Fatal(err)
	}
	meta := odd.meta(k.namespace, mirrored)
	gvr := k.gvr()
	gvr.Version = "v1"
	object.SetGroupVersionKind(gvr.GroupVersion().WithKind(k.kind))
	object.SetName(meta.Name)
	object.SetNamespace(meta.Namespace)
	object.SetLabels(meta.Labels)
	object.SetAnnotations(meta.Annotations)
	object.SetOwnerReferences(meta.OwnerReferences)
	p.createServed(t, gvr, k.namespace, object)
}

// oddities makes up metadata, the same in each run. Many keys meet in one name of a
// label.
type oddities struct{ *rand.Rand }

func (o oddities) pick(from ...string) string { return from[o.IntN(len(from))] }

func (o oddities) key() string {
	word := func() string {
		return o.pick("foo", "Foo", "FOO", "fooBar", "bar", "Bar", "BAR", "x9Y", "1", "le", "job", "namespace", "pod", "uid", "node", "name")
	}
	key := word()
	for range o.IntN(4) {
		key += o.pick(".", "_", "-", "--", "._-", "") + word()
	}
	if o.IntN(3) == 0 {
		key = o.pick("foo", "foo.bar", "foo-bar", "example.com", "9.x-y") + "/" + key
	}
	return key
}

func (o oddities) meta(namespace, name string) metav1.ObjectMeta {
	meta := metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{}, Annotations: map[string]string{
		"kubectl.kubernetes.io/last-applied-configuration": `{"metadata":{"name":"<x>"}}` + "\n",
		"Example.COM/Large": strings.Repeat("漢", 1000+o.IntN(1000)),
	}}
	for range o.IntN(14) {
		meta.Labels[o.key()] = o.pick("", "a", "0", "A.b_c-D", strings.Repeat("v", 63))
		meta.Annotations[o.key()] = o.pick("", " ", "a", `<a href="x">&'</a>`, "one\ntwo\r\n\t", `\n\\`, "\x01\x7f", "héllo 漢字 \U0001F680", `{a="b"} 1`, "\ufffd")
	}
	for i := range o.IntN(4) {
		isController := i == 1
		owner := metav1.OwnerReference{APIVersion: "example.com/v1", Kind: o.pick("ReplicaSet", "Job", "Widget"), Name: fmt.Sprintf("owner-%d", i), UID: "1"}
		if i > 0 {
			owner.Controller = &isController
		}
		meta.OwnerReferences = append(meta.OwnerReferences, owner)
	}
	return meta
}
