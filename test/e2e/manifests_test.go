// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const manifestsDir = "../../manifests"

// installation is a way to install labelstream.
type installation struct {
	name string
	// components are added to the base where the way is none of the overlays, and
	// all is put into the namespace, where one is named.
	components []string
	namespace  string
	// kinds are those of the objects that it consists of.
	kinds string
	// values are those by which the chart makes the same. It has none of the sidecar.
	values string
}

const (
	kindsOfAll        = "Namespace ServiceAccount ClusterRole ClusterRoleBinding ConfigMap "
	kindsOfDaemon     = kindsOfAll + "Deployment Service "
	kindsOfElection   = "Lease Role RoleBinding PodDisruptionBudget "
	kindsOfWebhook    = "Service NetworkPolicy ValidatingWebhookConfiguration "
	kindsOfSelfSigned = kindsOfDaemon + kindsOfWebhook + "Role RoleBinding Secret "
	kindsOfAuthority  = "Issuer Certificate Issuer Certificate "
	kindsOfMonitoring = "ServiceMonitor PrometheusRule ConfigMap "
)

// cloudZeroFilters end the values of what sends to CloudZero.
const cloudZeroFilters = `filters: [^team$, ^owner$, ^environment$, ^cost-center$, ^app$, '^app\.kubernetes\.io/(name|instance|component|part-of)$']}`

// installations are all overlays, and what else the components are for.
var installations = []installation{
	{name: "overlays/cloudzero", kinds: kindsOfDaemon + kindsOfElection, values: `{replicas: 2, ` + cloudZeroFilters},
	{name: "overlays/prometheus", kinds: kindsOfDaemon, values: `{preset: prometheus}`},
	{name: "overlays/once", kinds: kindsOfAll + "Job", values: `{mode: job, ` + cloudZeroFilters},
	{name: "overlays/sidecar", kinds: kindsOfAll + "ConfigMap Deployment Lease Role RoleBinding"},
	{name: "webhook", components: []string{"webhook", "self-signed"}, kinds: kindsOfSelfSigned, values: `{changes: webhook}`},
	{name: "cert-manager", components: []string{"webhook", "cert-manager"}, kinds: kindsOfDaemon + kindsOfWebhook + kindsOfAuthority,
		values: `{changes: webhook, webhook: {certificate: cert-manager}}`},
	{name: "port-10250", components: []string{"webhook", "self-signed", "webhook-port-10250"}, kinds: kindsOfSelfSigned,
		values: `{changes: webhook, webhook: {port: 10250}}`},
	{name: "host-network", components: []string{"webhook", "self-signed", "webhook-host-network"}, kinds: kindsOfSelfSigned,
		values: `{changes: webhook, statusPort: 10261, webhook: {port: 10260, hostNetwork: true}}`},
	{name: "cronjob", components: []string{"cronjob"}, kinds: kindsOfAll + "CronJob", values: `{mode: cronjob}`},
	{name: "monitoring", components: []string{"monitoring"}, kinds: kindsOfDaemon + kindsOfMonitoring,
		values: `{monitoring: {serviceMonitor: {enabled: true}, prometheusRule: {enabled: true}, dashboard: {enabled: true}}}`},
	{name: "elsewhere", components: []string{"high-availability", "priority", "placement"}, namespace: "elsewhere",
		kinds: kindsOfDaemon + kindsOfElection,
		values: `{replicas: 2, priorityClassName: system-cluster-critical, tolerations: [{key: CriticalAddonsOnly, operator: Exists}],
			affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, preference:
				{matchExpressions: [{key: node-role.kubernetes.io/infra, operator: Exists}]}}]}}}`},
}

// installationOf returns the installation of a name.
func installationOf(name string) *installation {
	return &installations[slices.IndexFunc(installations, func(i installation) bool { return i.name == name })]
}

// rendered are the objects that kustomize makes.
type rendered []*unstructured.Unstructured

// render runs kustomize, with the restrictions and in the order of kubectl's.
func (i *installation) render(t *testing.T) rendered {
	t.Helper()
	if i.components == nil {
		return kustomize(t, filepath.Join(manifestsDir, i.name))
	}
	return kustomize(t, i.compose(t, toCollector))
}

// toCollector ends a kustomization with a destination.
const toCollector = "configMapGenerator:\n- {name: labelstream-settings, behavior: merge, literals: [LABELSTREAM_DESTINATION=http://collector]}\n"

func kustomize(t *testing.T, dir string) rendered {
	t.Helper()
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionLegacy
	resources, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatalf("render %s: %v", dir, err)
	}
	var objects rendered
	for _, resource := range resources.Resources() {
		text, err := resource.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, parse(t, text))
	}
	return objects
}

// parse reads an object in JSON.
func parse(t *testing.T, text []byte) *unstructured.Unstructured {
	t.Helper()
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(text); err != nil {
		t.Fatal(err)
	}
	return object
}

// compose writes the kustomization that a user with another case would, with more
// that is chosen at its end.
func (i *installation) compose(t *testing.T, choices string) string {
	t.Helper()
	return writeKustomization(t, func(root string) string {
		resource := i.name
		if i.components != nil {
			resource = "base"
		}
		text := fmt.Sprintf("namespace: %q\nresources: [%s/%s]\ncomponents:\n", i.namespace, root, resource)
		for _, component := range i.components {
			text += fmt.Sprintf("- %s/components/%s\n", root, component)
		}
		return text + choices
	})
}

// writeKustomization returns a new directory with the text, which is told where
// the manifests are from there.
func writeKustomization(t *testing.T, text func(root string) string) string {
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
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text(root)), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// fence is YAML in a document.
var fence = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// TestManifestsDocumented renders the kustomizations that documents show.
func TestManifestsDocumented(t *testing.T) {
	t.Parallel()
	shown := func(path, after string) string {
		_, text, _ := strings.Cut(mustRead(t, path), after)
		return fence.FindStringSubmatch(text)[1]
	}
	away := regexp.MustCompile(`https://git\.example\.com/labelstream//manifests/(\S+)\?ref=\S+`)
	remote := shown(manifestsDir+"/README.md", "## Without a clone")
	objects := kustomize(t, writeKustomization(t, func(root string) string { return away.ReplaceAllString(remote, root+"/$1") }))
	if got := objects.template(t).Spec.Containers[0].Image; got != "registry.example.org/tools/labelstream:v0.1.0" {
		t.Errorf("the image is %s", got)
	}
	if got := objects.settings(t, container(t, objects.template(t)))["DESTINATION"]; got != "http://prometheus-server.prometheus:9090/api/v1/write" {
		t.Errorf("the destination is %s", got)
	}

	objects = kustomize(t, installationOf("monitoring").compose(t, shown("../../docs/operations.md", "`runbook_url`")))
	rules, _, err := unstructured.NestedSlice(objects.of("PrometheusRule")[0].Object, "spec", "groups")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range rules[0].(map[string]any)["rules"].([]any) {
		alert := rule.(map[string]any)
		want := "https://github.com/shop/labelstream/blob/v0.1.0/docs/operations.md#" + strings.ToLower(alert["alert"].(string))
		if got := alert["annotations"].(map[string]any)["runbook_url"]; got != want {
			t.Errorf("the runbook is %s, want %s", got, want)
		}
	}
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

// specs are where the kinds that have a pod template have what holds it.
var specs = map[string][]string{
	"Deployment": {"spec"},
	"Job":        {"spec"},
	"CronJob":    {"spec", "jobTemplate", "spec"},
}

// workload is the one object that has a pod template, and what holds that.
func (r rendered) workload(t *testing.T) (object *unstructured.Unstructured, spec map[string]any) {
	t.Helper()
	objects := slices.DeleteFunc(slices.Clone(r), func(o *unstructured.Unstructured) bool { return specs[o.GetKind()] == nil })
	if len(objects) != 1 {
		t.Fatalf("%d objects have a pod template, want 1", len(objects))
	}
	spec, _, err := unstructured.NestedMap(objects[0].Object, specs[objects[0].GetKind()]...)
	if err != nil {
		t.Fatal(err)
	}
	return objects[0], spec
}

// template is the pod template of the one object that has any.
func (r rendered) template(t *testing.T) *corev1.PodTemplateSpec {
	t.Helper()
	_, spec := r.workload(t)
	template, _ := spec["template"].(map[string]any)
	return into[corev1.PodTemplateSpec](t, template)
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

// TestManifests compares what is rendered with itself.
func TestManifests(t *testing.T) {
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
	for _, i := range installations {
		t.Run(filepath.Base(i.name), func(t *testing.T) {
			t.Parallel()
			objects := i.render(t)
			objects.mustBe(t, i)
			template := objects.template(t)
			objects.mustSelect(t, template)
			objects.mustBind(t, template)
			objects.mustBeScraped(t)
			objects.mustBeSettings(t, template)
			mustBeConfined(t, template)
			objects.mustOutlast(t, template)
			c := container(t, template)
			objects.mustBeInstances(t, c)
			if len(c.Env) > 0 {
				t.Errorf("the container has the variables %v; settings are for the ConfigMap", c.Env)
			}
		})
	}
}

// mustBe demands the kinds of an installation, all in its namespace.
func (r rendered) mustBe(t *testing.T, i installation) {
	t.Helper()
	kinds, namespace := []string(nil), r.of("Namespace")[0].GetName()
	for _, object := range r {
		kinds = append(kinds, object.GetKind())
		if own := object.GetNamespace(); own != "" && own != namespace {
			t.Errorf("%s is not in the namespace %s", titleOf(object), namespace)
		}
	}
	compare(t, strings.Fields(i.kinds), kinds)
	if i.namespace != "" && namespace != i.namespace {
		t.Errorf("the namespace is %s, want %s", namespace, i.namespace)
	}
}

// TestManifestsTogether demands that installations can be beside each other: none
// has an object of another, but for the Namespace, and none selects the pods of
// another.
func TestManifestsTogether(t *testing.T) {
	t.Parallel()
	all := make(map[string]rendered)
	for _, i := range installations {
		all[i.name] = i.render(t)
	}
	for name, one := range all {
		titles := make(map[string]bool)
		for _, object := range one {
			titles[titleOf(object)] = object.GetKind() != "Namespace"
		}
		for otherName, other := range all {
			if name == otherName || one.isDaemon(t) && other.isDaemon(t) {
				// Daemons in one namespace are the same one with other settings.
				continue
			}
			for _, object := range other {
				if titles[titleOf(object)] {
					t.Errorf("%s and %s both have the %s", name, otherName, titleOf(object))
				}
			}
			for object, matches := range one.selecting(t, other.template(t)) {
				if matches {
					t.Errorf("%s of %s selects the pods of %s", titleOf(object), name, otherName)
				}
			}
		}
	}
}

// isDaemon tells whether labelstream has a Deployment of its own.
func (r rendered) isDaemon(t *testing.T) bool {
	object, _ := r.workload(t)
	return object.GetKind() == "Deployment" && object.GetName() == "labelstream"
}

// selectors are where objects say which pods they select.
var selectors = map[string][]string{
	"Deployment":          {"spec", "selector", "matchLabels"},
	"PodDisruptionBudget": {"spec", "selector", "matchLabels"},
	"NetworkPolicy":       {"spec", "podSelector", "matchLabels"},
	"Service":             {"spec", "selector"},
}

// selecting are the objects that select pods, and whether they select these.
func (r rendered) selecting(t *testing.T, template *corev1.PodTemplateSpec) map[*unstructured.Unstructured]bool {
	t.Helper()
	all := make(map[*unstructured.Unstructured]bool)
	for _, object := range r {
		path, ok := selectors[object.GetKind()]
		if !ok {
			continue
		}
		selector, _, err := unstructured.NestedStringMap(object.Object, path...)
		if err != nil {
			t.Fatal(err)
		}
		all[object] = len(selector) > 0 && labels.SelectorFromSet(selector).Matches(labels.Set(template.Labels))
	}
	return all
}

// mustSelect demands that what selects pods selects these, and that the ports that
// Services and NetworkPolicies name are there.
func (r rendered) mustSelect(t *testing.T, template *corev1.PodTemplateSpec) {
	t.Helper()
	for object, matches := range r.selecting(t, template) {
		if !matches {
			t.Errorf("%s does not select pods with %v", titleOf(object), template.Labels)
		}
	}
	for _, spread := range template.Spec.TopologySpreadConstraints {
		if !labels.SelectorFromSet(spread.LabelSelector.MatchLabels).Matches(labels.Set(template.Labels)) {
			t.Errorf("the pods are spread among those with %v, and have %v", spread.LabelSelector, template.Labels)
		}
	}
	ports := make(map[string]bool)
	for _, c := range template.Spec.Containers {
		for _, port := range c.Ports {
			ports[port.Name] = true
		}
	}
	for _, object := range r.of("Service") {
		for _, port := range into[corev1.Service](t, object.Object).Spec.Ports {
			if !ports[port.TargetPort.String()] {
				t.Errorf("%s names the port %q, and the pods have %v", titleOf(object), port.TargetPort.String(), ports)
			}
		}
	}
	for _, object := range r.of("NetworkPolicy") {
		for _, rule := range into[networkingv1.NetworkPolicy](t, object.Object).Spec.Ingress {
			if name := rule.Ports[0].Port.String(); len(rule.Ports) != 1 || !ports[name] {
				t.Errorf("%s names the port %q, and the pods have %v", titleOf(object), name, ports)
			}
		}
	}
}

// mustBeScraped demands that the ServiceMonitor finds the status by one Service,
// whose name is the job that the rules ask for.
func (r rendered) mustBeScraped(t *testing.T) {
	t.Helper()
	for _, object := range r.of("ServiceMonitor") {
		selector, _, err := unstructured.NestedStringMap(object.Object, "spec", "selector", "matchLabels")
		if err != nil {
			t.Fatal(err)
		}
		endpoints, _, err := unstructured.NestedSlice(object.Object, "spec", "endpoints")
		if err != nil || len(endpoints) != 1 {
			t.Fatalf("the ServiceMonitor has the endpoints %v (%v), want one", endpoints, err)
		}
		var jobs []string
		for _, service := range r.of("Service") {
			// It says nothing of namespaces, so it is for its own.
			if service.GetNamespace() != object.GetNamespace() || !labels.SelectorFromSet(selector).Matches(labels.Set(service.GetLabels())) {
				continue
			}
			for _, port := range into[corev1.Service](t, service.Object).Spec.Ports {
				if port.Name == endpoints[0].(map[string]any)["port"] {
					jobs = append(jobs, service.GetName())
				}
			}
		}
		if diff := cmp.Diff([]string{downJob}, jobs); diff != "" {
			t.Errorf("jobs by %s (-want +got):\n%s", titleOf(object), diff)
		}
	}
}

// mustBeInstances demands an election where several replicas may run at the same
// time, and one replica, without an election, where reviews tell of changes.
func (r rendered) mustBeInstances(t *testing.T, c *corev1.Container) {
	t.Helper()
	own := r.settings(t, c)
	elects, reviewed := own["LEADER_ELECTION"] == "true", own["CHANGES"] == "webhook"
	for _, object := range r.of("Deployment") {
		spec := into[appsv1.Deployment](t, object.Object).Spec
		single := *spec.Replicas == 1 && spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType
		if single == elects || reviewed && !single {
			t.Errorf("%s has %d replicas and the strategy %s; elections: %t, webhook: %t",
				titleOf(object), *spec.Replicas, spec.Strategy.Type, elects, reviewed)
		}
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
// ends only for want of an API server, and not with exit code 2. A destination that
// is to be edited must do that, and say so.
func (r rendered) mustBeSettings(t *testing.T, template *corev1.PodTemplateSpec) {
	t.Helper()
	c := container(t, template)
	missing := filepath.Join(t.TempDir(), "kubeconfig")
	given := r.settings(t, c)
	run := func() result {
		return launch(t, invocation{kubeconfig: missing, args: c.Args, settings: given}).wait(t)
	}
	if strings.HasPrefix(given["DESTINATION"], "EDIT ") {
		unedited := run()
		unedited.mustEndWith(t, 2)
		if !strings.Contains(unedited.stderr, `LABELSTREAM_DESTINATION="EDIT `) {
			t.Errorf("the log does not say what is to be edited:\n%s", unedited.stderr)
		}
		given["DESTINATION"] = strings.NewReplacer("EDIT ", "", "<release>", "cz", "<namespace>", "cost").Replace(given["DESTINATION"])
	}
	run().mustFail(t)
}

// settings are those that the container takes from ConfigMaps.
func (r rendered) settings(t *testing.T, c *corev1.Container) settings {
	t.Helper()
	all := settings{}
	for _, source := range c.EnvFrom {
		name := source.ConfigMapRef.Name
		configMaps := r.of("ConfigMap")
		i := slices.IndexFunc(configMaps, func(o *unstructured.Unstructured) bool { return o.GetName() == name })
		if i < 0 {
			t.Fatalf("the container takes settings from the ConfigMap %s, which is not there", name)
		}
		for variable, value := range into[corev1.ConfigMap](t, configMaps[i].Object).Data {
			setting, ok := strings.CutPrefix(variable, "LABELSTREAM_")
			if !ok {
				t.Errorf("the ConfigMap has %s, which is no setting", variable)
			}
			all[setting] = value
		}
	}
	if len(all) == 0 {
		t.Fatal("the container has no settings")
	}
	return all
}

// mustBeConfined demands what no Pod Security standard does, and that labelstream is
// not the container that kubectl takes where none is named, if there are others.
func mustBeConfined(t *testing.T, template *corev1.PodTemplateSpec) {
	t.Helper()
	c := container(t, template)
	if security := c.SecurityContext; security == nil || security.ReadOnlyRootFilesystem == nil || !*security.ReadOnlyRootFilesystem {
		t.Error("the container may write to its root")
	}
	if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() {
		t.Errorf("the container has the resources %+v, want requests and a limit of memory", c.Resources)
	}
	if last := template.Spec.Containers[len(template.Spec.Containers)-1].Name; last != c.Name {
		t.Errorf("the last container is %s, want %s", last, c.Name)
	}
}

// mustOutlast demands that a Job is not ended before labelstream has ended by
// itself, in each run that the Job allows, and that it does not run again with
// settings that were wrong.
func (r rendered) mustOutlast(t *testing.T, template *corev1.PodTemplateSpec) {
	t.Helper()
	object, spec := r.workload(t)
	if object.GetKind() == "Deployment" {
		return
	}
	job := into[batchv1.JobSpec](t, spec)
	limit, err := time.ParseDuration(r.settings(t, container(t, template))["ONCE_TIMEOUT"])
	if err != nil {
		t.Fatal(err)
	}
	runs := time.Duration(*job.BackoffLimit) + 1
	grace := time.Duration(*template.Spec.TerminationGracePeriodSeconds) * time.Second
	if deadline := time.Duration(*job.ActiveDeadlineSeconds) * time.Second; deadline <= runs*(limit+grace) {
		t.Errorf("%s is ended after %s, and %d runs of %s each are allowed", titleOf(object), deadline, runs, limit+grace)
	}
	want := &batchv1.PodFailurePolicyOnExitCodesRequirement{
		ContainerName: new("labelstream"), Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{2},
	}
	if !slices.ContainsFunc(job.PodFailurePolicy.Rules, func(rule batchv1.PodFailurePolicyRule) bool {
		return rule.Action == batchv1.PodFailurePolicyActionFailJob && cmp.Equal(rule.OnExitCodes, want)
	}) {
		t.Errorf("%s has the rules %+v, want one that ends it at exit code 2", titleOf(object), job.PodFailurePolicy.Rules)
	}
}
