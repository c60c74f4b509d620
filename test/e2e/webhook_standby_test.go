package e2e

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestWebhookStandbyWithoutLeaseRight has a replica that may not ask for the Lease.
// It cannot lead, but sends what it is shown, as no other replica is shown that;
// once it may, it leads and sends all.
func TestWebhookStandbyWithoutLeaseRight(t *testing.T) {
	t.Parallel()
	const namespace = "webhook-standby"
	p := shared.plane
	p.numbered(t, namespace, 1)
	user := p.grant(t, namespace, "pods")
	j := newJournal(t)
	h := startHooked(t, invocation{user: user, settings: onlyShown.and(electing).and(settings{
		"DESTINATION": j.URL(), "NAMESPACES": namespace, "LEASE_NAMESPACE": namespace,
	})})
	h.awaitLog(t, `grant the verbs \"get\", \"create\" and \"update\" on resource \"leases\" in API group \"coordination.k8s.io\"`)
	p.register(t, registration(h.byURL(), namespace))
	h.awaitShown(t, p, namespace)
	eventuallyTrue(t, "pods are known", func() bool {
		created[*corev1.Pod](t)(p.client.CoreV1().Pods(namespace).
			Create(t.Context(), pod(inStep(namespace, "probe", "1")), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}))
		return h.reviews(t)["pods CREATE dry_run"] > 0
	})
	p.create(t, namespace, "shown", "1")
	j.awaitCount(t, 1)
	mustFollow(t, h.daemon)
	p.allow(t, user, namespace, right{"leases.coordination.k8s.io", []string{"get", "create", "update"}})
	j.awaitCount(t, 3)
	p.setStep(t, namespace, "shown", "2")
	j.awaitCount(t, 4)
	h.terminate(t)
	compareSteps(t, j.all(), []string{"shown 1", numberedPod(0) + " 1", "shown 1", "shown 2"})
	j.mustBeInOrder(t)
}
