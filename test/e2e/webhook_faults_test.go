package e2e

import (
	"fmt"
	"net"
	"os"
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

// lenient is a registration for which the API server waits no longer than a
// second, and that refuses nothing. Its webhook is named after the namespace.
func lenient(client admissionregistrationv1.WebhookClientConfig, namespace string) *admissionregistrationv1.ValidatingWebhookConfiguration {
	r := registration(client, namespace)
	hook := &r.Webhooks[0]
	hook.Name = namespace + ".example.com"
	hook.FailurePolicy, hook.TimeoutSeconds = new(admissionregistrationv1.Ignore), new(int32(1))
	return r
}

// ignored is how often the API server has gone on without the answer of a
// namespace's lenient webhook.
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
	authority *authority
	// host is an address that no other test listens on, so that its port is free
	// when the daemon starts again.
	host string
	inv  invocation
}

// webhookFaults begin and end.
var webhookFaults = []struct {
	name       string
	begin, end func(*faulted, *testing.T)
}{
	{"terminated", func(f *faulted, t *testing.T) { f.terminate(t) }, (*faulted).restart},
	{"killed", func(f *faulted, t *testing.T) { f.kill(t) }, (*faulted).restart},
	{"hung",
		func(f *faulted, t *testing.T) { f.signal(t, syscall.SIGSTOP) },
		func(f *faulted, t *testing.T) { f.signal(t, syscall.SIGCONT) }},
	{"expired",
		func(f *faulted, t *testing.T) { f.certify(t, time.Now().Add(-time.Minute)) },
		func(f *faulted, t *testing.T) { f.certify(t, time.Now().Add(time.Hour)) }},
}

// restart starts the daemon again, where it was.
func (f *faulted) restart(t *testing.T) {
	t.Helper()
	f.daemon = startDaemon(t, f.inv.with(settings{"WEBHOOK_ADDRESS": f.address}))
	f.awaitSynced(t, "pods")
}

// certify replaces the certificate by one that ends at some time, and returns
// when the daemon has taken it.
func (f *faulted) certify(t *testing.T, end time.Time) {
	t.Helper()
	certificate, key := f.authority.issueUntil(t, end, f.host)
	for name, text := range map[string][]byte{"WEBHOOK_CERT_FILE": certificate, "WEBHOOK_KEY_FILE": key} {
		if err := os.WriteFile(f.inv.settings[name], text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	eventuallyTrue(t, "the certificate of the files is served", func() bool {
		left := f.metrics(t)["labelstream_webhook_certificate_days_left"]
		return left != 0 && left < 1 && (left < 0) == end.Before(time.Now())
	})
}

// shownPods is how many updates of pods the daemon has been shown.
func (f *faulted) shownPods(t *testing.T) int {
	t.Helper()
	n := 0
	for review, count := range f.reviews(t) {
		if strings.HasPrefix(review, "pods UPDATE ") {
			n += count
		}
	}
	return n
}

// TestWebhookFaults has the webhook fail while pods change: the API server takes
// every write, what the webhook was not shown comes by the watch, or by the next
// list of all, and once the fault has ended it is shown what is written again.
func TestWebhookFaults(t *testing.T) {
	t.Parallel()
	for i, fault := range webhookFaults {
		for j, follow := range []struct {
			how  string
			more settings
		}{
			{"watch", nil},
			{"resync", settings{"WATCH_ENABLED": "false", "RESYNC_INTERVAL": "2s"}},
		} {
			t.Run(fault.name+" "+follow.how, func(t *testing.T) {
				t.Parallel()
				f := &faulted{authority: newAuthority(t), host: fmt.Sprintf("127.97.%d.%d", i+1, j+1)}
				namespace := "webhook-" + fault.name + "-" + follow.how
				testWebhookFault(t, f, namespace, following.and(follow.more),
					func() { fault.begin(f, t) }, func() { fault.end(f, t) })
			})
		}
	}
}

func testWebhookFault(t *testing.T, f *faulted, namespace string, base settings, begin, end func()) {
	p := shared.plane
	p.namespace(t, metav1.ObjectMeta{Name: namespace})
	p.create(t, namespace, "old", "1")
	j := newJournal(t)
	// Requests of one that is killed end before their bodies do.
	j.cut = true
	f.inv = invocation{user: p.follower(t, namespace, "pods"), settings: base.and(f.authority.files(t, f.host)).and(settings{
		"DESTINATION": j.URL(), "NAMESPACES": namespace, "WEBHOOK_ENABLED": "true", "WEBHOOK_ADDRESS": net.JoinHostPort(f.host, "0"),
		// Each request has a connection of its own, and so a handshake.
		"WEBHOOK_RECONNECT": "1",
	})}
	f.hooked = startHooked(t, f.inv)
	f.bundle = f.authority.bundle
	f.awaitSynced(t, "pods")
	p.register(t, lenient(f.byURL(), namespace))
	f.awaitShown(t, p, namespace)
	p.setStep(t, namespace, "old", "2")
	j.awaitStep(t, "old", "2")

	begin()
	before := p.ignored(t, namespace)
	p.setStep(t, namespace, "old", "3")
	p.create(t, namespace, "new", "1")
	p.setStep(t, namespace, "old", "4")
	eventuallyTrue(t, "the API server goes on without the webhook at each write", func() bool {
		return p.ignored(t, namespace)-before >= 3
	})
	end()
	j.awaitState(t, map[string]string{"old": "4", "new": "1"})

	shown, step := f.shownPods(t), 4
	eventuallyTrue(t, "the daemon is shown what is written", func() bool {
		step++
		p.setStep(t, namespace, "old", strconv.Itoa(step))
		return f.shownPods(t) > shown
	})
	j.awaitState(t, p.state(t, namespace))
	f.terminate(t)
	j.mustBeInOrder(t)
}
