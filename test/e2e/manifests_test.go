package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const manifestsDir = "../../manifests"

// installation is a way to install labelstream, and the objects that it
// consists of: kind, namespace and name, that of a ConfigMap without its hash.
type installation struct {
	name string
	// components are added to the base where the way is none of the overlays, and
	// all is put into the namespace, where one is named.
	components []string
	namespace  string
	want       []string
}

// theDaemon is in every installation that has a Deployment of its own.
var theDaemon = []string{
	"Namespace labelstream",
	"ServiceAccount labelstream/labelstream",
	"ClusterRole labelstream",
	"ClusterRoleBinding labelstream",
	"ConfigMap labelstream/labelstream-settings",
	"Service labelstream/labelstream",
	"Deployment labelstream/labelstream",
}

var theElection = []string{
	"Role labelstream/labelstream-leader-election",
	"RoleBinding labelstream/labelstream-leader-election",
	"PodDisruptionBudget labelstream/labelstream",
}

var theWebhook = []string{
	"Service labelstream/labelstream-webhook",
	"NetworkPolicy labelstream/labelstream",
	"ValidatingWebhookConfiguration labelstream",
}

// aRun is a Job or a CronJob in place of the daemon.
func aRun(kind string) []string {
	return append(theDaemon[:5:5], kind+" labelstream/labelstream")
}

// installations are all overlays, and what else the components are for.
var installations = []installation{
	{name: "overlays/cloudzero", want: slices.Concat(theDaemon, theElection, theWebhook, []string{
		"Role labelstream/labelstream-webhook",
		"RoleBinding labelstream/labelstream-webhook",
	})},
	{name: "overlays/prometheus", want: theDaemon},
	{name: "overlays/once", want: aRun("Job")},
	{name: "overlays/sidecar", want: []string{
		"Namespace collector",
		"ServiceAccount collector/collector",
		"ClusterRole labelstream",
		"ClusterRoleBinding labelstream",
		"Role collector/labelstream-leader-election",
		"RoleBinding collector/labelstream-leader-election",
		"ConfigMap collector/collector",
		"ConfigMap collector/labelstream-settings",
		"Deployment collector/collector",
	}},
	{name: "cert-manager", components: []string{"webhook", "cert-manager", "high-availability"},
		want: slices.Concat(theDaemon, theElection, theWebhook, []string{
			"Issuer labelstream/labelstream-webhook",
			"Certificate labelstream/labelstream-webhook",
		})},
	{name: "cronjob", components: []string{"cronjob"}, want: aRun("CronJob")},
	{name: "elsewhere", components: []string{"high-availability"}, namespace: "elsewhere",
		want: elsewhere(slices.Concat(theDaemon, theElection))},
}

// elsewhere are the same objects in another namespace.
func elsewhere(titles []string) []string {
	var moved []string
	for _, title := range titles {
		title = strings.Replace(title, " labelstream/", " elsewhere/", 1)
		moved = append(moved, strings.Replace(title, "Namespace labelstream", "Namespace elsewhere", 1))
	}
	return moved
}

// rendered are the objects that kustomize makes.
type rendered []*unstructured.Unstructured

// render runs kustomize, with the restrictions and in the order of kubectl's.
func (i *installation) render(t *testing.T) rendered {
	t.Helper()
	dir := filepath.Join(manifestsDir, i.name)
	if i.components != nil {
		dir = i.compose(t)
	}
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatalf("render %s: %v", i.name, err)
	}
	var objects rendered
	for _, resource := range resources.Resources() {
		text, err := resource.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(text); err != nil {
			t.Fatal(err)
		}
		objects = append(objects, object)
	}
	return objects
}

// compose writes the kustomization that a user with another case would.
func (i *installation) compose(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	manifests, err := filepath.Abs(manifestsDir)
	if err != nil {
		t.Fatal(err)
	}
	// kustomize takes no absolute paths.
	root, err := filepath.Rel(dir, manifests)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "namespace: %q\nresources: [%s/base]\ncomponents:\n", i.namespace, root)
	for _, component := range i.components {
		fmt.Fprintf(&text, "- %s/components/%s\n", root, component)
	}
	fmt.Fprint(&text, "configMapGenerator:\n- {name: labelstream-settings, behavior: merge, literals: [LABELSTREAM_DESTINATION=http://collector]}\n")
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// into reads an object as its type.
func into[T any](t *testing.T, object map[string]any) *T {
	t.Helper()
	typed := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object, typed, true); err != nil {
		t.Fatal(err)
	}
	return typed
}

// of are the objects of a kind.
func (r rendered) of(kind string) rendered {
	return slices.DeleteFunc(slices.Clone(r), func(o *unstructured.Unstructured) bool { return o.GetKind() != kind })
}

// template is the pod template of the one object that has any.
func (r rendered) template(t *testing.T) *corev1.PodTemplateSpec {
	t.Helper()
	var found []map[string]any
	for kind, path := range map[string][]string{
		"Deployment": {"spec", "template"},
		"Job":        {"spec", "template"},
		"CronJob":    {"spec", "jobTemplate", "spec", "template"},
	} {
		for _, object := range r.of(kind) {
			template, ok, err := unstructured.NestedMap(object.Object, path...)
			if err != nil || !ok {
				t.Fatalf("%s has no pod template: %v", titleOf(object), err)
			}
			found = append(found, template)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects have a pod template, want 1", len(found))
	}
	return into[corev1.PodTemplateSpec](t, found[0])
}

// container is the one of labelstream.
func container(t *testing.T, template *corev1.PodTemplateSpec) *corev1.Container {
	t.Helper()
	for i := range template.Spec.Containers {
		if c := &template.Spec.Containers[i]; c.Name == "labelstream" {
			return c
		}
	}
	t.Fatal("no container is named labelstream")
	return nil
}

var contentHash = regexp.MustCompile(`-[0-9a-z]{10}$`)

// titleOf names an object as installations do.
func titleOf(object *unstructured.Unstructured) string {
	name := object.GetName()
	if object.GetKind() == "ConfigMap" {
		name = contentHash.ReplaceAllString(name, "")
	}
	return object.GetKind() + " " + strings.TrimPrefix(object.GetNamespace()+"/"+name, "/")
}

// TestManifests holds what is rendered against itself.
func TestManifests(t *testing.T) {
	t.Parallel()
	for _, i := range installations {
		t.Run(filepath.Base(i.name), func(t *testing.T) {
			t.Parallel()
			objects := i.render(t)
			var titles []string
			for _, object := range objects {
				titles = append(titles, titleOf(object))
			}
			slices.Sort(titles)
			if diff := cmp.Diff(slices.Sorted(slices.Values(i.want)), titles); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
			template := objects.template(t)
			objects.mustSelect(t, template)
			objects.mustBind(t, template)
			objects.mustBeSettings(t, template)
			mustBeConfined(t, container(t, template))
			objects.mustOutlast(t, template)
		})
	}
}

func TestManifestsOfAllOverlays(t *testing.T) {
	t.Parallel()
	dirs, err := filepath.Glob(filepath.Join(manifestsDir, "overlays", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		name := "overlays/" + filepath.Base(dir)
		if !slices.ContainsFunc(installations, func(i installation) bool { return i.name == name }) {
			t.Errorf("%s is not tested; add it to installations", name)
		}
	}
}

// mustSelect demands that what selects pods selects these, and that the ports
// that it names are there.
func (r rendered) mustSelect(t *testing.T, template *corev1.PodTemplateSpec) {
	t.Helper()
	ports := make(map[string]bool)
	for _, c := range template.Spec.Containers {
		for _, port := range c.Ports {
			ports[port.Name] = true
		}
	}
	mustSelect := func(object *unstructured.Unstructured, selector labels.Set, names ...string) {
		if len(selector) == 0 || !selector.AsSelector().Matches(labels.Set(template.Labels)) {
			t.Errorf("%s selects %v, and the pods have %v", titleOf(object), selector, template.Labels)
		}
		for _, name := range names {
			if !ports[name] {
				t.Errorf("%s names the port %q, and the pods have %v", titleOf(object), name, ports)
			}
		}
	}
	for _, object := range r.of("Service") {
		service := into[corev1.Service](t, object.Object)
		for _, port := range service.Spec.Ports {
			mustSelect(object, service.Spec.Selector, port.TargetPort.String())
		}
	}
	for _, object := range r.of("NetworkPolicy") {
		policy := into[networkingv1.NetworkPolicy](t, object.Object)
		for _, rule := range policy.Spec.Ingress {
			for _, port := range rule.Ports {
				mustSelect(object, policy.Spec.PodSelector.MatchLabels, port.Port.String())
			}
		}
	}
	for _, object := range r.of("PodDisruptionBudget") {
		mustSelect(object, into[policyv1.PodDisruptionBudget](t, object.Object).Spec.Selector.MatchLabels)
	}
}

// mustBind demands that all roles are bound to the account of the pods, which is
// there.
func (r rendered) mustBind(t *testing.T, template *corev1.PodTemplateSpec) {
	t.Helper()
	accounts := r.of("ServiceAccount")
	if len(accounts) != 1 || accounts[0].GetName() != template.Spec.ServiceAccountName {
		t.Fatalf("the accounts are %v, and that of the pods is %s", accounts, template.Spec.ServiceAccountName)
	}
	want := []rbacv1.Subject{{Kind: "ServiceAccount", Name: accounts[0].GetName(), Namespace: accounts[0].GetNamespace()}}
	for _, object := range append(r.of("ClusterRoleBinding"), r.of("RoleBinding")...) {
		// Both kinds of bindings have the same fields.
		binding := into[rbacv1.ClusterRoleBinding](t, object.Object)
		if diff := cmp.Diff(want, binding.Subjects); diff != "" {
			t.Errorf("subjects of %s (-want +got):\n%s", titleOf(object), diff)
		}
		roles := r.of(binding.RoleRef.Kind)
		if !slices.ContainsFunc(roles, func(o *unstructured.Unstructured) bool {
			return o.GetName() == binding.RoleRef.Name && o.GetNamespace() == object.GetNamespace()
		}) {
			t.Errorf("%s binds the %s %s, which is not there", titleOf(object), binding.RoleRef.Kind, binding.RoleRef.Name)
		}
	}
}

// mustBeSettings demands that the binary takes the container's settings: its run
// ends only for want of an API server, and not with exit code 2.
func (r rendered) mustBeSettings(t *testing.T, template *corev1.PodTemplateSpec) {
	t.Helper()
	c := container(t, template)
	all := settings{}
	for name, value := range r.environment(t, c) {
		setting, ok := strings.CutPrefix(name, "LABELSTREAM_")
		if !ok {
			t.Errorf("the ConfigMap has %s, which is no setting", name)
		}
		all[setting] = value
	}
	for _, variable := range c.Env {
		if variable.ValueFrom == nil || variable.ValueFrom.FieldRef == nil {
			t.Errorf("the variable %s is not of the downward API; settings are for the ConfigMap", variable.Name)
		}
		all[variable.Name] = "from-the-downward-api"
	}
	missing := filepath.Join(t.TempDir(), "kubeconfig")
	launch(t, invocation{kubeconfig: missing, args: c.Args, settings: all}).wait(t).mustFail(t)
}

// environment has what the container takes from ConfigMaps.
func (r rendered) environment(t *testing.T, c *corev1.Container) map[string]string {
	t.Helper()
	environment := make(map[string]string)
	for _, source := range c.EnvFrom {
		name := source.ConfigMapRef.Name
		configMaps := r.of("ConfigMap")
		i := slices.IndexFunc(configMaps, func(o *unstructured.Unstructured) bool { return o.GetName() == name })
		if i < 0 {
			t.Fatalf("the container takes settings from the ConfigMap %s, which is not there", name)
		}
		maps.Copy(environment, into[corev1.ConfigMap](t, configMaps[i].Object).Data)
	}
	if len(environment) == 0 {
		t.Fatal("the container has no settings")
	}
	return environment
}

// mustBeConfined demands what no Pod Security standard does.
func mustBeConfined(t *testing.T, c *corev1.Container) {
	t.Helper()
	if security := c.SecurityContext; security == nil || security.ReadOnlyRootFilesystem == nil || !*security.ReadOnlyRootFilesystem {
		t.Error("the container may write to its root")
	}
	if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() {
		t.Errorf("the container has the resources %+v, want requests and a limit of memory", c.Resources)
	}
}

// mustOutlast demands that a Job is not ended before labelstream ends by itself.
func (r rendered) mustOutlast(t *testing.T, template *corev1.PodTemplateSpec) {
	t.Helper()
	for kind, path := range map[string][]string{
		"Job":     {"spec", "activeDeadlineSeconds"},
		"CronJob": {"spec", "jobTemplate", "spec", "activeDeadlineSeconds"},
	} {
		for _, object := range r.of(kind) {
			limit, err := time.ParseDuration(r.environment(t, container(t, template))["LABELSTREAM_ONCE_TIMEOUT"])
			if err != nil {
				t.Fatal(err)
			}
			seconds, _, err := unstructured.NestedInt64(object.Object, path...)
			if deadline := time.Duration(seconds) * time.Second; err != nil || deadline <= limit {
				t.Errorf("%s is ended after %s (%v), and labelstream ends after %s", titleOf(object), deadline, err, limit)
			}
		}
	}
}
