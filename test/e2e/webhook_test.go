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
var reviewed = following.and(settings{"CHANGES": "webhook", "WEBHOOK_ADDRESS": "127.0.0.1:0", "RESYNC_INTERVAL": "0"})

// hooked is a daemon with an admission webhook.
type hooked struct {
	*daemon
	// address is the webhook's host and port, bundle what to trust it by.
	address string
	bundle  []byte
}

// startHooked starts a daemon whose webhook has a certificate for 127.0.0.1.
func startHooked(t *testing.T, inv invocation) *hooked {
	t.Helper()
	a := newAuthority(t)
	return hookOf(t, startDaemon(t, inv.with(a.files(t, time.Now().Add(90*24*time.Hour), "127.0.0.1"))), a.bundle)
}

// hookOf finds where a daemon serves its webhook.
func hookOf(t *testing.T, d *daemon, bundle []byte) *hooked {
	t.Helper()
	return &hooked{daemon: d, address: d.awaitAddress(t, hookedAt), bundle: bundle}
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
	failure := ""
	eventuallyTrue(t, "what is written to "+namespace+" is shown", func() bool {
		before := h.reviews(t)[probed]
		_, err := p.client.CoreV1().ConfigMaps(namespace).
			Create(t.Context(), probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		// It may not know of a Service yet.
		if err != nil && err.Error() != failure {
			failure = err.Error()
			t.Log(failure)
		}
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

// authority signs the certificates of webhooks.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	// bundle is the certificate in PEM, as a caBundle has it.
	bundle []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	description := &x509.Certificate{Subject: pkix.Name{CommonName: "authority of " + t.Name()}, KeyUsage: x509.KeyUsageCertSign,
		NotAfter: time.Now().Add(24 * time.Hour), BasicConstraintsValid: true, IsCA: true}
	der := certify(t, description, description, key)
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{certificate: certificate, key: key, bundle: inPEM("CERTIFICATE", der)}
}

// certify signs a certificate, from an hour ago, of the key that signs it.
func certify(t *testing.T, description, issuer *x509.Certificate, key *ecdsa.PrivateKey) (der []byte) {
	t.Helper()
	description.SerialNumber, description.NotBefore = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, description, issuer, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// issue returns a certificate for an address that ends, or has ended, at some
// time, in PEM.
func (a *authority) issue(t *testing.T, end time.Time, address string) []byte {
	t.Helper()
	return inPEM("CERTIFICATE", certify(t, &x509.Certificate{Subject: pkix.Name{CommonName: address}, NotAfter: end,
		IPAddresses: []net.IP{net.ParseIP(address)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, a.certificate, a.key))
}

// files are the settings of a webhook that is served with such a certificate.
func (a *authority) files(t *testing.T, end time.Time, address string) settings {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string][]byte{"tls.crt": a.issue(t, end, address), "tls.key": keyInPEM(t, a.key)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return settings{"WEBHOOK_CERT_DIR": dir}
}

func keyInPEM(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return inPEM("PRIVATE KEY", der)
}

func inPEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
