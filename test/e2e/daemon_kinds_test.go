package e2e

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestDaemonGrantedLater has a kind that may not be listed at first, and then not
// be watched, beside one that may.
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
	if metrics[`labelstream_synced{resource="deployments.apps"}`] != 0 || metrics[`labelstream_synced{resource="pods"}`] != 1 {
		t.Error("labelstream_synced is not 0 of deployments.apps and 1 of pods")
	}
	if n := metrics[`labelstream_api_request_failures_total{reason="Forbidden",resource="deployments.apps",verb="list"}`]; n == 0 {
		t.Error("no list of deployments.apps that was forbidden is counted")
	}
	d.awaitReport(t, regexp.MustCompile(`(?m)^deployments.apps: listing, 0 objects read; .*forbidden.*grant`))

	p.allow(t, reader, namespace, "list", "deployments.apps")
	want = append(want, "first deployed")
	j.awaitCount(t, len(want))
	d.awaitLog(t, `grant the verb \"watch\" on resource \"deployments\" in API group \"apps\"`)
	// The next comes with the watch that is allowed.
	p.deploy(t, namespace, "second")
	p.allow(t, reader, namespace, "watch", "deployments.apps")
	want = append(want, "second deployed")
	j.awaitCount(t, len(want))
	d.awaitReport(t, regexp.MustCompile(`deployments.apps: synced, 2 objects, current `))
	d.terminate(t)
	j.mustBe(t, want)
}

// TestDaemonInstalledLater names a custom resource and a whole group before they
// are installed.
func TestDaemonInstalledLater(t *testing.T) {
	t.Parallel()
	const namespace, named, whole = "installed-later", "named.example.com", "whole.example.com"
	p := shared.plane
	p.numbered(t, namespace, 1)
	reader := p.follower(t, namespace, "pods", "widgets."+named, "gadgets."+whole, "doodads."+whole)
	j := newJournal(t)
	d := startDaemon(t, invocation{user: reader, settings: following.and(settings{
		"DESTINATION": j.URL(), "NAMESPACES": namespace, "LABELS_RESOURCES": "pods,widgets." + named + ",*." + whole,
	})})
	j.awaitCount(t, 1)
	for _, missing := range []string{`"widgets.` + named + `"`, `"*.` + whole + `"`} {
		if text := d.report(t); !strings.Contains(text, missing) {
			t.Errorf("/readyz?verbose does not say that %s is missing:\n%s", missing, text)
		}
	}
	p.install(t, named, "Widget", "Namespaced", "v1")
	p.install(t, whole, "Gadget", "Namespaced", "v1")
	p.custom(t, namespace, named, "v1", "Widget", "w")
	p.custom(t, namespace, whole, "v1", "Gadget", "g")
	j.awaitState(t, map[string]string{"w": "Widget", "g": "Gadget"})
	// The group is not complete with the first of its kinds.
	p.install(t, whole, "Doodad", "Namespaced", "v1")
	p.custom(t, namespace, whole, "v1", "Doodad", "d")
	j.awaitStep(t, "d", "Doodad")
	// They are followed like any other.
	p.custom(t, namespace, named, "v1", "Widget", "w2")
	j.awaitStep(t, "w2", "Widget")
	d.terminate(t)
	compare(t, []string{numberedPod(0) + " 1", "w Widget", "g Gadget", "d Doodad", "w2 Widget"}, steps(j.all()))
}

// TestDaemonInstalledAgain has a custom resource's definition removed, with all its
// objects, and installed again, with another version and scope at last.
func TestDaemonInstalledAgain(t *testing.T) {
	t.Parallel()
	const (
		namespace = "installed-again"
		group     = "again.example.com"
		series    = `cloudzero_widget_again_example_com_labels{label_step="Widget",resource_type="widget.again.example.com",workload="all"}`
	)
	p := shared.plane
	p.namespace(t, namespace)
	p.install(t, group, "Widget", "Namespaced", "v1")
	p.custom(t, namespace, group, "v1", "Widget", "first")
	j := newJournal(t)
	d := startDaemon(t, invocation{user: p.follower(t, "", "widgets."+group), settings: following.and(settings{
		"DESTINATION": j.URL(), "LABELS_RESOURCES": "widgets." + group,
	})})
	j.awaitCount(t, 1)
	d.awaitReport(t, regexp.MustCompile(`widgets.again.example.com: synced, 1 objects, current `))
	p.uninstall(t, group, "widgets")
	// The object's last state is sent once more.
	j.awaitCount(t, 2)
	p.install(t, group, "Widget", "Namespaced", "v1")
	p.custom(t, namespace, group, "v1", "Widget", "first")
	p.custom(t, namespace, group, "v1", "Widget", "second")
	j.awaitState(t, map[string]string{"first": "Widget", "second": "Widget"})
	j.awaitCount(t, 4)
	p.uninstall(t, group, "widgets")
	p.install(t, group, "Widget", "Cluster", "v2")
	p.custom(t, "", group, "v2", "Widget", "all")
	j.awaitStep(t, "all", "Widget")
	d.terminate(t)
	all := j.all()
	if got, want := steps(all[:4]), []string{"first Widget", "first Widget", "first Widget", "second Widget"}; !slices.Equal(got, want) {
		t.Errorf("samples %q, want %q", got, want)
	}
	if got := all[len(all)-1].Series; got != series {
		t.Errorf("the cluster's widget is %s, want %s", got, series)
	}
	j.mustBeInOrder(t)
}

// uninstall removes a kind's definition, and returns when it is gone.
func (p *plane) uninstall(t *testing.T, group, plural string) {
	t.Helper()
	definitions, name := p.dynamic.Resource(crds), plural+"."+group
	if err := definitions.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventuallyTrue(t, "the definition is gone", func() bool {
		_, err := definitions.Get(t.Context(), name, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}

// TestDaemonUnwatchable names a kind that can be listed and not watched. Where
// changes come by watches, it is missing, which is said once; else it is read.
func TestDaemonUnwatchable(t *testing.T) {
	t.Parallel()
	const namespace, kind, reason = "unwatchable", "componentstatuses", "does not let this resource be watched"
	p := shared.plane
	p.numbered(t, namespace, 1)
	user := p.follower(t, namespace, "pods")
	p.allow(t, user, "", "list", kind)
	inv := invocation{user: user, settings: following.and(settings{"NAMESPACES": namespace, "LABELS_RESOURCES": "pods," + kind})}

	j := newJournal(t)
	d := startDaemon(t, inv.with(settings{"DESTINATION": j.URL()}))
	j.awaitCount(t, 1)
	if text := d.report(t); !containsAll(text, []string{kind, reason}) {
		t.Errorf("/readyz?verbose does not say that %s cannot be watched:\n%s", kind, text)
	}
	d.terminate(t)
	j.mustBe(t, []string{numberedPod(0) + " 1"})
	if n := strings.Count(d.stderr.String(), reason); n != 1 {
		t.Errorf("the log says %d times that %s cannot be watched, want once", n, kind)
	}

	j = newJournal(t)
	d = startDaemon(t, inv.with(settings{"DESTINATION": j.URL(), "CHANGES": "none"}))
	j.awaitState(t, map[string]string{numberedPod(0): "1", "etcd-0": ""})
	d.terminate(t)

	j = newJournal(t)
	once(t, inv.with(settings{"DESTINATION": j.URL()})).mustSucceed(t)
	j.awaitState(t, map[string]string{numberedPod(0): "1", "etcd-0": ""})
}
