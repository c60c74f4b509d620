package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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
	plane     *plane
	namespace string
	authority *authority
	inv       invocation
	// registered is what the API server calls it by.
	registered *admissionregistrationv1.ValidatingWebhookConfiguration
}

// webhookFaults begin and end. Each has an address that no other test listens on,
// so that its port is free when the daemon starts again.
var webhookFaults = []struct {
	name, host string
	begin, end func(*faulted, *testing.T)
}{
	{"terminated", "127.97.0.1", func(f *faulted, t *testing.T) { f.terminate(t) }, (*faulted).restart},
	{"killed", "127.97.0.2", func(f *faulted, t *testing.T) { f.kill(t) }, (*faulted).restart},
	{"hung", "127.97.0.3",
		func(f *faulted, t *testing.T) { f.signal(t, syscall.SIGSTOP) },
		func(f *faulted, t *testing.T) { f.signal(t, syscall.SIGCONT) }},
	{"expired", "127.97.0.4",
		func(f *faulted, t *testing.T) { f.certify(t, time.Now().Add(-time.Minute)) },
		func(f *faulted, t *testing.T) { f.certify(t, time.Now().Add(time.Hour)) }},
}

// restart starts the daemon again, where it was.
func (f *faulted) restart(t *testing.T) {
	t.Helper()
	f.daemon = startDaemon(t, f.inv.with(settings{"WEBHOOK_ADDRESS": f.address}))
}

// certify replaces the certificate by one that ends at some time, and returns when
// it is served. The API server makes a new connection then.
func (f *faulted) certify(t *testing.T, end time.Time) {
	t.Helper()
	host, _, err := net.SplitHostPort(f.address)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(f.inv.settings["WEBHOOK_CERT_DIR"], "tls.crt")
	if err := os.WriteFile(path, f.authority.issue(t, end, host), 0o600); err != nil {
		t.Fatal(err)
	}
	f.awaitMetrics(t, map[string]float64{"labelstream_webhook_certificate_not_after_timestamp_seconds": float64(end.Unix())})
	// A client of the API server is for one bundle, whatever that says.
	configurations := f.plane.client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	bundle := &f.registered.Webhooks[0].ClientConfig.CABundle
	*bundle = append(*bundle, '\n')
	if f.registered, err = configurations.Update(t.Context(), f.registered, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// updates is how many updates of pods the daemon has been shown.
func (f *faulted) updates(t *testing.T) int {
	t.Helper()
	n := 0
	for review, count := range f.reviews(t) {
		if strings.HasPrefix(review, "pods UPDATE ") {
			n += count
		}
	}
	return n
}

// TestWebhookFaults makes the webhook fail while pods change: the API server
// accepts every write, what the webhook was not shown comes by the next list, and
// once the fault has ended, what is written is shown again.
func TestWebhookFaults(t *testing.T) {
	t.Parallel()
	for _, fault := range webhookFaults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			p := shared.plane
			f := &faulted{plane: p, namespace: "webhook-" + fault.name, authority: newAuthority(t)}
			p.namespace(t, f.namespace)
			p.create(t, f.namespace, "old", "1")
			j := newJournal(t)
			// Requests of one that is killed end before their bodies do.
			j.cut = true
			f.inv = invocation{user: p.reader(t, f.namespace, "pods"), settings: reviewed.
				and(f.authority.files(t, time.Now().Add(time.Hour), fault.host)).and(settings{
				"DESTINATION": j.URL(), "NAMESPACES": f.namespace, "WEBHOOK_ADDRESS": net.JoinHostPort(fault.host, "0"), "RESYNC_INTERVAL": "1s",
			})}
			f.hooked = hookOf(t, startDaemon(t, f.inv), f.authority.bundle)
			f.registered = p.register(t, lenient(f.byURL(), f.namespace))
			f.awaitShown(t, p, f.namespace)
			p.setStep(t, f.namespace, "old", "2")
			j.awaitStep(t, "old", "2")

			fault.begin(f, t)
			before, step := p.ignored(t, f.namespace), 2
			p.create(t, f.namespace, "new", "1")
			eventuallyTrue(t, "the API server goes on without the webhook", func() bool {
				step++
				p.setStep(t, f.namespace, "old", strconv.Itoa(step))
				return p.ignored(t, f.namespace)-before >= 3
			})
			fault.end(f, t)
			j.awaitState(t, p.state(t, f.namespace))

			shown := f.updates(t)
			eventuallyTrue(t, "the daemon is shown what is written", func() bool {
				step++
				p.setStep(t, f.namespace, "old", strconv.Itoa(step))
				return f.updates(t) > shown
			})
			j.awaitState(t, p.state(t, f.namespace))
			f.terminate(t)
			j.mustBeInOrder(t)
		})
	}
}
