// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// reviewed are the settings of daemons that learn of changes by reviews, and list
// once.
var reviewed = following.and(settings{"CHANGES": "webhook", "RESYNC_INTERVAL": "0"})

// hooked is a daemon with an admission webhook.
type hooked struct {
	*daemon
	// inv is how it was started.
	inv invocation
	// address is the webhook's host and port, bundle what to trust it by.
	address string
	bundle  []byte
}

// startHooked starts a daemon whose webhook has a certificate for 127.0.0.1, for
// some months.
func startHooked(t *testing.T, inv invocation) *hooked {
	t.Helper()
	return newCertificate(t, "127.0.0.1").startHooked(t, inv, time.Now().Add(90*24*time.Hour))
}

// startHooked starts a daemon whose webhook has this certificate, until some time.
func (c *certificate) startHooked(t *testing.T, inv invocation, end time.Time) *hooked {
	t.Helper()
	bundle := c.issue(t, end)
	inv = inv.with(settings{"WEBHOOK_CERT_DIR": c.dir, "WEBHOOK_ADDRESS": net.JoinHostPort(c.host, "0")})
	d := startDaemon(t, inv)
	return &hooked{daemon: d, inv: inv, address: d.await(t, hookedAt)[1], bundle: bundle}
}

var hookedAt = regexp.MustCompile(`"Serving the webhook"[^\n]*"webhook":"([^"]+)"`)

// byURL is how an API server reaches the webhook by its address.
func (h *hooked) byURL() admissionregistrationv1.WebhookClientConfig {
	url := "https://" + h.address + "/validate"
	return admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: h.bundle}
}

// registration makes an API server call a webhook for all that is written to a
// namespace, subresources and the namespace itself included. A write is refused
// where that fails, so that none is missed.
func registration(client admissionregistrationv1.WebhookClientConfig, namespace string) *admissionregistrationv1.ValidatingWebhookConfiguration {
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
			Name:         namespace + ".example.com",
			ClientConfig: client,
			Rules: []admissionregistrationv1.RuleWithOperations{
				everything(admissionregistrationv1.NamespacedScope, "*", "*/*"),
				everything(admissionregistrationv1.ClusterScope, "", "namespaces", "namespaces/*"),
			},
			NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}},
			FailurePolicy:           new(admissionregistrationv1.Fail),
			TimeoutSeconds:          new(int32(30)),
			SideEffects:             new(admissionregistrationv1.SideEffectClassNoneOnDryRun),
			AdmissionReviewVersions: []string{"v1"},
		}},
	}
}

// register creates a registration, and deletes it when the test ends. The API
// server may take some moments to follow it.
func (p *plane) register(t *testing.T, r *admissionregistrationv1.ValidatingWebhookConfiguration) *admissionregistrationv1.ValidatingWebhookConfiguration {
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
	return r
}

// probed is how the probes of awaitShown are counted.
const probed = "other CREATE dry_run"

// awaitShown waits until the API server calls the daemon for what is written to a
// namespace. It asks by dry runs, nothing of which is sent.
func (h *hooked) awaitShown(t *testing.T, p *plane, namespace string) {
	t.Helper()
	probe := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "probe"}}
	eventuallyTrue(t, "what is written to "+namespace+" is shown", func() bool {
		before := h.reviews(t)[probed]
		// An error may be that the API server does not know of a Service yet.
		_, err := p.client.CoreV1().ConfigMaps(namespace).
			Create(t.Context(), probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err == nil && h.reviews(t)[probed] > before
	})
}

// reviews are the counts of reviews as "resource operation outcome".
func (d *daemon) reviews(t *testing.T) map[string]int {
	t.Helper()
	counts := make(map[string]int)
	for name, value := range d.metrics(t) {
		if labels := reviewLabels.FindStringSubmatch(name); labels != nil {
			counts[labels[3]+" "+labels[1]+" "+labels[2]] = int(value)
		}
	}
	return counts
}

var reviewLabels = regexp.MustCompile(`^labelstream_webhook_reviews_total\{operation="(.*)",outcome="(.*)",resource="(.*)"\}$`)

// mustHaveReviews waits until reviews of each of these "resource operation
// outcome" have come, beside those of awaitShown, and demands that there are no
// others. How many there are is not certain: an API server shows a change again
// where its cache was behind when it made it.
func (d *daemon) mustHaveReviews(t *testing.T, want ...string) {
	t.Helper()
	want = slices.Sorted(slices.Values(append(want, probed)))
	// An answer is counted after it was written.
	eventuallyTrue(t, fmt.Sprintf("reviews are %q", want), func() bool {
		counts := d.reviews(t)
		return !slices.ContainsFunc(want, func(review string) bool { return counts[review] == 0 })
	})
	got := slices.DeleteFunc(slices.Sorted(maps.Keys(d.reviews(t))), func(review string) bool {
		return strings.HasSuffix(review, " unchanged") && !slices.Contains(want, review)
	})
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("reviews (-want +got):\n%s", diff)
	}
}

// certificate is that of a webhook, which is its own trust anchor.
type certificate struct {
	host string
	key  *ecdsa.PrivateKey
	// dir holds it and its key.
	dir string
}

// newCertificate makes the key.
func newCertificate(t *testing.T, host string) *certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c := &certificate{host: host, key: key, dir: t.TempDir()}
	c.write(t, "tls.key", "PRIVATE KEY", der)
	return c
}

// issue makes one that ends, or has ended, at some time, and returns what to trust
// it by.
func (c *certificate) issue(t *testing.T, end time.Time) (bundle []byte) {
	t.Helper()
	description := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: c.host}, DNSNames: []string{c.host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(c.host); ip != nil {
		description.DNSNames, description.IPAddresses = nil, []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, description, description, c.key.Public(), c.key)
	if err != nil {
		t.Fatal(err)
	}
	return c.write(t, "tls.crt", "CERTIFICATE", der)
}

// write writes a file in PEM, and returns its text.
func (c *certificate) write(t *testing.T, name, kind string, der []byte) []byte {
	t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(filepath.Join(c.dir, name), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return text
}
