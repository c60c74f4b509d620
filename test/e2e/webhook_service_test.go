package e2e

import (
	"net"
	"strconv"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestWebhookThroughService has the API server reach the webhook by a Service, for
// whose name its certificate is. Nothing here routes what is sent to a Service, so
// its addresses are ones that the machine itself has: all of 127.0.0.0/8.
func TestWebhookThroughService(t *testing.T) {
	t.Parallel()
	const (
		namespace = "webhook-service"
		name      = "labelstream"
		address   = "127.96.0.10"
	)
	p := ownPlane(t, "--service-cluster-ip-range=127.96.0.0/24")
	s := openStage(t, p, namespace, onlyShown.and(settings{"WEBHOOK_ADDRESS": net.JoinHostPort(address, "0")}),
		name+"."+namespace+".svc")
	s.show(t, s.byService(t, name))
	s.creates(t)
	s.relabels(t)
	s.terminate(t)
	s.mustBeAll(t)
}

// byService is how an API server reaches the webhook through a Service, which is
// created in the stage's namespace, with the webhook's address as its own.
func (s *stage) byService(t *testing.T, name string) admissionregistrationv1.WebhookClientConfig {
	t.Helper()
	host, text, err := net.SplitHostPort(s.address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	created[*corev1.Service](t)(s.plane.client.CoreV1().Services(s.namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: host, Ports: []corev1.ServicePort{{Port: int32(port)}}},
	}, metav1.CreateOptions{}))
	return admissionregistrationv1.WebhookClientConfig{
		Service: &admissionregistrationv1.ServiceReference{
			Namespace: s.namespace, Name: name, Path: new("/validate"), Port: new(int32(port)),
		},
		CABundle: s.bundle,
	}
}
