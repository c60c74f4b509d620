package e2e

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestWebhookAlone creates, relabels and deletes a pod, and demands a sample for
// each change that there was no watch to tell of.
func TestWebhookAlone(t *testing.T) {
	t.Parallel()
	const namespace = "webhook-alone"
	p := shared.plane
	p.namespace(t, metav1.ObjectMeta{Name: namespace})
	p.create(t, namespace, "old", "1")
	j := newJournal(t)
	h := startHooked(t, invocation{user: p.grant(t, namespace, "pods"),
		settings: onlyShown.and(settings{"DESTINATION": j.URL(), "NAMESPACES": namespace})})
	j.awaitCount(t, 1)
	h.awaitSynced(t, "pods")
	p.register(t, registration(h.byURL(), namespace))
	h.awaitShown(t, p, namespace)
	p.create(t, namespace, "new", "1")
	p.setStep(t, namespace, "new", "2")
	p.setStep(t, namespace, "old", "2")
	p.remove(t, namespace, "new")
	j.awaitCount(t, 4)
	h.awaitReviews(t, "pods CREATE sent", "pods UPDATE sent", "pods DELETE known")
	h.terminate(t)
	compareSteps(t, j.all(), []string{"old 1", "new 1", "new 2", "old 2"})
}
