// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"labelstream/test/chart"
	"labelstream/test/controlplane"
)

// chartCases are values of the chart that are for none of the manifests, beside a
// destination. All objects are in the namespace labelstream.
var chartCases = []struct{ name, release, values string }{
	{"other-name", "ours", `{changes: webhook, webhook: {path: /secret, networkPolicy: {enabled: false}}}`},
	{"other-names", "ours", `{replicas: 2, fullnameOverride: theirs, monitoring: {prometheusRule: {enabled: true}}}`},
	{"kinds", "labelstream", `{changes: webhook, resources: [pods, nodes, deployments.apps, rollouts.argoproj.io, statefulsets.apps]}`},
	{"namespaces", "labelstream", `{resources: [pods, namespaces, nodes, deployments.apps], namespaces: [shop, bank], replicas: 2}`},
	{"one-namespace", "labelstream", `{resources: [pods], namespaces: [labelstream], changes: none}`},
	{"issuer", "labelstream", `{changes: webhook, webhook: {certificate: cert-manager, issuer: {kind: ClusterIssuer, name: ours}}}`},
	{"token", "labelstream", `{auth: {secret: collector, bearerTokenKey: token}, annotationFilters: [^team$], settings: {SEND_TIMEOUT: 5s, BATCH_SIZE: 1000,
		PPROF: true, EXTERNAL_LABELS: [cluster=a, zone=b], MAX_KEYS: 100000, VALUE_MAX_BYTES: 131072}}`},
	{"password", "labelstream", `{auth: {secret: collector, username: me, passwordKey: password}, mode: cronjob, onceTimeoutMinutes: 90}`},
	{"client", "labelstream", `{auth: {secret: collector, httpClientConfigKey: http.yaml}, containerResources: {requests: {cpu: 1, memory: 1Gi}, limits: {memory: 2Gi}},
		serviceAccount: {annotations: {example.com/role: reader}}, podAnnotations: {example.com/note: new}, podLabels: {team: a}}`},
	{"pod", "labelstream", `{image: {digest: "sha256:0123456789012345678901234567890123456789012345678901234567890123", pullPolicy: Always, pullSecrets: [registry]},
		extraEnv: [{name: HTTPS_PROXY, value: "http://proxy:3128"}], extraVolumes: [{name: extra, emptyDir: {}}],
		extraVolumeMounts: [{name: extra, mountPath: /extra}], replicas: 2, topologySpreadConstraints:
			[{maxSkew: 2, topologyKey: example.com/rack, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app.kubernetes.io/name: labelstream}}}]}`},
}

// chartOf renders the chart, as helm install does.
func chartOf(t *testing.T, release, namespace, values string, flags ...string) rendered {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(values, "\t", "  ")), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"template", release, chart.Dir, "--namespace", namespace, "--set", "destination=http://collector",
		"--values", file}, flags...)
	out, err := chart.Run(t.Context(), t.TempDir(), "", args...)
	if err != nil {
		t.Fatal(err)
	}
	var objects rendered
	for document := range strings.SplitSeq("\n"+out, "\n---\n") {
		text, err := yaml.YAMLToJSONStrict([]byte(document))
		if err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		if string(text) != "null" {
			objects = append(objects, parse(t, text))
		}
	}
	return objects
}

// TestChartIsTheManifests demands that chart and manifests make the same objects
// where the same is chosen, but for helm's own labels.
func TestChartIsTheManifests(t *testing.T) {
	t.Parallel()
	for _, i := range installations {
		if i.values == "" {
			continue
		}
		t.Run(filepath.Base(i.name), func(t *testing.T) {
			t.Parallel()
			object, _ := i.render(t).workload(t)
			release := object.GetName()
			choices := toCollector + "images: [{name: labelstream, newName: registry.example.com/labelstream, newTag: dev}]\n"
			// A release selects the pods of its instance alone.
			choices += fmt.Sprintf("labels:\n- {pairs: {app.kubernetes.io/instance: %s}, includeSelectors: true}\n"+
				"- {pairs: {app.kubernetes.io/version: dev}, includeTemplates: true}\n", release)
			objects := kustomize(t, i.compose(t, choices))
			namespace := objects.of("Namespace")[0].GetName()
			objects = slices.DeleteFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == "Namespace" })
			fromChart := chartOf(t, release, namespace, i.values, "--skip-tests")
			if diff := cmp.Diff(objects.comparable(t), fromChart.comparable(t)); diff != "" {
				t.Errorf("(-manifests +chart):\n%s", diff)
			}
		})
	}
}

// comparable are the objects by what they are, without the labels that helm adds,
// and without the hash by which a change of the settings replaces pods.
func (r rendered) comparable(t *testing.T) map[string]any {
	t.Helper()
	all := make(map[string]any)
	for _, object := range r {
		object.SetName(contentHash.ReplaceAllString(object.GetName(), ""))
		if object.GetKind() == "ConfigMap" && strings.Contains(object.GetName(), "settings") {
			object.SetName("settings")
		}
		if all[titleOf(object)] != nil {
			t.Errorf("there are two of %s", titleOf(object))
		}
		strip(object.Object)
		all[titleOf(object)] = object.Object
	}
	return all
}

// strip takes out of an object what [rendered.comparable] leaves out.
func strip(value any) {
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			strip(item)
		}
	case map[string]any:
		delete(v, "helm.sh/chart")
		delete(v, "checksum/settings")
		if v["app.kubernetes.io/managed-by"] == "Helm" {
			delete(v, "app.kubernetes.io/managed-by")
		}
		if reference, ok := v["configMapRef"].(map[string]any); ok {
			reference["name"] = "settings"
		}
		for key, item := range v {
			strip(item)
			if annotations, ok := item.(map[string]any); ok && key == "annotations" && len(annotations) == 0 {
				delete(v, key)
			}
		}
	}
}

// TestChart demands of the chart what TestManifests does of the manifests, that it
// grants what labelstream prints for its settings, and that the API server takes
// all of it, the pod of helm test included.
func TestChart(t *testing.T) {
	t.Parallel()
	p := ownPlane(t)
	k := newKubectl(t, p)
	k.apply(t, installationOf("webhook").render(t).of("Namespace"))
	for _, name := range []string{"shop", "bank"} {
		p.namespace(t, name)
	}
	for _, c := range chartCases {
		t.Run(c.name, func(t *testing.T) {
			objects := chartOf(t, c.release, "labelstream", c.values)
			k.mustAdmit(t, "labelstream", slices.DeleteFunc(slices.Clone(objects), isHook))
			hook := objects[slices.IndexFunc(objects, isHook)]
			k.apply(t, rendered{hook}, metav1.DryRunAll)

			template := objects.template(t)
			objects.mustSelect(t, template)
			objects.mustBind(t, template)
			mustBeConfined(t, template)
			objects.mustBeInstances(t, container(t, template))
			for _, rules := range objects.of("PrometheusRule") {
				if text, err := rules.MarshalJSON(); err != nil || !strings.Contains(string(text), `up{job=\"theirs\"}`) {
					t.Errorf("the rules ask for another job than the Service's (%v): %s", err, text)
				}
			}
			objects.mustTest(t, template, into[corev1.Pod](t, hook.Object))

			own := objects.settings(t, container(t, template)).and(settings{"POD_NAMESPACE": "labelstream"})
			objects.putSecrets(t, own)
			compare(t, texts(printedRoles(t, own, container(t, template).Args...).permissions()), texts(objects.permissions(t)))
			objects.mustBeSettings(t, template)
			objects.mustOutlast(t, template)
		})
	}
}

func isHook(object *unstructured.Unstructured) bool {
	return object.GetAnnotations()["helm.sh/hook"] != ""
}

// mustTest demands that the pod of helm test has all that the others have.
func (r rendered) mustTest(t *testing.T, template *corev1.PodTemplateSpec, pod *corev1.Pod) {
	t.Helper()
	run, check := container(t, template).DeepCopy(), pod.Spec.Containers[0]
	check.Args = slices.DeleteFunc(slices.Clone(check.Args), func(arg string) bool { return arg == "check" })
	// What a daemon has, and a command has not.
	run.Name, run.Ports, run.Resources = check.Name, nil, check.Resources
	run.StartupProbe, run.LivenessProbe, run.ReadinessProbe = nil, nil, nil
	if diff := cmp.Diff(run, &check, cmp.Transformer("args", func(args []string) string { return strings.Join(args, " ") })); diff != "" {
		t.Errorf("the container of helm test (-others +test):\n%s", diff)
	}
	if diff := cmp.Diff(template.Spec.Volumes, pod.Spec.Volumes); diff != "" {
		t.Errorf("the volumes of helm test (-others +test):\n%s", diff)
	}
	for object, matches := range r.selecting(t, &corev1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta}) {
		if matches {
			t.Errorf("%s selects the pod of helm test", titleOf(object))
		}
	}
}

// putSecrets points settings at files here that are in a Secret's volume there.
func (r rendered) putSecrets(t *testing.T, own settings) {
	t.Helper()
	dir := t.TempDir()
	for name, value := range own {
		if key, ok := strings.CutPrefix(value, "/etc/labelstream/auth/"); ok {
			own[name] = filepath.Join(dir, key)
			if err := os.WriteFile(own[name], []byte("{}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, object := range r.of("ConfigMap") {
				if err := unstructured.SetNestedField(object.Object, own[name], "data", "LABELSTREAM_"+name); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestChartRelease installs, upgrades, rolls back and uninstalls a release while
// labelstream runs: the certificate and what API servers trust stay, and in the end
// nothing does.
func TestChartRelease(t *testing.T) {
	t.Parallel()
	p := ownPlane(t)
	p.namespace(t, "shop")
	p.create(t, "shop", "web", "1")
	dir := t.TempDir()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := p.WriteKubeconfig(kubeconfig, controlplane.Admin); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		out, err := chart.Run(t.Context(), dir, kubeconfig, append(args, "--namespace", "labelstream")...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	said := run("install", "labelstream", chart.Dir, "--create-namespace", "--set", "destination=http://collector,changes=webhook")
	for _, command := range []string{"kubectl -n labelstream rollout status deployment/labelstream\n",
		"helm -n labelstream test labelstream\n", "kubectl -n labelstream port-forward deployment/labelstream 8080:8080\n"} {
		if !strings.Contains(said, command) {
			t.Errorf("the notes have no command %q:\n%s", command, said)
		}
	}
	i := &installed{plane: p, objects: chartOf(t, "labelstream", "labelstream", `{changes: webhook}`, "--skip-tests"), journal: newJournal(t)}
	for _, granted := range i.objects.permissions(t) {
		p.awaitPermission(t, accountUser("labelstream"), granted)
	}
	d := i.start(t)
	d.awaitReady(t)
	s := &selfSigned{plane: p, namespace: "labelstream", name: "labelstream-webhook"}
	s.awaitTrusted(t)
	bundle, kept := s.registered(t).Webhooks[0].ClientConfig.CABundle, s.kept(t)
	mustStay := func(when string) {
		t.Helper()
		if diff := cmp.Diff(bundle, s.registered(t).Webhooks[0].ClientConfig.CABundle); diff != "" {
			t.Errorf("the caBundle after the %s (-want +got):\n%s", when, diff)
		}
		if diff := cmp.Diff(kept, s.kept(t)); diff != "" {
			t.Errorf("the Secret after the %s (-want +got):\n%s", when, diff)
		}
	}
	mustEndInSilence(t, d)
	run("upgrade", "labelstream", chart.Dir, "--reuse-values", "--set", "resources={pods,nodes},settings.SEND_INTERVAL=5s")
	if got := s.registered(t).Webhooks[0].Rules[0].Resources; !slices.Equal(got, []string{"pods", "nodes"}) {
		t.Errorf("after the upgrade the rule is for %v", got)
	}
	mustStay("upgrade")
	run("rollback", "labelstream", "1")
	mustStay("rollback")

	run("upgrade", "labelstream", chart.Dir, "--set", "destination=http://collector,replicas=2")
	want := chartOf(t, "labelstream", "labelstream", `{replicas: 2}`, "--skip-tests")
	compare(t, slices.Collect(maps.Keys(want.comparable(t))), p.ofRelease(t))
	run("uninstall", "labelstream")
	compare(t, nil, p.ofRelease(t))
}

// ofRelease are the objects that the release has, or that labelstream has made.
func (p *plane) ofRelease(t *testing.T) (titles []string) {
	t.Helper()
	lists, err := p.client.Discovery().ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, resource := range list.APIResources {
			if !slices.Contains(resource.Verbs, "list") || slices.Contains([]string{"Event", "Endpoints", "ComponentStatus"}, resource.Kind) {
				continue
			}
			found, err := p.dynamic.Resource(version.WithResource(resource.Name)).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for i := range found.Items {
				item := &found.Items[i]
				if item.GetKind() == "Namespace" || !strings.Contains(item.GetName(), "labelstream") || strings.HasPrefix(item.GetName(), "sh.helm.release") {
					continue
				}
				if item.GetKind() == "ConfigMap" {
					item.SetName("settings")
				}
				titles = append(titles, titleOf(item))
			}
		}
	}
	return titles
}
