// SPDX-License-Identifier: Apache-2.0

package e2e

import (
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
	d.awaitReport(t, `(?m)^deployments.apps: listing, 0 objects read; .*forbidden.*grant`)

	p.allow(t, reader, namespace, "list", "deployments.apps")
	want = append(want, "first deployed")
	j.awaitCount(t, len(want))
	d.awaitLog(t, `grant the verb \"watch\" on resource \"deployments\" in API group \"apps\"`)
	// The next comes with the watch that is allowed.
	p.deploy(t, namespace, "second")
	p.allow(t, reader, namespace, "watch", "deployments.apps")
	want = append(want, "second deployed")
	j.awaitCount(t, len(want))
	d.awaitReport(t, `deployments.apps: synced, 2 objects, current `)
	d.terminate(t)
	j.mustBe(t, want)
}

// TestDaemonInstalledAgain names a custom resource and a whole group before they
// are installed. The resource's definition is removed then, with all its objects,
// and installed again, with another version and scope at last.
func TestDaemonInstalledAgain(t *testing.T) {
	t.Parallel()
	const (
		namespace = "installed-again"
		named     = "again.example.com"
		whole     = "whole.example.com"
		series    = `cloudzero_widget_again_example_com_labels{label_step="Widget",resource_type="widget.again.example.com",workload="all"}`
	)
	p := shared.plane
	p.namespace(t, namespace)
	j := newJournal(t)
	user := p.follower(t, "", "widgets."+named, "gadgets."+whole, "doodads."+whole)
	d := startDaemon(t, invocation{user: user, settings: following.and(settings{
		"DESTINATION": j.URL(), "LABELS_RESOURCES": "widgets." + named + ",*." + whole,
	})})
	d.awaitReport(t, `"widgets\.`+named+`"`)
	d.awaitReport(t, `"\*\.`+whole+`"`)
	p.install(t, whole, "Gadget", "Namespaced", "v1")
	p.install(t, named, "Widget", "Namespaced", "v1")
	p.custom(t, namespace, whole, "v1", "Gadget", "g")
	p.custom(t, namespace, named, "v1", "Widget", "first")
	j.awaitCount(t, 2)
	d.awaitReport(t, `widgets.again.example.com: synced, 1 objects, current `)
	// The group is not complete with the first of its kinds.
	p.install(t, whole, "Doodad", "Namespaced", "v1")
	p.custom(t, namespace, whole, "v1", "Doodad", "d")
	p.uninstall(t, named, "widgets")
	// The object's last state is sent once more.
	j.awaitCount(t, 4)
	p.install(t, named, "Widget", "Namespaced", "v1")
	p.custom(t, namespace, named, "v1", "Widget", "first")
	p.custom(t, namespace, named, "v1", "Widget", "second")
	want := []string{"g Gadget", "d Doodad", "first Widget", "first Widget", "first Widget", "second Widget"}
	j.awaitCount(t, len(want))
	p.uninstall(t, named, "widgets")
	p.install(t, named, "Widget", "Cluster", "v2")
	p.custom(t, "", named, "v2", "Widget", "all")
	j.awaitStep(t, "all", "Widget")
	d.terminate(t)
	all := j.all()
	// What comes after that, but for the cluster's widget, are ends that may come
	// or not.
	compare(t, want, steps(all[:len(want)]))
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
// changes come by watches, it is missing, which is said once; a one-shot run reads
// it.
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
	d.awaitReport(t, kind+`.*`+reason)
	d.terminate(t)
	j.mustBe(t, []string{numberedPod(0) + " 1"})
	if n := strings.Count(d.stderr.String(), reason); n != 1 {
		t.Errorf("the log says %d times that %s cannot be watched, want once", n, kind)
	}

	j = newJournal(t)
	once(t, inv.with(settings{"DESTINATION": j.URL()})).mustSucceed(t)
	j.awaitState(t, map[string]string{numberedPod(0): "1", "etcd-0": ""})
}
