package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

// TestWebhookChanges makes changes of every sort, which the daemon is told of by
// reviews alone, or by its watch as well, and demands a sample for each that
// matters, in order, and not one more.
func TestWebhookChanges(t *testing.T) {
	t.Parallel()
	t.Run("alone", func(t *testing.T) {
		t.Parallel()
		testWebhookChanges(t, "webhook-alone", onlyShown)
	})
	t.Run("beside the watch", func(t *testing.T) {
		t.Parallel()
		testWebhookChanges(t, "webhook-beside-watch", following)
	})
}

func testWebhookChanges(t *testing.T, namespace string, base settings) {
	s := newStage(t, namespace, base)
	s.creates(t)
	s.relabels(t)
	s.dryRuns(t)
	s.subresources(t)
	s.deletes(t)
	s.deletesNamespace(t)
	s.awaitReviews(t, slices.Collect(maps.Keys(s.shown))...)
	s.terminate(t)
	s.mustBeAll(t)
}

// stage is where changes are made, and what should come of them.
type stage struct {
	*hooked
	plane     *plane
	namespace string
	journal   *journal
	pods      corev1client.PodInterface
	// watched says that the daemon has a watch, too.
	watched bool
	// want are the samples that should have come so far, as "object step", and
	// shown the reviews, as awaitReviews has them.
	want  []string
	shown map[string]bool
	// generated is the name that the API server has made up for a pod.
	generated string
	// markers counts the marker's steps.
	markers int
}

const (
	// marker is the pod by which awaitWatched tells how far the watch has come.
	marker = "marker"
	// deployment is the name of the one that is not a pod.
	deployment = "deployment"
)

// newStage starts a daemon that is shown what is written to a new namespace.
func newStage(t *testing.T, namespace string, base settings) *stage {
	t.Helper()
	s := openStage(t, shared.plane, namespace, base)
	s.show(t, s.byURL())
	return s
}

// openStage starts a daemon that is not shown anything yet, and whose certificate
// is for other hosts, too. The namespace, a pod "old" and the marker are there
// before it is.
func openStage(t *testing.T, p *plane, namespace string, base settings, hosts ...string) *stage {
	t.Helper()
	s := &stage{plane: p, namespace: namespace, journal: newJournal(t), pods: p.client.CoreV1().Pods(namespace),
		watched: base["WATCH_ENABLED"] != "false", shown: make(map[string]bool)}
	p.namespace(t, metav1.ObjectMeta{Name: namespace, Labels: map[string]string{"step": "1"}})
	p.create(t, namespace, "old", "1")
	p.create(t, namespace, marker, "0")
	kinds := []string{"pods", "deployments.apps"}
	user := p.follower(t, namespace, kinds...)
	p.allow(t, user, namespace, right{"pods", []string{"get"}}, right{"deployments.apps", []string{"get"}})
	p.allow(t, user, "", right{"namespaces", []string{"list", "watch", "get"}})
	s.hooked = startHooked(t, invocation{plane: p, user: user, settings: base.and(settings{
		"DESTINATION": s.journal.URL(), "NAMESPACES": namespace, "LABELS_RESOURCES": "pods,namespaces,deployments",
	})}, hosts...)
	s.awaitSynced(t, append(kinds, "namespaces")...)
	s.expect(t, "old 1", namespace+" 1")
	return s
}

// show has the API server show the daemon what is written to the namespace, and
// returns when it does.
func (s *stage) show(t *testing.T, client admissionregistrationv1.WebhookClientConfig) {
	t.Helper()
	s.plane.register(t, registration(client, s.namespace))
	s.awaitShown(t, s.plane, s.namespace)
}

// expect waits for samples, and for the watch, so that what comes next cannot
// meet events that are older.
func (s *stage) expect(t *testing.T, samples ...string) {
	t.Helper()
	s.want = append(s.want, samples...)
	s.awaitWant(t)
	s.awaitWatched(t)
	s.awaitCached(t)
}

func (s *stage) awaitWant(t *testing.T) {
	t.Helper()
	s.journal.await(t, "the next samples", func(all []sample) bool { return len(s.changes(all)) >= len(s.want) })
}

// end expects the last state of objects that are gone once more, which only a
// watch tells for certain.
func (s *stage) end(t *testing.T, samples ...string) {
	t.Helper()
	if !s.watched {
		samples = nil
	}
	s.expect(t, samples...)
}

// review says that reviews of this "kind operation outcome" are to come.
func (s *stage) review(reviews ...string) {
	for _, review := range reviews {
		s.shown[review] = true
	}
}

// changes are the samples of all but the marker. The first two are of the first
// lists, which may run at the same time.
func (s *stage) changes(samples []sample) []string {
	own := steps(slices.DeleteFunc(slices.Clone(samples), func(a sample) bool { return a.Object == marker }))
	slices.Sort(own[:min(2, len(own))])
	return own
}

// awaitWatched waits until the daemon has had all events of pods so far. The
// marker's label is changed by its status: reviews of that show nothing, so that
// its samples are of events.
func (s *stage) awaitWatched(t *testing.T) {
	t.Helper()
	if !s.watched {
		return
	}
	s.markers++
	step := strconv.Itoa(s.markers)
	patch := []byte(`{"metadata":{"labels":{"step":"` + step + `"}}}`)
	created[*corev1.Pod](t)(s.pods.Patch(t.Context(), marker, types.MergePatchType, patch, metav1.PatchOptions{}, "status"))
	s.review("pods UPDATE subresource")
	s.journal.awaitStep(t, marker, step)
}

// awaitCached waits until the API server's cache has what was written: it begins
// changes with what the cache has, shows what comes of that, and then finds out
// that it was old.
func (s *stage) awaitCached(t *testing.T) {
	t.Helper()
	versions := func(version string) map[string]string {
		list, err := s.pods.List(t.Context(), metav1.ListOptions{ResourceVersion: version})
		if err != nil {
			t.Fatal(err)
		}
		all := make(map[string]string)
		for i := range list.Items {
			all[list.Items[i].Name] = list.Items[i].ResourceVersion
		}
		return all
	}
	now := versions("")
	s.plane.eventually(t, func(context.Context) (bool, error) { return maps.Equal(now, versions("0")), nil })
}

// mustBeAll demands exactly what was expected, of a daemon that has ended.
func (s *stage) mustBeAll(t *testing.T) {
	t.Helper()
	s.mustBeChanges(t, s.changes(s.journal.all()))
}

// mustBeChanges is mustBeAll where the order of some is of no account.
func (s *stage) mustBeChanges(t *testing.T, got []string) {
	t.Helper()
	if diff := gocmp.Diff(s.want, got); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	for _, a := range s.journal.all() {
		if want := s.seriesOf(a); a.Series != want {
			t.Errorf("series %s, want %s", a.Series, want)
		}
	}
	s.journal.mustBeInOrder(t)
}

// seriesOf is the whole series of which a sample should be.
func (s *stage) seriesOf(a sample) string {
	tag := ""
	if a.Step != "" {
		tag = fmt.Sprintf("label_step=%q,", a.Step)
	}
	switch a.Object {
	case s.namespace:
		return fmt.Sprintf(`cloudzero_namespace_labels{%snamespace=%q,resource_type="namespace"}`, tag, s.namespace)
	case deployment:
		return fmt.Sprintf(`cloudzero_deployment_labels{%snamespace=%q,resource_type="deployment",workload=%q}`, tag, s.namespace, a.Object)
	}
	return fmt.Sprintf(`cloudzero_pod_labels{%snamespace=%q,pod=%q,resource_type="pod"}`, tag, s.namespace, a.Object)
}

func (s *stage) creates(t *testing.T) {
	t.Helper()
	p, ctx := s.plane, t.Context()
	p.create(t, s.namespace, "new", "1")
	s.expect(t, "new 1")
	generated, err := s.pods.Create(ctx, pod(metav1.ObjectMeta{GenerateName: "generated-", Labels: map[string]string{"step": "1"}}), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.generated = generated.Name
	s.expect(t, s.generated+" 1")
	s.apply(t, "applied", "1")
	s.expect(t, "applied 1")
	p.deploy(t, s.namespace, deployment)
	s.expect(t, deployment+" deployed")
	s.review("pods CREATE sent", "deployments.apps CREATE sent")
}

// apply is what `kubectl apply --server-side` does.
func (s *stage) apply(t *testing.T, name, step string, dryRun ...string) {
	t.Helper()
	container := corev1apply.Container().WithName("main").WithImage("registry.example.com/app")
	applied := corev1apply.Pod(name, s.namespace).WithLabels(map[string]string{"step": step}).
		WithSpec(corev1apply.PodSpec().WithContainers(container))
	created[*corev1.Pod](t)(s.pods.Apply(t.Context(), applied, metav1.ApplyOptions{FieldManager: "test", Force: true, DryRun: dryRun}))
}

func (s *stage) relabels(t *testing.T) {
	t.Helper()
	p, ctx := s.plane, t.Context()
	p.setStep(t, s.namespace, "new", "2")
	s.expect(t, "new 2")
	s.apply(t, "applied", "2")
	s.expect(t, "applied 2")
	old, err := s.pods.Get(ctx, "old", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	delete(old.Labels, "step")
	created[*corev1.Pod](t)(s.pods.Update(ctx, old, metav1.UpdateOptions{}))
	s.expect(t, "old ")
	patch := []byte(`{"metadata":{"labels":{"step":"2"}}}`)
	created[*corev1.Namespace](t)(p.client.CoreV1().Namespaces().Patch(ctx, s.namespace, types.MergePatchType, patch, metav1.PatchOptions{}))
	s.expect(t, s.namespace+" 2")
	// Of this nothing is sent.
	patch = []byte(`{"metadata":{"annotations":{"step":"3"},"labels":{"unmatched":"x"}}}`)
	created[*corev1.Pod](t)(s.pods.Patch(ctx, "new", types.MergePatchType, patch, metav1.PatchOptions{}))
	s.expect(t)
	s.review("pods UPDATE sent", "pods UPDATE known", "namespaces UPDATE sent")
}

// dryRuns are what `kubectl --dry-run=server` asks for. None changes anything.
func (s *stage) dryRuns(t *testing.T) {
	t.Helper()
	ctx, all := t.Context(), []string{metav1.DryRunAll}
	created[*corev1.Pod](t)(s.pods.Create(ctx, pod(inStep(s.namespace, "dry", "1")), metav1.CreateOptions{DryRun: all}))
	s.apply(t, "dry-applied", "1", all...)
	s.apply(t, "applied", "9", all...)
	patch := []byte(`{"metadata":{"labels":{"step":"9"}}}`)
	created[*corev1.Pod](t)(s.pods.Patch(ctx, "new", types.MergePatchType, patch, metav1.PatchOptions{DryRun: all}))
	if err := s.pods.Delete(ctx, "new", metav1.DeleteOptions{DryRun: all}); err != nil {
		t.Fatal(err)
	}
	if err := s.pods.DeleteCollection(ctx, metav1.DeleteOptions{DryRun: all}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	s.expect(t)
	s.review("pods CREATE dry_run", "pods UPDATE dry_run", "pods DELETE dry_run")
}

// subresources change no label.
func (s *stage) subresources(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	s.plane.updateStatus(t, s.namespace, "new", "running")
	deployments := s.plane.client.AppsV1().Deployments(s.namespace)
	created[*autoscalingv1.Scale](t)(deployments.UpdateScale(ctx, deployment, &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Name: deployment, Namespace: s.namespace}, Spec: autoscalingv1.ScaleSpec{Replicas: 3},
	}, metav1.UpdateOptions{}))
	if err := s.pods.Bind(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "new"},
		Target: corev1.ObjectReference{Kind: "Node", Name: "node"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.plane.create(t, s.namespace, "evicted", "1")
	s.expect(t, "evicted 1")
	if err := s.pods.EvictV1(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "evicted"}}); err != nil {
		t.Fatal(err)
	}
	s.end(t, "evicted 1")
	s.review("pods UPDATE subresource", "pods CREATE subresource", "deployments.apps UPDATE subresource")
}

func (s *stage) deletes(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	meta := inStep(s.namespace, "held", "1")
	meta.Finalizers = []string{"example.com/held"}
	created[*corev1.Pod](t)(s.pods.Create(ctx, pod(meta), metav1.CreateOptions{}))
	s.expect(t, "held 1")
	s.plane.remove(t, s.namespace, "held")
	s.expect(t)
	// It can still be changed.
	s.plane.setStep(t, s.namespace, "held", "2")
	s.expect(t, "held 2")
	patch := []byte(`{"metadata":{"finalizers":null}}`)
	created[*corev1.Pod](t)(s.pods.Patch(ctx, "held", types.MergePatchType, patch, metav1.PatchOptions{}))
	s.end(t, "held 2")

	s.plane.remove(t, s.namespace, "applied")
	s.end(t, "applied 2")
	s.review("pods DELETE known")
}

// deletesNamespace does what `kubectl delete namespace` and the controllers do.
func (s *stage) deletesNamespace(t *testing.T) {
	t.Helper()
	ctx, namespaces := t.Context(), s.plane.client.CoreV1().Namespaces()
	if err := namespaces.Delete(ctx, s.namespace, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.expect(t)
	// One after the other, as they are called.
	all := metav1.ListOptions{FieldSelector: "metadata.name!=" + marker}
	if err := s.pods.DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}, all); err != nil {
		t.Fatal(err)
	}
	s.end(t, s.generated+" 1", "new 2", "old ")
	namespace, err := namespaces.Get(ctx, s.namespace, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	namespace.Spec.Finalizers = nil
	created[*corev1.Namespace](t)(namespaces.Finalize(ctx, namespace, metav1.UpdateOptions{}))
	if s.watched {
		s.want = append(s.want, s.namespace+" 2")
		s.awaitWant(t)
	}
	s.review("namespaces DELETE known", "namespaces UPDATE subresource")
}

// TestWebhookManyChanges changes pods without waiting for the watch, so that reviews
// overtake events: each change is sent once, and in order.
func TestWebhookManyChanges(t *testing.T) {
	t.Parallel()
	const count, changes = 20, 25
	s := newStage(t, "webhook-many-changes", following)
	s.plane.pods(t, count, func(i int) metav1.ObjectMeta { return inStep(s.namespace, numberedPod(i), "0") })
	var writers sync.WaitGroup
	for i := range count {
		writers.Go(func() {
			for step := range changes {
				patch := fmt.Appendf(nil, `{"metadata":{"labels":{"step":"%d"}}}`, step+1)
				if _, err := s.pods.Patch(t.Context(), numberedPod(i), types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	s.awaitWatched(t)
	s.terminate(t)
	sent := make(map[string][]string)
	for _, a := range s.journal.all() {
		sent[a.Object] = append(sent[a.Object], a.Step)
	}
	var want []string
	for step := range changes + 1 {
		want = append(want, strconv.Itoa(step))
	}
	for i := range count {
		if diff := gocmp.Diff(want, sent[numberedPod(i)]); diff != "" {
			t.Errorf("samples of %s (-want +got):\n%s", numberedPod(i), diff)
		}
	}
	s.journal.mustBeInOrder(t)
}
