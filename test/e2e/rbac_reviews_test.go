package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// registerNothing creates a configuration for a webhook that is never called.
func (p *plane) registerNothing(t *testing.T, name string) {
	t.Helper()
	url := "https://127.0.0.1:1/validate"
	created[*admissionregistrationv1.ValidatingWebhookConfiguration](t)(p.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().
		Create(t.Context(), &admissionregistrationv1.ValidatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Webhooks: []admissionregistrationv1.ValidatingWebhook{{
				Name:                    "labelstream.example.com",
				ClientConfig:            admissionregistrationv1.WebhookClientConfig{URL: &url},
				FailurePolicy:           new(admissionregistrationv1.Ignore),
				SideEffects:             new(admissionregistrationv1.SideEffectClassNoneOnDryRun),
				AdmissionReviewVersions: []string{"v1"},
			}},
		}, metav1.CreateOptions{}))
}

// What the reviews show, and will never be.
const (
	phantomPod   = `cloudzero_pod_labels{namespace="shop",pod="phantom",resource_type="pod"}`
	phantomLabel = `cloudzero_namespace_labels{label_team="phantom",namespace="shop",resource_type="namespace"}`

	reviewOfPod = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","operation":"CREATE",` +
		`"resource":{"group":"","version":"v1","resource":"pods"},"object":{"metadata":{"namespace":"shop","name":"phantom"}}}}`
	reviewOfNamespace = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"2","operation":"UPDATE",` +
		`"resource":{"group":"","version":"v1","resource":"namespaces"},"object":{"metadata":{"name":"shop","labels":{"team":"phantom"}}}}}`
)

// review shows the run a pod and a label of a namespace, neither of which there
// will be, once both kinds are read and the webhook has its certificate.
func (r *restricted) review(t *testing.T) {
	t.Helper()
	r.receiver.await(t, "the pod and the namespace", func(samples []sample) bool { return len(ofChosen(samples)) == 2 })
	var bundle []byte
	configurations := r.plane.client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	eventuallyTrue(t, "the webhook's certificate is trusted", func() bool {
		configuration, err := configurations.Get(t.Context(), r.account, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		bundle = configuration.Webhooks[0].ClientConfig.CABundle
		return len(bundle) > 0
	})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "hook." + r.account + ".svc"}}
	defer transport.CloseIdleConnections()
	address := hookedAt.FindStringSubmatch(r.stderr.String())
	if address == nil {
		t.Fatalf("the log does not say where the webhook is served:\n%s", r.stderr.String())
	}
	for _, review := range []string{reviewOfPod, reviewOfNamespace} {
		answer, err := (&http.Client{Transport: transport}).Post("https://"+address[1]+"/validate", "application/json", strings.NewReader(review))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("the webhook answers %s %s, %v", answer.Status, body, err)
		}
	}
	r.receiver.await(t, "what the reviews show", func(samples []sample) bool { return len(ofChosen(samples)) == 4 })
}

// awaitSettled waits until the run has found out that neither came to be: it asks
// after a minute. The namespace as it is comes once more then.
func (r *restricted) awaitSettled(t *testing.T) {
	t.Helper()
	d := r.serving(t)
	eventuallyTrue(t, "the pod is known as a phantom", func() bool {
		return d.metrics(t)[`labelstream_webhook_phantoms_total{kind="pods"}`] == 1
	})
	r.receiver.await(t, "the namespace as it is", func(samples []sample) bool {
		last := samples[len(samples)-1]
		return last.Series == `cloudzero_namespace_labels{namespace="shop",resource_type="namespace"}`
	})
}
