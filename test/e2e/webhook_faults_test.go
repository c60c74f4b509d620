// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strconv"
	"syscall"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"labelstream/test/controlplane"
	"labelstream/test/metrics"
)

// lenient is a registration for which the API server waits a second at most, and
// that refuses nothing.
func lenient(client admissionregistrationv1.WebhookClientConfig, namespace string) *admissionregistrationv1.ValidatingWebhookConfiguration {
	r := registration(client, namespace)
	r.Webhooks[0].FailurePolicy, r.Webhooks[0].TimeoutSeconds = new(admissionregistrationv1.Ignore), new(int32(1))
	return r
}

// ignored is how often the API server has gone on without the answer of a
// namespace's webhook.
func (p *plane) ignored(t *testing.T, namespace string) int {
	t.Helper()
	config, err := p.Config(controlplane.Admin)
	if err != nil {
		t.Fatal(err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	families, err := metrics.Get(t.Context(), client, config.Host+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	return int(families.Sum("apiserver_admission_webhook_fail_open_count", map[string]string{"name": namespace + ".example.com"}))
}

// faulted is a daemon whose webhook fails for a time.
type faulted struct {
	*hooked
	plane       *plane
	certificate *certificate
	// registered is what the API server calls it by.
	registered *admissionregistrationv1.ValidatingWebhookConfiguration
}

// webhookFaults begin and end. Each has an address that no other test listens on,
// so that its port is free when the daemon starts again.
var webhookFaults = []struct {
	name, host string
	begin, end func(*faulted, *testing.T)
}{
	{"killed", "127.97.0.2",
		func(f *faulted, t *testing.T) { f.kill(t) },
		func(f *faulted, t *testing.T) {
			f.daemon = startDaemon(t, f.inv.with(settings{"WEBHOOK_ADDRESS": f.address}))
		}},
	{"hung", "127.97.0.3",
		func(f *faulted, t *testing.T) { f.signal(t, syscall.SIGSTOP) },
		func(f *faulted, t *testing.T) { f.signal(t, syscall.SIGCONT) }},
	{"expired", "127.97.0.4",
		func(f *faulted, t *testing.T) { f.certify(t, time.Now().Add(-time.Minute)) },
		func(f *faulted, t *testing.T) { f.certify(t, time.Now().Add(time.Hour)) }},
}

// certify replaces the certificate by one that ends at some time, and returns when
// it is served and the API server is told to trust it.
func (f *faulted) certify(t *testing.T, end time.Time) {
	t.Helper()
	f.registered.Webhooks[0].ClientConfig.CABundle = f.certificate.issue(t, end)
	f.awaitMetrics(t, map[string]float64{"labelstream_webhook_certificate_not_after_timestamp_seconds": float64(end.Unix())})
	var err error
	f.registered, err = f.plane.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().
		Update(t.Context(), f.registered, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// TestWebhookFaults makes the webhook fail while pods change: the API server
// accepts every write, what the webhook was not shown comes by the next list, and
// once the fault has ended, what is written is shown again.
func TestWebhookFaults(t *testing.T) {
	t.Parallel()
	for _, fault := range webhookFaults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			p, namespace := shared.plane, "webhook-"+fault.name
			p.namespace(t, namespace)
			p.create(t, namespace, "old", "1")
			j := newJournal(t)
			// Requests of one that is killed end before their bodies do.
			j.cut = true
			f := &faulted{plane: p, certificate: newCertificate(t, fault.host)}
			f.hooked = f.certificate.startHooked(t, invocation{user: p.reader(t, namespace, "pods"), settings: reviewed.and(settings{
				"DESTINATION": j.URL(), "NAMESPACES": namespace, "RESYNC_INTERVAL": "1s",
			})}, time.Now().Add(time.Hour))
			f.registered = p.register(t, lenient(f.byURL(), namespace))
			f.awaitShown(t, p, namespace)
			p.setStep(t, namespace, "old", "2")
			j.awaitStep(t, "old", "2")

			fault.begin(f, t)
			before, step := p.ignored(t, namespace), 2
			p.create(t, namespace, "new", "1")
			eventuallyTrue(t, "the API server goes on without the webhook", func() bool {
				step++
				p.setStep(t, namespace, "old", strconv.Itoa(step))
				return p.ignored(t, namespace)-before >= 3
			})
			fault.end(f, t)
			j.awaitState(t, p.state(t, namespace))

			const update = "pods UPDATE sent"
			shown := f.reviews(t)[update]
			eventuallyTrue(t, "the daemon is shown what is written", func() bool {
				step++
				p.setStep(t, namespace, "old", strconv.Itoa(step))
				return f.reviews(t)[update] > shown
			})
			j.awaitState(t, p.state(t, namespace))
			f.terminate(t)
			j.mustBeInOrder(t)
		})
	}
}
