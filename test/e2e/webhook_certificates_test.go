// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"slices"
	"strconv"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// selfSigned is a namespace with a Service through which labelstream is shown what
// is written there. name is that of the Secret and the configuration.
type selfSigned struct {
	plane           *plane
	namespace, name string
	journal         *journal
	inv             invocation
	// configuration is as it was before labelstream started.
	configuration *admissionregistrationv1.ValidatingWebhookConfiguration
}

// newSelfSigned has the rights that "labelstream rbac" prints, and no more. Nothing
// here routes what is sent to a Service, so its address is one that the machine
// itself has, as all of 127.0.0.0/8.
func newSelfSigned(t *testing.T) *selfSigned {
	t.Helper()
	const name, host = "self-signed", "127.96.0.11"
	address := closedPort(t, host)
	number, err := strconv.Atoi(address[len(host+":"):])
	if err != nil {
		t.Fatal(err)
	}
	port := int32(number)
	p := ownPlane(t, "--service-cluster-ip-range=127.96.0.0/24")
	s := &selfSigned{plane: p, namespace: name, name: name, journal: newJournal(t)}
	p.namespace(t, name)
	p.create(t, name, "old", "1")
	created(t)(p.client.CoreV1().Services(name).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: host, Ports: []corev1.ServicePort{{Port: port}}},
	}, metav1.CreateOptions{}))
	r := lenient(admissionregistrationv1.WebhookClientConfig{Service: &admissionregistrationv1.ServiceReference{
		Namespace: name, Name: name, Path: new("/validate"), Port: new(port),
	}}, name)
	r.GenerateName, r.Name = "", name
	// What is not shown is missed until the next list.
	r.Webhooks[0].TimeoutSeconds = new(int32(30))
	s.configuration = p.register(t, r)
	own := reviewed.and(settings{
		"DESTINATION": s.journal.URL(), "NAMESPACES": name, "POD_NAMESPACE": name, "WEBHOOK_NAME": name,
		"WEBHOOK_ADDRESS": address,
	})
	p.bindAccount(t, name, printedRoles(t, own))
	s.inv = invocation{kubeconfig: p.accountKubeconfig(t, name), settings: own}
	return s
}

// start starts a daemon, and returns when it has read the pods, and is shown what
// is written.
func (s *selfSigned) start(t *testing.T) *hooked {
	t.Helper()
	h := &hooked{daemon: startDaemon(t, s.inv)}
	h.awaitReady(t)
	h.awaitSynced(t, "pods")
	s.awaitTrusted(t)
	h.awaitShown(t, s.plane, s.name)
	return h
}

// registered is the configuration as the API server has it.
func (s *selfSigned) registered(t *testing.T) *admissionregistrationv1.ValidatingWebhookConfiguration {
	t.Helper()
	r, err := s.plane.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), s.name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// kept is what the Secret holds, nil where there is none.
func (s *selfSigned) kept(t *testing.T) map[string][]byte {
	t.Helper()
	secret, err := s.plane.client.CoreV1().Secrets(s.namespace).Get(t.Context(), s.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return secret.Data
}

// awaitTrusted waits until the API server is told to trust the certificates that
// the Secret holds.
func (s *selfSigned) awaitTrusted(t *testing.T) {
	t.Helper()
	eventuallyTrue(t, "the certificates of the Secret are trusted", func() bool {
		kept := s.kept(t)
		return kept["tls.crt"] != nil &&
			bytes.Equal(slices.Concat(kept["tls.crt"], kept["next.crt"]), s.registered(t).Webhooks[0].ClientConfig.CABundle)
	})
}

// TestWebhookSelfSigned makes labelstream make its own certificate, for a Service
// through which a real API server calls it: everything at the first start, nothing
// at the second, and again what others have deleted or overwritten.
func TestWebhookSelfSigned(t *testing.T) {
	t.Parallel()
	s := newSelfSigned(t)
	h := s.start(t)
	s.plane.setStep(t, s.name, "old", "2")
	s.journal.awaitCount(t, 2)
	kept, now := s.kept(t), s.registered(t)
	version := now.ResourceVersion
	now.Webhooks[0].ClientConfig.CABundle = nil
	if diff := gocmp.Diff(s.configuration.Webhooks, now.Webhooks); diff != "" {
		t.Errorf("the configuration but for the caBundle (-before +now):\n%s", diff)
	}
	h.terminate(t)

	h = s.start(t)
	s.plane.setStep(t, s.name, "old", "3")
	s.journal.awaitCount(t, 4)
	if now := s.registered(t).ResourceVersion; now != version {
		t.Errorf("a restart has written the configuration: version %s, before %s", now, version)
	}

	if err := s.plane.client.CoreV1().Secrets(s.namespace).Delete(t.Context(), s.name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r := s.registered(t)
	r.Webhooks[0].ClientConfig.CABundle = newCertificate(t, "127.0.0.1").issue(t, time.Now().Add(time.Hour))
	created(t)(s.plane.client.AdmissionregistrationV1().
		ValidatingWebhookConfigurations().Update(t.Context(), r, metav1.UpdateOptions{FieldManager: "another-tool"}))
	s.awaitTrusted(t)
	h.awaitShown(t, s.plane, s.name)
	s.plane.setStep(t, s.name, "old", "4")
	s.journal.awaitCount(t, 5)
	h.terminate(t)
	s.journal.mustBe(t, []string{"old 1", "old 2", "old 2", "old 3", "old 4"})
	if diff := gocmp.Diff(kept, s.kept(t)); diff != "" {
		t.Errorf("the Secret after a restart and a repair (-before +now):\n%s", diff)
	}
}
