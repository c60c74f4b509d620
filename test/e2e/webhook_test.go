package e2e

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// onlyShown are the settings of daemons that learn of changes from nothing but
// reviews: there is no watch, and no list after the first.
var onlyShown = following.and(settings{"WATCH_ENABLED": "false", "RESYNC_INTERVAL": "0"})

// hooked is a daemon with an admission webhook.
type hooked struct {
	*daemon
	// address is the webhook's host and port, bundle what to trust it by.
	address string
	bundle  []byte
}

// startHooked starts a daemon whose webhook has a certificate for 127.0.0.1 and
// other hosts, and returns when it has read the kind.
func startHooked(t *testing.T, inv invocation, hosts ...string) *hooked {
	t.Helper()
	a := newAuthority(t)
	inv.settings = settings{"WEBHOOK_ENABLED": "true", "WEBHOOK_ADDRESS": "127.0.0.1:0"}.
		and(a.files(t, append(hosts, "127.0.0.1")...)).and(inv.settings)
	d := startDaemon(t, inv)
	// The webhook is served before the status is.
	address := hookedAt.FindStringSubmatch(d.stderr.String())
	if address == nil {
		t.Fatalf("the log does not say where the webhook is served:\n%s", d.stderr.String())
	}
	return &hooked{daemon: d, address: address[1], bundle: a.bundle}
}

var hookedAt = regexp.MustCompile(`"Serving the webhook"[^\n]*"webhook":"([^"]+)"`)

// awaitSynced waits until all objects of kinds have been read once. Reviews of a
// kind are not taken before that is known.
func (d *daemon) awaitSynced(t *testing.T, kinds ...string) {
	t.Helper()
	for _, kind := range kinds {
		eventuallyTrue(t, kind+" are read", func() bool { return d.metrics(t)[fmt.Sprintf("labelstream_synced{kind=%q}", kind)] == 1 })
	}
}

// byURL is how an API server reaches the webhook by its address.
func (h *hooked) byURL() admissionregistrationv1.WebhookClientConfig {
	url := "https://" + h.address + "/validate"
	return admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: h.bundle}
}

// registration has an API server show a webhook all that is written to some
// namespaces, subresources and the namespaces themselves included. A write that
// cannot be shown is refused, so that none is missed.
func registration(client admissionregistrationv1.WebhookClientConfig, namespaces ...string) *admissionregistrationv1.ValidatingWebhookConfiguration {
	everything := func(scope admissionregistrationv1.ScopeType, group string, resources ...string) admissionregistrationv1.RuleWithOperations {
		return admissionregistrationv1.RuleWithOperations{
			Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.OperationAll},
			Rule: admissionregistrationv1.Rule{
				APIGroups: []string{group}, APIVersions: []string{"*"}, Resources: resources, Scope: &scope,
			},
		}
	}
	return &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "labelstream-"},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name:         "labelstream.example.com",
			ClientConfig: client,
			Rules: []admissionregistrationv1.RuleWithOperations{
				everything(admissionregistrationv1.NamespacedScope, "*", "*/*"),
				everything(admissionregistrationv1.ClusterScope, "", "namespaces", "namespaces/*"),
			},
			NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
				Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpIn, Values: namespaces,
			}}},
			FailurePolicy:           new(admissionregistrationv1.Fail),
			TimeoutSeconds:          new(int32(30)),
			SideEffects:             new(admissionregistrationv1.SideEffectClassNoneOnDryRun),
			AdmissionReviewVersions: []string{"v1"},
		}},
	}
}

// register creates a registration, and takes it back when the test ends. The API
// server may take some moments to follow it.
func (p *plane) register(t *testing.T, r *admissionregistrationv1.ValidatingWebhookConfiguration) {
	t.Helper()
	configurations := p.client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	r, err := configurations.Create(t.Context(), r, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The test's own context has ended.
		if err := configurations.Delete(context.Background(), r.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	})
}

// probed is how the probes of awaitShown are counted.
const probed = "other CREATE dry_run"

// awaitShown waits until the API server shows the daemon what is written to a
// namespace. It asks by dry runs of a kind that was not chosen, of which nothing
// but a review can come.
func (h *hooked) awaitShown(t *testing.T, p *plane, namespace string) {
	t.Helper()
	probe := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "probe"}}
	failure := ""
	eventuallyTrue(t, "what is written to "+namespace+" is shown", func() bool {
		_, err := p.client.CoreV1().ConfigMaps(namespace).
			Create(t.Context(), probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		// It may not know of a Service yet.
		if err != nil && err.Error() != failure {
			failure = err.Error()
			t.Log(failure)
		}
		return err == nil && h.reviews(t)[probed] > 0
	})
}

// reviews are the counts of reviews as "kind operation outcome".
func (d *daemon) reviews(t *testing.T) map[string]int {
	t.Helper()
	counts := make(map[string]int)
	for name, value := range d.metrics(t) {
		if labels := reviewLabels.FindStringSubmatch(name); labels != nil {
			counts[labels[1]+" "+labels[2]+" "+labels[3]] = int(value)
		}
	}
	return counts
}

var reviewLabels = regexp.MustCompile(`^labelstream_webhook_reviews_total\{kind="(.*)",operation="(.*)",outcome="(.*)"\}$`)

// awaitReviews waits until reviews of each of these "kind operation outcome" have
// come, beside those of awaitShown, and demands that there are no others.
//
// How many they are is not said. An API server shows a change again where its
// cache was behind when it made it, and a deletion at each of its steps: so there
// may always be reviews of what is known or gone, or is being handled.
func (d *daemon) awaitReviews(t *testing.T, want ...string) {
	t.Helper()
	want = slices.Sorted(slices.Values(append(want, probed)))
	// An answer is counted after it was written.
	eventuallyTrue(t, fmt.Sprintf("reviews are %q", want), func() bool {
		counts := d.reviews(t)
		return !slices.ContainsFunc(want, func(review string) bool { return counts[review] == 0 })
	})
	got := slices.DeleteFunc(slices.Sorted(maps.Keys(d.reviews(t))), func(review string) bool {
		repeated := strings.HasSuffix(review, " known") || strings.HasSuffix(review, " gone") || strings.HasSuffix(review, " left_to_watch")
		return repeated && !slices.Contains(want, review)
	})
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("reviews (-want +got):\n%s", diff)
	}
}
