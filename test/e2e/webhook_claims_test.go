package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// refused is the step that a stage's refuser lets no object come to, and the name
// of a pod that it lets nobody delete.
const refused = "refused"

// TestWebhookClaims makes changes that are shown, and then refused, or that end as
// nothing. What was sent of them is corrected or forgotten within a minute, by
// asking for the objects; all of this test waits for the same minute.
func TestWebhookClaims(t *testing.T) {
	t.Parallel()
	s := newStage(t, "webhook-claims", following)
	s.plane.create(t, s.namespace, "exists", "1")
	s.expect(t, "exists 1")
	s.plane.create(t, s.namespace, "busy", "1")
	s.expect(t, "busy 1")
	s.plane.create(t, s.namespace, refused, "1")
	s.expect(t, refused+" 1")
	s.refuse(t)
	s.limitDeployments(t, 0)

	s.refusedCreates(t)
	s.refusedUpdates(t)
	s.mustBeRefused(t, s.pods.Delete(t.Context(), refused, metav1.DeleteOptions{}), "denied the request")
	_, err := s.pods.Create(t.Context(), pod(inStep(s.namespace, "exists", "9")), metav1.CreateOptions{})
	s.mustBeRefused(t, err, `pods "exists" already exists`)
	s.expect(t, "exists 9")
	// This one is shown as it is.
	_, err = s.pods.Create(t.Context(), pod(inStep(s.namespace, refused, "1")), metav1.CreateOptions{})
	s.mustBeRefused(t, err, `already exists`)
	s.expect(t)
	corrected := map[string]string{"old": "1", "busy": "1", "exists": "1", s.namespace: "1"}
	for object, step := range corrected {
		s.want = append(s.want, object+" "+step)
	}
	s.awaitWant(t)
	s.awaitMetrics(t, map[string]float64{
		`labelstream_webhook_phantoms_total{kind="pods"}`:                   2,
		`labelstream_webhook_phantoms_total{kind="deployments.apps"}`:       1,
		`labelstream_webhook_phantoms_total{kind="namespaces"}`:             0,
		`labelstream_records_total{kind="pods",source="get"}`:               3,
		`labelstream_records_total{kind="deployments.apps",source="get"}`:   0,
		`labelstream_records_total{kind="namespaces",source="get"}`:         1,
		`labelstream_records_total{kind="deployments.apps",source="watch"}`: 0,
	})
	// What never was is forgotten: once it is, it is as good as new.
	s.limitDeployments(t, 1)
	s.plane.deploy(t, s.namespace, deployment)
	s.want = append(s.want, deployment+" deployed")
	s.awaitWant(t)
	s.terminate(t)
	// Some may be corrected while others are still being made.
	slices.SortStableFunc(s.want, byObject)
	s.mustBeChanges(t, slices.SortedStableFunc(slices.Values(s.changes(s.journal.all())), byObject))
	s.mustBeCorrectedInTime(t, corrected)
}

// byObject compares what is written as "object step" by the object alone.
func byObject(a, b string) int {
	a, _, _ = strings.Cut(a, " ")
	b, _, _ = strings.Cut(b, " ")
	return strings.Compare(a, b)
}

// mustBeCorrectedInTime demands that the last samples of some objects are of
// these steps, and at most a minute younger than the ones before them, by their
// own timestamps.
func (s *stage) mustBeCorrectedInTime(t *testing.T, steps map[string]string) {
	t.Helper()
	for object, step := range steps {
		own := slices.DeleteFunc(s.journal.all(), func(a sample) bool { return a.Object != object })
		if len(own) < 2 {
			t.Errorf("%d samples of %s, want two at least", len(own), object)
			continue
		}
		claim, correction := own[len(own)-2], own[len(own)-1]
		if took := time.Duration(correction.At-claim.At) * time.Millisecond; correction.Step != step || took > time.Minute {
			t.Errorf("%s: step %q came %s after step %q, want step %q within a minute", object, correction.Step, took, claim.Step, step)
		}
	}
}

// TestWebhookClaimsWithoutWatch leaves what never came to be to the next list.
func TestWebhookClaimsWithoutWatch(t *testing.T) {
	t.Parallel()
	s := newStage(t, "webhook-claims-unwatched", onlyShown.and(settings{"RESYNC_INTERVAL": "3s"}))
	s.refuse(t)
	ctx, patch := t.Context(), fmt.Appendf(nil, `{"metadata":{"labels":{"step":%q}}}`, refused)
	_, err := s.pods.Patch(ctx, "old", types.MergePatchType, patch, metav1.PatchOptions{})
	s.mustBeRefused(t, err, "denied the request")
	_, err = s.pods.Create(ctx, pod(inStep(s.namespace, "phantom", refused)), metav1.CreateOptions{})
	s.mustBeRefused(t, err, "denied the request")
	s.journal.await(t, "both as they are shown", func(samples []sample) bool {
		all := steps(samples)
		return slices.Contains(all, "old "+refused) && slices.Contains(all, "phantom "+refused)
	})
	s.journal.awaitStep(t, "old", "1")
	// The other one is forgotten.
	s.awaitMetrics(t, map[string]float64{`labelstream_ledger_entries{kind="pods"}`: 2})
	s.terminate(t)
	for _, once := range []string{"old " + refused, "phantom " + refused} {
		all := steps(s.journal.all())
		if n := len(all) - len(slices.DeleteFunc(all, func(text string) bool { return text == once })); n != 1 {
			t.Errorf("%q was sent %d times, want once", once, n)
		}
	}
	s.journal.mustBeInOrder(t)
}

func (s *stage) refusedCreates(t *testing.T) {
	t.Helper()
	_, err := s.pods.Create(t.Context(), pod(inStep(s.namespace, "phantom", refused)), metav1.CreateOptions{})
	s.mustBeRefused(t, err, "denied the request")
	s.expect(t, "phantom "+refused)
	meta := inStep(s.namespace, "", refused)
	meta.GenerateName = "generated-"
	_, err = s.pods.Create(t.Context(), pod(meta), metav1.CreateOptions{})
	s.mustBeRefused(t, err, "denied the request")
	isGenerated := func(text string) bool { return strings.HasPrefix(text, "generated-") }
	s.journal.await(t, "the generated pod", func(all []sample) bool { return slices.ContainsFunc(s.changes(all), isGenerated) })
	all := s.changes(s.journal.all())
	generated := all[slices.IndexFunc(all, isGenerated)]
	s.expect(t, generated)
	if !strings.HasSuffix(generated, " "+refused) {
		t.Errorf("sample %q of the generated pod, want step %q", generated, refused)
	}
	_, err = s.createDeployment(t)
	s.mustBeRefused(t, err, "exceeded quota")
	s.expect(t, deployment+" deployed")
}

func (s *stage) refusedUpdates(t *testing.T) {
	t.Helper()
	ctx, patch := t.Context(), fmt.Appendf(nil, `{"metadata":{"labels":{"step":%q}}}`, refused)
	for _, name := range []string{"old", "busy"} {
		_, err := s.pods.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
		s.mustBeRefused(t, err, "denied the request")
		s.expect(t, name+" "+refused)
	}
	// An event that shows what was before the claim may be older than the claim: it
	// settles nothing.
	s.plane.updateStatus(t, s.namespace, "busy", "running")
	s.expect(t)
	_, err := s.plane.client.CoreV1().Namespaces().Patch(ctx, s.namespace, types.MergePatchType, patch, metav1.PatchOptions{})
	s.mustBeRefused(t, err, "denied the request")
	s.expect(t, s.namespace+" "+refused)
}

// mustBeRefused demands an error that says so.
func (s *stage) mustBeRefused(t *testing.T, err error, why string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), why) {
		t.Fatalf("got the error %v, want %q", err, why)
	}
}

// refuse has another webhook refuse what is refused, at the same time as the
// daemon is shown it, and returns when it does.
func (s *stage) refuse(t *testing.T) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(refuser))
	t.Cleanup(server.Close)
	r := registration(admissionregistrationv1.WebhookClientConfig{
		URL: &server.URL, CABundle: inPEM("CERTIFICATE", server.Certificate().Raw),
	}, s.namespace)
	s.plane.register(t, r)
	eventuallyTrue(t, "the other webhook refuses", func() bool {
		_, err := s.pods.Create(t.Context(), pod(inStep(s.namespace, "probe", refused)), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil && strings.Contains(err.Error(), "denied the request")
	})
}

// refuser answers reviews.
func refuser(w http.ResponseWriter, r *http.Request) {
	var review admissionv1.AdmissionReview
	var object metav1.PartialObjectMetadata
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if review.Request.Object.Raw != nil {
		if err := json.Unmarshal(review.Request.Object.Raw, &object); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	bad := object.Labels["step"] == refused || review.Request.Operation == admissionv1.Delete && review.Request.Name == refused
	review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: !bad}
	w.Header().Set("Content-Type", "application/json")
	// The API server may have left.
	_ = json.NewEncoder(w).Encode(review)
}

// limitDeployments has the namespace's quota allow so many, and returns when the
// API server holds to that. It looks at quotas after all webhooks. No controller
// is there to write the quota's status.
func (s *stage) limitDeployments(t *testing.T, most int64) {
	t.Helper()
	ctx, quotas := t.Context(), s.plane.client.CoreV1().ResourceQuotas(s.namespace)
	hard := corev1.ResourceList{"count/deployments.apps": *resource.NewQuantity(most, resource.DecimalSI)}
	none := corev1.ResourceList{"count/deployments.apps": resource.MustParse("0")}
	quota, err := quotas.Get(ctx, "quota", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		quota, err = quotas.Create(ctx, &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "quota"},
			Spec: corev1.ResourceQuotaSpec{Hard: hard}}, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	quota.Status = corev1.ResourceQuotaStatus{Hard: hard, Used: none}
	created[*corev1.ResourceQuota](t)(quotas.UpdateStatus(ctx, quota, metav1.UpdateOptions{}))
	eventuallyTrue(t, "the quota counts", func() bool {
		_, err := s.createDeployment(t, metav1.DryRunAll)
		return apierrors.IsForbidden(err) == (most == 0)
	})
}

// createDeployment tries to.
func (s *stage) createDeployment(t *testing.T, dryRun ...string) (*appsv1.Deployment, error) {
	t.Helper()
	return s.plane.client.AppsV1().Deployments(s.namespace).
		Create(t.Context(), newDeployment(s.namespace, deployment), metav1.CreateOptions{DryRun: dryRun})
}

// awaitMetrics waits until metrics have certain values.
func (d *daemon) awaitMetrics(t *testing.T, want map[string]float64) {
	t.Helper()
	eventuallyTrue(t, fmt.Sprintf("metrics are %v", want), func() bool {
		got := d.metrics(t)
		for name, value := range want {
			if v, ok := got[name]; !ok || v != value {
				return false
			}
		}
		return true
	})
}
