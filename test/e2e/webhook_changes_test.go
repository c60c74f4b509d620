// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

// stage is a namespace where changes are made, a daemon that learns of them by
// reviews, and what should come of them.
type stage struct {
	*hooked
	plane     *plane
	namespace string
	journal   *journal
	pods      corev1client.PodInterface
	// want has the steps of each object that should have come so far. Of those
	// that have ended, the last step may come again: an API server shows a deletion
	// at each of its steps.
	want  map[string][]string
	ended map[string]bool
	// generated is the name that the API server has made up for a pod.
	generated string
}

// deployment is the name of the object that is not a pod.
const deployment = "deployment"

// newStage starts a daemon to which the API server shows what is written to a new
// namespace. A pod "old" is there before.
func newStage(t *testing.T, namespace string, more settings) *stage {
	t.Helper()
	p := shared.plane
	s := &stage{plane: p, namespace: namespace, journal: newJournal(t), pods: p.client.CoreV1().Pods(namespace),
		want: make(map[string][]string), ended: make(map[string]bool)}
	p.namespace(t, namespace)
	p.create(t, namespace, "old", "1")
	kinds := []string{"pods", "deployments.apps", "daemonsets.apps"}
	user := p.reader(t, namespace, kinds...)
	p.allow(t, user, "", "list", "namespaces")
	s.hooked = startHooked(t, invocation{user: user, settings: reviewed.and(settings{
		"DESTINATION": s.journal.URL(), "NAMESPACES": namespace, "LABELS_RESOURCES": "pods,namespaces,deployments,daemonsets",
		"ANNOTATIONS_ENABLED": "true", "ANNOTATIONS_RESOURCES": "daemonsets",
	}).and(more)})
	s.awaitSynced(t, append(kinds, "namespaces")...)
	p.register(t, registration(s.byURL(), namespace))
	s.awaitShown(t, p, namespace)
	s.expect(t, "old 1", namespace+" ")
	return s
}

// expect waits for samples, written as "object step", and for the API server's
// cache: it begins changes with what the cache has, shows what comes of that, and
// then finds out that it was old.
func (s *stage) expect(t *testing.T, samples ...string) {
	t.Helper()
	for _, text := range samples {
		object, step, _ := strings.Cut(text, " ")
		s.want[object] = append(s.want[object], step)
	}
	s.journal.await(t, "the next samples", func(all []sample) bool {
		got := stepsByObject(all)
		for object, want := range s.want {
			if len(got[object]) < len(want) {
				return false
			}
		}
		return true
	})
	s.plane.eventually(t, func(context.Context) (bool, error) {
		return maps.Equal(s.versions(t, ""), s.versions(t, "0")), nil
	})
}

// end expects the last states of objects that are deleted.
func (s *stage) end(t *testing.T, samples ...string) {
	t.Helper()
	for _, text := range samples {
		object, _, _ := strings.Cut(text, " ")
		s.ended[object] = true
	}
	s.expect(t, samples...)
}

func stepsByObject(samples []sample) map[string][]string {
	all := make(map[string][]string)
	for _, s := range samples {
		all[s.Object] = append(all[s.Object], s.Step)
	}
	return all
}

// versions are those of pods, as a list of a version has them.
func (s *stage) versions(t *testing.T, version string) map[string]string {
	t.Helper()
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

// mustBeAll demands exactly what was expected, of a daemon that has ended.
func (s *stage) mustBeAll(t *testing.T) {
	t.Helper()
	got := stepsByObject(s.journal.all())
	for object := range s.ended {
		for n := len(got[object]); n > len(s.want[object]) && got[object][n-1] == got[object][n-2]; n-- {
			got[object] = got[object][:n-1]
		}
	}
	if diff := gocmp.Diff(s.want, got); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	s.journal.mustBeInOrder(t)
}

// TestWebhookChanges makes changes of every sort, of which the daemon learns by
// reviews, and demands a sample for each that matters, and not one more.
func TestWebhookChanges(t *testing.T) {
	t.Parallel()
	s := newStage(t, "webhook-changes", nil)
	s.creates(t)
	s.relabels(t)
	s.dryRuns(t)
	s.subresources(t)
	s.daemonSet(t)
	s.deletes(t)
	s.deletesNamespace(t)
	s.mustHaveReviews(t, "pods CREATE sent", "pods UPDATE sent", "pods UPDATE unchanged", "pods DELETE sent",
		"deployments.apps CREATE sent", "daemonsets.apps CREATE sent", "daemonsets.apps UPDATE sent", "namespaces UPDATE sent", "namespaces DELETE sent",
		"other UPDATE dry_run", "other DELETE dry_run", "other CREATE subresource", "other UPDATE subresource")
	s.terminate(t)
	s.mustBeAll(t)
}

func (s *stage) creates(t *testing.T) {
	t.Helper()
	s.plane.create(t, s.namespace, "new", "1")
	s.expect(t, "new 1")
	generated, err := s.pods.Create(t.Context(), pod(metav1.ObjectMeta{GenerateName: "generated-", Labels: map[string]string{"step": "1"}}), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.generated = generated.Name
	s.expect(t, s.generated+" 1")
	s.apply(t, "applied", "1")
	s.expect(t, "applied 1")
	s.plane.deploy(t, s.namespace, deployment)
	s.expect(t, deployment+" deployed")
}

// apply is what `kubectl apply --server-side` does.
func (s *stage) apply(t *testing.T, name, step string, dryRun ...string) {
	t.Helper()
	container := corev1apply.Container().WithName("main").WithImage("registry.example.com/app")
	applied := corev1apply.Pod(name, s.namespace).WithLabels(map[string]string{"step": step}).
		WithSpec(corev1apply.PodSpec().WithContainers(container))
	created(t)(s.pods.Apply(t.Context(), applied, metav1.ApplyOptions{FieldManager: "test", Force: true, DryRun: dryRun}))
}

func (s *stage) relabels(t *testing.T) {
	t.Helper()
	p := s.plane
	p.setStep(t, s.namespace, "new", "2")
	s.expect(t, "new 2")
	s.apply(t, "applied", "2")
	s.expect(t, "applied 2")
	p.patch(t, s.namespace, "old", `{"metadata":{"labels":null}}`)
	s.expect(t, "old ")
	p.patchNamespace(t, s.namespace, stepPatch("2"))
	s.expect(t, s.namespace+" 2")
	// Of this nothing is sent.
	p.patch(t, s.namespace, "new", `{"metadata":{"annotations":{"step":"3"},"labels":{"unmatched":"x"}}}`)
	s.expect(t)
}

// dryRuns are what `kubectl --dry-run=server` asks for. None changes anything.
func (s *stage) dryRuns(t *testing.T) {
	t.Helper()
	ctx, all := t.Context(), []string{metav1.DryRunAll}
	created(t)(s.pods.Create(ctx, pod(inStep(s.namespace, "dry", "1")), metav1.CreateOptions{DryRun: all}))
	s.apply(t, "dry-applied", "1", all...)
	s.apply(t, "applied", "9", all...)
	created(t)(s.pods.Patch(ctx, "new", types.MergePatchType, []byte(stepPatch("9")), metav1.PatchOptions{DryRun: all}))
	if err := s.pods.Delete(ctx, "new", metav1.DeleteOptions{DryRun: all}); err != nil {
		t.Fatal(err)
	}
	s.expect(t)
}

// subresources change no label.
func (s *stage) subresources(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	s.plane.updateStatus(t, s.namespace, "new", "running")
	created(t)(s.plane.client.AppsV1().Deployments(s.namespace).UpdateScale(ctx, deployment, &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Name: deployment, Namespace: s.namespace}, Spec: autoscalingv1.ScaleSpec{Replicas: 3},
	}, metav1.UpdateOptions{}))
	s.plane.create(t, s.namespace, "evicted", "1")
	s.expect(t, "evicted 1")
	// That it is deleted is not shown.
	if err := s.pods.EvictV1(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "evicted"}}); err != nil {
		t.Fatal(err)
	}
	s.expect(t)
}

func (s *stage) deletes(t *testing.T) {
	t.Helper()
	meta := inStep(s.namespace, "held", "1")
	meta.Finalizers = []string{"example.com/held"}
	created(t)(s.pods.Create(t.Context(), pod(meta), metav1.CreateOptions{}))
	s.expect(t, "held 1")
	s.plane.remove(t, s.namespace, "held")
	s.expect(t, "held 1")
	// It can still be changed.
	s.plane.setStep(t, s.namespace, "held", "2")
	s.expect(t, "held 2")
	s.plane.patch(t, s.namespace, "held", `{"metadata":{"finalizers":null}}`)
	s.plane.remove(t, s.namespace, "applied")
	s.end(t, "applied 2")
}

// deletesNamespace does what `kubectl delete namespace` and the controllers do.
func (s *stage) deletesNamespace(t *testing.T) {
	t.Helper()
	ctx, namespaces := t.Context(), s.plane.client.CoreV1().Namespaces()
	if err := namespaces.Delete(ctx, s.namespace, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.end(t, s.namespace+" 2")
	if err := s.pods.DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	s.end(t, s.generated+" 1", "new 2", "old ")
}

// daemonSet changes a DaemonSet, whose reviews have an annotation that its
// metadata has not: nothing of that is sent, and nothing where it alone has
// changed.
func (s *stage) daemonSet(t *testing.T) {
	t.Helper()
	const name = "agent"
	app, sets, done := map[string]string{"app": name}, s.plane.client.AppsV1().DaemonSets(s.namespace), created(t)
	meta := inStep(s.namespace, name, "1")
	meta.Annotations = map[string]string{"owner": "platform"}
	done(sets.Create(t.Context(), &appsv1.DaemonSet{ObjectMeta: meta,
		Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: app}, Template: podTemplate(app)}}, metav1.CreateOptions{}))
	s.expect(t, name+" 1", name+" ")
	for _, patch := range []string{`{"spec":{"template":{"metadata":{"labels":{"version":"2"}}}}}`, stepPatch("2")} {
		done(sets.Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}))
	}
	s.expect(t, name+" 2", name+" ")
	const annotations = `cloudzero_daemonset_annotations{label_owner="platform",namespace=%q,resource_type="daemonset",workload=%q}`
	want := fmt.Sprintf(annotations, s.namespace, name)
	for _, a := range s.journal.all() {
		if a.Object == name && a.Step == "" && a.Series != want {
			t.Errorf("the series %s, want %s", a.Series, want)
		}
	}
}

// refused is the step that a stage's refuser lets no object come to.
const refused = "refused"

// TestWebhookResyncs makes changes while lists follow one another. What is refused
// after its review is corrected, or forgotten, by one of the next lists, and no
// list brings an older state back.
func TestWebhookResyncs(t *testing.T) {
	t.Parallel()
	const count = 50
	s := newStage(t, "webhook-resyncs", settings{"RESYNC_INTERVAL": "1s"})
	s.refuse(t)
	s.plane.pods(t, count, func(i int) metav1.ObjectMeta { return inStep(s.namespace, numberedPod(i), "0") })
	changes := newChanger(t, s.plane, s.namespace, count, 20*time.Millisecond)
	// API servers may show a deletion with a state that is old, and show what is
	// created though it exists.
	changes.relabelsOnly = true
	changes.start()
	_, patched := s.pods.Patch(t.Context(), "old", types.MergePatchType, []byte(stepPatch(refused)), metav1.PatchOptions{})
	_, made := s.pods.Create(t.Context(), pod(inStep(s.namespace, "never", refused)), metav1.CreateOptions{})
	if !isDenied(patched) || !isDenied(made) {
		t.Fatalf("got the errors %v and %v, want that both requests were denied", patched, made)
	}
	s.journal.awaitState(t, map[string]string{"old": refused, "never": refused})
	s.journal.awaitStep(t, "old", "1")
	changes.stop()
	s.journal.awaitState(t, s.plane.state(t, s.namespace))
	// The one that never was is forgotten.
	s.awaitMetrics(t, map[string]float64{`labelstream_ledger_entries{resource="pods"}`: float64(len(s.plane.state(t, s.namespace)))})
	s.terminate(t)
	s.journal.mustBeInOrder(t)
	s.journal.mustRise(t)
	if n := len(stepsByObject(s.journal.all())["never"]); n != 1 {
		t.Errorf("the pod that never was has %d samples, want 1", n)
	}
}

// isDenied tells whether a webhook has refused something.
func isDenied(err error) bool {
	return err != nil && strings.Contains(err.Error(), "denied the request")
}

// refuse registers another webhook, which refuses what is refused while the daemon
// is shown it, and returns when it does.
func (s *stage) refuse(t *testing.T) {
	t.Helper()
	other := newReviewer(t, func(request *admissionv1.AdmissionRequest) bool {
		var object metav1.PartialObjectMetadata
		// Of a deletion there is none.
		_ = json.Unmarshal(request.Object.Raw, &object)
		return object.Labels["step"] != refused
	})
	r := registration(admissionregistrationv1.WebhookClientConfig{URL: &other.URL, CABundle: certificateOf(other.Server)}, s.namespace)
	r.Webhooks[0].Name = "refuser.example.com"
	s.plane.register(t, r)
	eventuallyTrue(t, "the other webhook refuses", func() bool {
		_, err := s.pods.Create(t.Context(), pod(inStep(s.namespace, "probe", refused)), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return isDenied(err)
	})
}
