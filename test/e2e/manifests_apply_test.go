// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"labelstream/test/cache"
	"labelstream/test/controlplane"
)

// TestManifestsAreAdmitted applies each installation as kubectl does: a dry run on
// the server, then really. No controller makes pods of it, so the test does.
func TestManifestsAreAdmitted(t *testing.T) {
	t.Parallel()
	p := ownPlane(t)
	k := newKubectl(t, p)
	for _, i := range installations {
		t.Run(filepath.Base(i.name), func(t *testing.T) {
			objects := i.render(t)
			namespaces := objects.of("Namespace")
			k.apply(t, namespaces, metav1.DryRunAll)
			k.apply(t, namespaces)
			k.mustAdmit(t, namespaces[0].GetName(), objects)
		})
	}
}

// mustAdmit applies the objects of a namespace that is there, and creates a pod.
func (k *kubectl) mustAdmit(t *testing.T, namespace string, objects rendered) {
	t.Helper()
	// Nothing can be applied to a namespace that was not, even dry.
	k.apply(t, objects, metav1.DryRunAll)
	k.apply(t, objects)
	k.mustHavePods(t, namespace, objects.template(t))
	// Its Service has no pods, which the next one's objects would wait for.
	for _, object := range objects.of("ValidatingWebhookConfiguration") {
		if err := k.resource(object).Delete(t.Context(), object.GetName(), metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// kubectl applies objects, and keeps what the API server warns of.
type kubectl struct {
	plane   *plane
	client  *kubernetes.Clientset
	dynamic *dynamic.DynamicClient
	// installed are the kinds of operators that there are.
	installed map[schema.GroupVersionKind]bool

	mu       sync.Mutex
	warnings []string
}

func newKubectl(t *testing.T, p *plane) *kubectl {
	t.Helper()
	config, err := p.Config(controlplane.Admin)
	if err != nil {
		t.Fatal(err)
	}
	k := &kubectl{plane: p, installed: make(map[schema.GroupVersionKind]bool)}
	config.WarningHandler = k
	if k.client, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	if k.dynamic, err = dynamic.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	return k
}

var _ rest.WarningHandler = (*kubectl)(nil)

// HandleWarningHeader implements rest.WarningHandler.
func (k *kubectl) HandleWarningHeader(_ int, _, text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.warnings = append(k.warnings, text)
}

// apply applies objects by server-side apply, as they are ordered. Fields that
// the API server does not know are errors, and it must not warn of anything.
func (k *kubectl) apply(t *testing.T, objects rendered, dryRun ...string) {
	t.Helper()
	force := true
	for _, object := range objects {
		k.define(t, object.GroupVersionKind())
		text, err := object.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		_, err = k.resource(object).Patch(t.Context(), object.GetName(), types.ApplyPatchType, text, metav1.PatchOptions{
			FieldManager: "kubectl", FieldValidation: metav1.FieldValidationStrict, Force: &force, DryRun: dryRun,
		})
		if err != nil {
			t.Errorf("apply %s (dry run: %v): %v", titleOf(object), dryRun, err)
		}
	}
	k.mustBeSilent(t)
}

// mustBeSilent demands that there was no warning.
func (k *kubectl) mustBeSilent(t *testing.T) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, text := range k.warnings {
		t.Errorf("the API server warns: %s", text)
	}
	k.warnings = nil
}

// resource is where an object belongs.
func (k *kubectl) resource(object *unstructured.Unstructured) dynamic.ResourceInterface {
	resource, _ := meta.UnsafeGuessKindToResource(object.GroupVersionKind())
	return k.dynamic.Resource(resource).Namespace(object.GetNamespace())
}

// operator defines the kinds of a group, in files of its module.
type operator struct{ module, version, dir string }

var operators = map[string]operator{
	"cert-manager.io":       {"github.com/cert-manager/cert-manager", "v1.21.2", "deploy/crds"},
	"monitoring.coreos.com": {"github.com/prometheus-operator/prometheus-operator", "v0.85.0", "example/prometheus-operator-crd"},
}

// define defines a kind of an operator, and returns when it is served.
func (k *kubectl) define(t *testing.T, kind schema.GroupVersionKind) {
	t.Helper()
	o, ok := operators[kind.Group]
	if k.installed[kind] || !ok {
		return
	}
	k.installed[kind] = true
	source, err := cache.Module(t.Context(), o.module, o.version)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(source, o.dir, fmt.Sprintf("%s_%ss.yaml", kind.Group, strings.ToLower(kind.Kind))))
	if err != nil {
		t.Fatal(err)
	}
	text, err = yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	created(t)(k.dynamic.Resource(crds).Create(t.Context(), parse(t, text), metav1.CreateOptions{}))
	resource, _ := meta.UnsafeGuessKindToResource(kind)
	k.plane.eventually(t, func(ctx context.Context) (bool, error) {
		_, err := k.dynamic.Resource(resource).List(ctx, metav1.ListOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return true, err
	})
}

// mustHavePods demands that the namespace takes the template's pods, and would not
// without what the container says of security.
func (k *kubectl) mustHavePods(t *testing.T, namespace string, template *corev1.PodTemplateSpec) {
	t.Helper()
	create := func() error {
		pod := &corev1.Pod{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: template.Spec}
		pod.GenerateName = "labelstream-"
		pod, err := k.client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		// The next one's namespace may not allow it.
		return k.client.CoreV1().Pods(namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{})
	}
	if err := create(); err != nil {
		t.Errorf("a pod of the template: %v", err)
	}
	k.mustBeSilent(t)
	if template.Spec.HostNetwork {
		return // for privileged namespaces, that take anything
	}
	container(t, template).SecurityContext = nil
	if err := create(); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `violates PodSecurity "restricted:latest"`) {
		t.Errorf("a pod without the container's securityContext is not refused for it: %v", err)
	}
}

// TestManifestsRun applies an overlay with several replicas, and runs two of them
// as the overlay's own account and with its settings: they lead one after the
// other, send, and lack nothing.
func TestManifestsRun(t *testing.T) {
	t.Parallel()
	i := install(t, "overlays/cloudzero")
	first := i.start(t)
	first.awaitLog(t, `"Leading"`)
	first.awaitSynced(t, "pods", "namespaces")
	i.awaitSent(t, 1)
	second := i.start(t)
	second.awaitLog(t, `"Another replica leads"`)
	second.awaitReady(t)
	first.awaitReady(t)
	mustEndInSilence(t, first)
	second.awaitLog(t, `"Leading"`)
	i.awaitSent(t, 2)
	mustEndInSilence(t, second)
}

// TestManifestsRunWebhook does so with the webhook, whose certificate the API
// server is told to trust.
func TestManifestsRunWebhook(t *testing.T) {
	t.Parallel()
	i := install(t, "webhook")
	d := i.start(t)
	d.awaitReady(t)
	d.awaitSynced(t, "pods", "namespaces")
	i.awaitSent(t, 1)
	(&selfSigned{plane: i.plane, namespace: "labelstream", name: "labelstream-webhook"}).awaitTrusted(t)
	mustEndInSilence(t, d)
}

// install applies an installation to a control plane of its own, with a pod to
// send.
func install(t *testing.T, name string) *installed {
	t.Helper()
	p := ownPlane(t)
	p.namespace(t, "shop")
	p.create(t, "shop", "web", "1")
	i := &installed{plane: p, objects: installationOf(name).render(t), journal: newJournal(t)}
	newKubectl(t, p).apply(t, i.objects)
	for _, granted := range i.objects.permissions(t) {
		p.awaitPermission(t, accountUser("labelstream"), granted)
	}
	return i
}

// installed is what was applied of an overlay.
type installed struct {
	plane   *plane
	objects rendered
	journal *journal
}

// start starts a replica as its pod would: only the destination and the addresses
// are other ones, since it shares them with whatever else runs here, and the
// namespace is not in a file.
func (i *installed) start(t *testing.T) *daemon {
	t.Helper()
	template := i.objects.template(t)
	if template.Spec.ServiceAccountName != "labelstream" {
		t.Fatalf("the pods' account is %s", template.Spec.ServiceAccountName)
	}
	c := container(t, template)
	return startDaemon(t, invocation{
		kubeconfig: i.plane.accountKubeconfig(t, "labelstream"),
		args:       c.Args,
		settings: i.objects.settings(t, c).and(settings{"DESTINATION": i.journal.URL(), "LABELS_FILTERS": ".*",
			"POD_NAMESPACE": "labelstream", "WEBHOOK_ADDRESS": "127.0.0.1:0", "STATUS_ADDRESS": "127.0.0.1:0"}),
	})
}

// awaitSent waits until the pod and its namespace have been sent so many times.
func (i *installed) awaitSent(t *testing.T, times int) {
	t.Helper()
	for _, want := range []string{
		podSeriesOf("shop", "web"),
		`cloudzero_namespace_labels{"label_kubernetes.io/metadata.name"="shop",namespace="shop",resource_type="namespace"}`,
	} {
		i.journal.await(t, want, func(samples []sample) bool {
			return countOf(samples, want) >= times
		})
	}
}

// mustEndInSilence ends a daemon, and demands that it has complained of nothing
// else.
func mustEndInSilence(t *testing.T, d *daemon) {
	t.Helper()
	d.terminate(t)
	for _, e := range d.wait(t).log(t) {
		if e.Level != "info" && !strings.HasPrefix(e.Message, "Stopping") {
			t.Errorf("the log has %s: %s %s", e.Level, e.Message, e.Error)
		}
	}
}
