// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"labelstream/test/controlplane"
)

// TestWorkloads has the real controllers make pods of all their kinds while a daemon
// watches. Every pod's owner and workload must be those that walking the owners gives.
func TestWorkloads(t *testing.T) {
	t.Parallel()
	p := ownPlane(t)
	const namespace = "workloads"
	p.namespace(t, namespace)
	created(t)(p.client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"}}, metav1.CreateOptions{}))
	j := newJournal(t)
	d := startDaemon(t, invocation{plane: p, user: controlplane.Admin, settings: following.and(settings{
		"DESTINATION": j.URL(), "LABELS_RESOURCES": "pods,jobs.batch,replicasets.apps", "LABELS_FILTERS": ".*", "OWNER_LABELS": "true",
	})})
	d.awaitSynced(t, "pods", "jobs.batch")
	if err := p.StartControllers("deployment-controller", "replicaset-controller", "statefulset-controller", "daemonset-controller",
		"job-controller", "cronjob-controller"); err != nil {
		t.Fatal(err)
	}
	p.createWorkloads(t, namespace)
	want := make(map[string]string)
	eventuallyTrue(t, "pods of all workloads", func() bool {
		kinds := make(map[string]bool)
		for pod, chain := range p.walk(t, namespace) {
			want[pod] = chain
			kinds[strings.Fields(chain)[2]] = true
		}
		return len(kinds) == 6
	})
	got := make(map[string]string)
	eventuallyTrue(t, "the workloads of all pods", func() bool {
		for _, series := range j.All() {
			if pod := series.Get("pod"); pod != "" {
				got[pod] = strings.Join([]string{series.Get("label_owner_kind"), series.Get("label_owner_name"),
					series.Get("label_workload_kind"), series.Get("label_workload_name")}, " ")
			}
		}
		return len(got) >= len(want)
	})
	for pod, chain := range want {
		if got[pod] != chain {
			t.Errorf("%s: %q, want %q", pod, got[pod], chain)
		}
	}
	d.terminate(t)
}

// createWorkloads creates one of each kind that makes pods, and a bare ReplicaSet.
func (p *plane) createWorkloads(t *testing.T, namespace string) {
	t.Helper()
	ctx, opts, two := t.Context(), metav1.CreateOptions{}, int32(2)
	app := map[string]string{"app": "x"}
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: namespace, Name: name} }
	selects := func(name string) (*metav1.LabelSelector, corev1.PodTemplateSpec) {
		labels := map[string]string{"app": name}
		return &metav1.LabelSelector{MatchLabels: labels}, podTemplate(labels)
	}
	apps, batch := p.client.AppsV1(), p.client.BatchV1()
	jobs := batchv1.JobSpec{Parallelism: &two, Template: podTemplate(app)}
	jobs.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	created(t)(batch.CronJobs(namespace).Create(ctx, &batchv1.CronJob{ObjectMeta: meta("cron"), Spec: batchv1.CronJobSpec{
		Schedule: "* * * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: jobs}}}, opts))
	created(t)(batch.Jobs(namespace).Create(ctx, &batchv1.Job{ObjectMeta: meta("job-29012345"), Spec: jobs}, opts))
	selector, template := selects("web")
	created(t)(apps.Deployments(namespace).Create(ctx, &appsv1.Deployment{ObjectMeta: meta("web-5f"),
		Spec: appsv1.DeploymentSpec{Replicas: &two, Selector: selector, Template: template}}, opts))
	selector, template = selects("bare")
	created(t)(apps.ReplicaSets(namespace).Create(ctx, &appsv1.ReplicaSet{ObjectMeta: meta("bare-5f"),
		Spec: appsv1.ReplicaSetSpec{Replicas: &two, Selector: selector, Template: template}}, opts))
	selector, template = selects("db")
	created(t)(apps.StatefulSets(namespace).Create(ctx, &appsv1.StatefulSet{ObjectMeta: meta("db"),
		Spec: appsv1.StatefulSetSpec{Replicas: &two, Selector: selector, Template: template, PodManagementPolicy: appsv1.ParallelPodManagement}}, opts))
	selector, template = selects("agent")
	// Nothing says that the node is ready.
	template.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	created(t)(apps.DaemonSets(namespace).Create(ctx, &appsv1.DaemonSet{ObjectMeta: meta("agent"),
		Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template}}, opts))
}

// walk returns by pod its controller and the top of its chain of controllers, each as kind
// and name.
func (p *plane) walk(t *testing.T, namespace string) map[string]string {
	t.Helper()
	pods, err := p.client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	chains := make(map[string]string)
	for i := range pods.Items {
		first := metav1.GetControllerOf(&pods.Items[i])
		top := first
		for next := first; next != nil; {
			top = next
			gv, err := schema.ParseGroupVersion(next.APIVersion)
			if err != nil {
				t.Fatal(err)
			}
			owner, err := p.dynamic.Resource(gv.WithResource(strings.ToLower(next.Kind)+"s")).Namespace(namespace).Get(t.Context(), next.Name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			next = metav1.GetControllerOf(owner)
		}
		chains[pods.Items[i].Name] = strings.Join([]string{first.Kind, first.Name, top.Kind, top.Name}, " ")
	}
	return chains
}

// TestNamespacesAndTheirObjects relabels a namespace whose labels its pods inherit, and has
// it fall out of a selector. A pod that falls out of one ends, too.
func TestNamespacesAndTheirObjects(t *testing.T) {
	t.Parallel()
	const namespace = "inheriting"
	p := shared.plane
	p.namespace(t, namespace)
	label := func(text string) { p.patchNamespace(t, namespace, `{"metadata":{"labels":{`+text+`}}}`) }
	label(`"Step":"N1","tenant":"yes"`)
	p.pods(t, 3, func(i int) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: namespace, Name: numberedPod(i), Labels: map[string]string{"tier": "a"}}
	})
	p.pods(t, 1, func(int) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: namespace, Name: "own", Labels: map[string]string{"tier": "b", "step": "own"}}
	})
	p.pods(t, 1, func(int) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: namespace, Name: "other", Labels: map[string]string{"tier": "c"}}
	})
	j := newJournal(t)
	d := startDaemon(t, invocation{user: p.follower(t, "", "pods", "namespaces"), settings: following.and(settings{
		"DESTINATION": j.URL(), "LABELS_RESOURCES": "pods[tier in (a,b)]", "NAMESPACE_SELECTOR": "tenant=yes",
		"INHERIT_NAMESPACE_LABELS": "^step$", "INHERITED_LABEL": "inherited", "RENAME": "Step=step", "LOWERCASE_VALUES": "^step$",
	})})
	want := []string{"own own", "pod-000 n1", "pod-001 n1", "pod-002 n1"}
	j.awaitCount(t, len(want))
	label(`"Step":"N2"`)
	want = append(want, "pod-000 n2", "pod-001 n2", "pod-002 n2")
	j.awaitCount(t, len(want))
	p.patch(t, namespace, numberedPod(2), `{"metadata":{"labels":{"tier":"c"}}}`)
	want = append(want, "pod-002 n2")
	j.awaitCount(t, len(want))
	label(`"tenant":"no"`)
	want = append(want, "own own", "pod-000 n2", "pod-001 n2")
	j.awaitCount(t, len(want))
	d.terminate(t)
	j.mustBe(t, want)
	for _, s := range j.all() {
		if isMarked := strings.Contains(s.Series, `label_inherited="step"`); isMarked == (s.Object == "own") {
			t.Errorf("%s: is it marked as inherited?", s.Series)
		}
	}
}

// TestShortLived has 200 pods of 2 to 10 s, and a watch that breaks in the middle of them
// and cannot go on. Each is seen, unless it lived only after the watch was lost and before the
// list that follows.
func TestShortLived(t *testing.T) {
	t.Parallel()
	const (
		namespace = "shortlived"
		count     = 200
	)
	p, j := shared.plane, newJournal(t)
	p.namespace(t, namespace)
	var lost, listed atomic.Int64
	x := newProxy(t, p, p.follower(t, namespace, "pods"), func(r *http.Request) {
		if isList(r) && lost.Load() > 0 {
			listed.CompareAndSwap(0, time.Now().UnixNano())
		}
	})
	x.handler.ModifyResponse = func(response *http.Response) error {
		if lost.Load() == 0 || listed.Load() > 0 || !response.Request.URL.Query().Has("watch") {
			return nil
		}
		response.StatusCode = http.StatusGone
		response.Header.Set("Content-Type", "application/json")
		const expired = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410}`
		body := response.Body
		response.Body = io.NopCloser(strings.NewReader(expired))
		return body.Close()
	}
	d := startDaemon(t, invocation{kubeconfig: x.kubeconfig(t), settings: following.and(settings{"DESTINATION": j.URL(), "NAMESPACES": namespace})})
	d.awaitSynced(t, "pods")
	type life struct{ created, deleted int64 }
	lives := make([]life, count)
	errs := make([]error, count)
	pods := p.client.CoreV1().Pods(namespace)
	var living sync.WaitGroup
	for i := range lives {
		living.Go(func() {
			time.Sleep(time.Duration(i) * 50 * time.Millisecond)
			_, errs[i] = pods.Create(t.Context(), pod(inStep(namespace, numberedPod(i), "1")), metav1.CreateOptions{})
			lives[i].created = time.Now().UnixNano()
			time.Sleep(2*time.Second + time.Duration(i%9)*time.Second)
			lives[i].deleted = time.Now().UnixNano()
			errs[i] = errors.Join(errs[i], pods.Delete(t.Context(), numberedPod(i), metav1.DeleteOptions{}))
		})
	}
	elapse(t, 5*time.Second)
	lost.Store(time.Now().UnixNano())
	x.down()
	x.up(t)
	living.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	window := time.Duration(listed.Load() - lost.Load())
	t.Logf("the watch was away for %s", window)
	if listed.Load() == 0 {
		t.Fatal("the watch did not break")
	}
	p.create(t, namespace, "last", "1")
	j.await(t, "the last pod", func(all []sample) bool { return all[len(all)-1].Object == "last" })
	seen := make(map[string]bool)
	for _, s := range j.all() {
		seen[s.Object] = true
	}
	for i, life := range lives {
		couldNotBeSeen := life.created > lost.Load()-int64(time.Second) && life.deleted < listed.Load()
		if !seen[numberedPod(i)] && !couldNotBeSeen {
			t.Errorf("%s was not seen, which lived for %s", numberedPod(i), time.Duration(life.deleted-life.created))
		}
	}
	d.terminate(t)
}
