package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// TestDaemonGrantedLater has a kind that may not be listed at first, and then
// not be watched, beside one that may.
func TestDaemonGrantedLater(t *testing.T) {
	t.Parallel()
	const namespace = "granted-later"
	p := shared.plane
	p.numbered(t, namespace, 1)
	p.deploy(t, namespace, "first")
	reader := p.follower(t, namespace, "pods")
	j := newJournal(t)
	d := startDaemon(t, invocation{user: reader, settings: following.and(settings{
		"DESTINATION": j.URL(), "NAMESPACES": namespace, "LABELS_RESOURCES": "deployments,pods",
	})})
	d.awaitLog(t, `grant the verb \"list\" on resource \"deployments\" in API group \"apps\"`)
	want := []string{numberedPod(0) + " 1"}
	j.awaitCount(t, len(want))
	metrics := d.metrics(t)
	if metrics[`labelstream_synced{kind="deployments.apps"}`] != 0 || metrics[`labelstream_synced{kind="pods"}`] != 1 {
		t.Error("labelstream_synced is not 0 of deployments.apps and 1 of pods")
	}
	if n := metrics[`labelstream_errors_total{kind="deployments.apps",reason="Forbidden",verb="list"}`]; n == 0 {
		t.Error("labelstream_errors_total counts no list of deployments.apps that was forbidden")
	}
	mustReport(t, d, "deployments.apps: listing, 0 objects read; list deployments.apps in namespace "+namespace+": forbidden; grant")

	p.allow(t, reader, namespace, right{"deployments.apps", []string{"list"}})
	want = append(want, "first deployed")
	j.awaitCount(t, len(want))
	d.awaitLog(t, `grant the verb \"watch\" on resource \"deployments\" in API group \"apps\"`)
	// The next comes with the watch that is allowed.
	p.deploy(t, namespace, "second")
	p.allow(t, reader, namespace, right{"deployments.apps", []string{"watch"}})
	want = append(want, "second deployed")
	j.awaitCount(t, len(want))
	eventuallyTrue(t, "deployments.apps are watched", func() bool {
		_, text := d.get(t, "/readyz?verbose")
		return strings.Contains(text, "deployments.apps: synced, 2 objects, current ")
	})
	d.terminate(t)
	compareSteps(t, j.all(), want)
}

// mustReport demands a line of /readyz?verbose that begins like this.
func mustReport(t *testing.T, d *daemon, line string) {
	t.Helper()
	code, text := d.get(t, "/readyz?verbose")
	if code != http.StatusOK || !strings.Contains("\n"+text, "\n"+line) {
		t.Errorf("/readyz?verbose answers %d, without a line that begins %q:\n%s", code, line, text)
	}
}

// deploy creates a deployment, which nobody makes pods of.
func (p *plane) deploy(t *testing.T, namespace, name string) {
	t.Helper()
	created[*appsv1.Deployment](t)(p.client.AppsV1().Deployments(namespace).
		Create(t.Context(), newDeployment(namespace, name), metav1.CreateOptions{}))
}

func newDeployment(namespace, name string) *appsv1.Deployment {
	app := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: inStep(namespace, name, "deployed"),
		Spec:       appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: app}, Template: podTemplate(app)},
	}
}

// TestDaemonInstalledLater names a custom resource and a whole group before there
// are any such.
func TestDaemonInstalledLater(t *testing.T) {
	t.Parallel()
	const namespace = "installed-later"
	p := shared.plane
	p.numbered(t, namespace, 1)
	reader := p.follower(t, namespace, "pods", "widgets.named.example.com", "gadgets.whole.example.com", "doodads.whole.example.com")
	j := newJournal(t)
	d := startDaemon(t, invocation{user: reader, settings: following.and(settings{
		"DESTINATION": j.URL(), "NAMESPACES": namespace, "LABELS_RESOURCES": "pods,widgets.named.example.com,*.whole.example.com",
	})})
	want := []string{numberedPod(0) + " 1"}
	j.awaitCount(t, len(want))
	for _, missing := range []string{`"widgets.named.example.com"`, `"*.whole.example.com"`} {
		if _, text := d.get(t, "/readyz?verbose"); !strings.Contains(text, missing) {
			t.Errorf("/readyz?verbose does not say that %s is missing:\n%s", missing, text)
		}
	}
	p.install(t, "named.example.com", "widget", "Widget")
	p.install(t, "whole.example.com", "gadget", "Gadget")
	p.custom(t, namespace, "named.example.com", "Widget", "w")
	p.custom(t, namespace, "whole.example.com", "Gadget", "g")
	j.await(t, "both of what was installed", func(samples []sample) bool {
		last := latest(samples)
		return last["w"] == "Widget" && last["g"] == "Gadget"
	})
	// The group is not at its end with the first of its kinds.
	p.install(t, "whole.example.com", "doodad", "Doodad")
	p.custom(t, namespace, "whole.example.com", "Doodad", "d")
	j.awaitStep(t, "d", "Doodad")
	// They are followed like any other.
	p.custom(t, namespace, "named.example.com", "Widget", "w2")
	j.awaitStep(t, "w2", "Widget")
	d.terminate(t)
	count := make(map[string]int)
	for _, s := range j.all() {
		count[s.Object]++
	}
	for object, n := range count {
		if n != 1 {
			t.Errorf("%s was sent %d times, want once", object, n)
		}
	}
}

// TestDaemonInstalledAgain has a custom resource's definition removed, with all its
// objects, and installed again.
func TestDaemonInstalledAgain(t *testing.T) {
	t.Parallel()
	const (
		namespace = "installed-again"
		group     = "again.example.com"
	)
	p := shared.plane
	p.numbered(t, namespace, 1)
	p.install(t, group, "widget", "Widget")
	p.custom(t, namespace, group, "Widget", "first")
	j := newJournal(t)
	d := startDaemon(t, invocation{user: p.follower(t, namespace, "pods", "widgets."+group), settings: following.and(settings{
		"DESTINATION": j.URL(), "NAMESPACES": namespace, "LABELS_RESOURCES": "widgets." + group,
	})})
	j.awaitCount(t, 1)
	d.awaitSynced(t, "widgets."+group)
	if err := p.dynamic.Resource(crds).Delete(t.Context(), "widgets."+group, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	// The object's last state is sent once more.
	j.awaitCount(t, 2)
	eventuallyTrue(t, "the definition is gone", func() bool {
		_, err := p.dynamic.Resource(crds).Get(t.Context(), "widgets."+group, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	p.install(t, group, "widget", "Widget")
	p.custom(t, namespace, group, "Widget", "first")
	p.custom(t, namespace, group, "Widget", "second")
	j.awaitCount(t, 4)
	d.terminate(t)
	compareSteps(t, j.all(), []string{"first Widget", "first Widget", "first Widget", "second Widget"})
	j.mustBeInOrder(t)
}

// install defines a namespaced kind, and returns when it is served.
func (p *plane) install(t *testing.T, group, singular, kind string) {
	t.Helper()
	crd := definition(singular, kind, "Namespaced")
	crd.SetName(singular + "s." + group)
	if err := unstructured.SetNestedField(crd.Object, group, "spec", "group"); err != nil {
		t.Fatal(err)
	}
	created[*unstructured.Unstructured](t)(p.dynamic.Resource(crds).Create(t.Context(), crd, metav1.CreateOptions{}))
}

// custom creates an object of a kind, as soon as the kind is served.
func (p *plane) custom(t *testing.T, namespace, group, kind, name string) {
	t.Helper()
	object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": group + "/v1", "kind": kind}}
	object.SetName(name)
	object.SetLabels(map[string]string{"step": kind})
	resource := schema.GroupVersionResource{Group: group, Version: "v1", Resource: strings.ToLower(kind) + "s"}
	p.eventually(t, func(ctx context.Context) (bool, error) {
		_, err := p.dynamic.Resource(resource).Namespace(namespace).Create(ctx, object, metav1.CreateOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("create %s %s: %w", kind, name, err)
		}
		return true, nil
	})
}
