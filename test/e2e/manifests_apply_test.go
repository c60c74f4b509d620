package e2e

import (
	"path/filepath"
	"slices"
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
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

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
			// Nothing can be applied to a namespace that was not, even dry.
			k.apply(t, objects, metav1.DryRunAll)
			k.apply(t, objects)
			k.mustBeSilent(t)
			k.mustHavePods(t, namespaces[0].GetName(), objects.template(t))
			// Its Service has no pods, which the next one's objects would wait for.
			for _, object := range objects.of("ValidatingWebhookConfiguration") {
				k.remove(t, object)
			}
		})
	}
}

// kubectl applies objects, and keeps what the API server warns of.
type kubectl struct {
	plane   *plane
	client  *kubernetes.Clientset
	dynamic *dynamic.DynamicClient
	mapper  *restmapper.DeferredDiscoveryRESTMapper

	mu       sync.Mutex
	warnings []string
}

func newKubectl(t *testing.T, p *plane) *kubectl {
	t.Helper()
	config, err := p.Config(controlplane.Admin)
	if err != nil {
		t.Fatal(err)
	}
	k := &kubectl{plane: p}
	config.WarningHandler = k
	if k.client, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	if k.dynamic, err = dynamic.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	k.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(k.client.Discovery()))
	return k
}

var _ rest.WarningHandler = (*kubectl)(nil)

// HandleWarningHeader implements rest.WarningHandler.
func (k *kubectl) HandleWarningHeader(_ int, _, text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.warnings = append(k.warnings, text)
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

// apply applies objects by server-side apply, as they are ordered. Fields that
// the API server does not know are errors.
func (k *kubectl) apply(t *testing.T, objects rendered, dryRun ...string) {
	t.Helper()
	force := true
	for _, object := range objects {
		text, err := object.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		_, err = k.resource(t, object).Patch(t.Context(), object.GetName(), types.ApplyPatchType, text, metav1.PatchOptions{
			FieldManager: "kubectl", FieldValidation: metav1.FieldValidationStrict, Force: &force, DryRun: dryRun,
		})
		if err != nil {
			t.Errorf("apply %s (dry run: %v): %v", titleOf(object), dryRun, err)
		}
	}
}

func (k *kubectl) remove(t *testing.T, object *unstructured.Unstructured) {
	t.Helper()
	if err := k.resource(t, object).Delete(t.Context(), object.GetName(), metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// resource is where an object belongs.
func (k *kubectl) resource(t *testing.T, object *unstructured.Unstructured) dynamic.ResourceInterface {
	t.Helper()
	kind := object.GroupVersionKind()
	mapping, err := k.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) {
		mapping, err = k.define(t, kind)
	}
	if err != nil {
		t.Fatalf("find the resource of %s: %v", titleOf(object), err)
	}
	resource := k.dynamic.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		return resource
	}
	return resource.Namespace(object.GetNamespace())
}

// operators are the groups whose kinds are installed beside labelstream. What
// they hold is not checked.
var operators = []string{"cert-manager.io", "monitoring.coreos.com"}

// define defines a kind of an operator, and returns when it is served.
func (k *kubectl) define(t *testing.T, kind schema.GroupVersionKind) (*meta.RESTMapping, error) {
	t.Helper()
	if !slices.Contains(operators, kind.Group) {
		t.Fatalf("no API server has %s, nor one of the operators %v", kind, operators)
	}
	k.plane.install(t, kind.Group, kind.Kind, "Namespaced", kind.Version)
	eventuallyTrue(t, kind.String()+" is served", func() bool {
		list, err := k.client.Discovery().ServerResourcesForGroupVersion(kind.GroupVersion().String())
		return err == nil && slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Kind == kind.Kind })
	})
	k.mapper.Reset()
	return k.mapper.RESTMapping(kind.GroupKind(), kind.Version)
}

// mustHavePods demands that the namespace takes the template's pods, and would not
// without what they say of security.
func (k *kubectl) mustHavePods(t *testing.T, namespace string, template *corev1.PodTemplateSpec) {
	t.Helper()
	if err := k.create(t, namespace, template); err != nil {
		t.Errorf("a pod of the template: %v", err)
	}
	k.mustBeSilent(t)
	for _, whose := range []string{"pod", "container"} {
		weak := template.DeepCopy()
		if whose == "pod" {
			weak.Spec.SecurityContext = nil
		} else {
			container(t, weak).SecurityContext = nil
		}
		err := k.create(t, namespace, weak)
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `violates PodSecurity "restricted:latest"`) {
			t.Errorf("a pod without the %s's securityContext is not refused for it: %v", whose, err)
		}
	}
}

// create creates a pod. The error is the API server's.
func (k *kubectl) create(t *testing.T, namespace string, template *corev1.PodTemplateSpec) error {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: template.Spec}
	pod.GenerateName = "labelstream-"
	_, err := k.client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	return err
}
