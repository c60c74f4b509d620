package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
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

// TestWebhookSelfSigned makes labelstream make its own certificate, with no more
// rights than "labelstream rbac" prints, for a Service through which a real API
// server calls it. Nothing here routes what is sent to a Service, so its addresses
// are ones that the machine itself has: all of 127.0.0.0/8.
func TestWebhookSelfSigned(t *testing.T) {
	t.Parallel()
	p := ownPlane(t, "--service-cluster-ip-range=127.96.0.0/24")
	for name, test := range map[string]struct {
		address string
		run     func(*testing.T, *selfSigned)
	}{
		"starts":  {"127.96.0.11", testFirstStart},
		"renews":  {"127.96.0.12", testRenewal},
		"repairs": {"127.96.0.13", testRepairs},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.run(t, newSelfSigned(t, p, name, test.address))
		})
	}
}

// selfSigned is a namespace with a Service through which labelstream is shown what
// is written there. Service, Secret and configuration have the namespace's name.
type selfSigned struct {
	plane *plane
	name  string
	// host is the Service's name, as API servers call it.
	host    string
	journal *journal
	inv     invocation
	// configuration is as it was before labelstream started.
	configuration *admissionregistrationv1.ValidatingWebhookConfiguration
}

func newSelfSigned(t *testing.T, p *plane, name, address string) *selfSigned {
	t.Helper()
	name = "self-signed-" + name
	s := &selfSigned{plane: p, name: name, host: name + "." + name + ".svc", journal: newJournal(t)}
	p.namespace(t, name)
	p.create(t, name, "old", "1")
	port := freePort(t, address)
	created[*corev1.Service](t)(p.client.CoreV1().Services(name).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: address, Ports: []corev1.ServicePort{{Port: port}}},
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
		"WEBHOOK_ADDRESS": net.JoinHostPort(address, strconv.Itoa(int(port))),
	})
	p.bindAccount(t, name, printedRoles(t, name, own))
	s.inv = invocation{kubeconfig: p.accountKubeconfig(t, name), settings: own}
	return s
}

// freePort finds a port of an address that nobody listens on.
func freePort(t *testing.T, address string) int32 {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return int32(listener.Addr().(*net.TCPAddr).Port)
}

// start starts a daemon, and returns when it has read the pods, and is shown what
// is written.
func (s *selfSigned) start(t *testing.T) *hooked {
	t.Helper()
	h := hookOf(t, startDaemon(t, s.inv), nil)
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
	secret, err := s.plane.client.CoreV1().Secrets(s.name).Get(t.Context(), s.name, metav1.GetOptions{})
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

// mustServe demands that the daemon serves the certificate that the Secret has
// under a key, and that those who trust it take it for the Service's.
func (s *selfSigned) mustServe(t *testing.T, h *hooked, key string) {
	t.Helper()
	kept := s.kept(t)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(kept[key])
	dialer := &tls.Dialer{Config: &tls.Config{RootCAs: pool, ServerName: s.host}}
	c, err := dialer.DialContext(t.Context(), "tcp", h.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if block, _ := pem.Decode(kept[key]); !bytes.Equal(block.Bytes, c.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw) {
		t.Errorf("%s does not serve the certificate %s of the Secret", h.address, key)
	}
}

// mustOwnOnlyTheBundle demands that labelstream has changed and owns nothing of
// the configuration but the caBundle.
func (s *selfSigned) mustOwnOnlyTheBundle(t *testing.T) {
	t.Helper()
	now := s.registered(t)
	var owned []any
	for _, entry := range now.ManagedFields {
		if entry.Manager != "labelstream" {
			continue
		}
		var fields any
		if err := json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields); err != nil {
			t.Fatal(err)
		}
		owned = append(owned, string(entry.Operation), fields)
	}
	want := []any{"Apply", map[string]any{"f:webhooks": map[string]any{fmt.Sprintf(`k:{"name":%q}`, now.Webhooks[0].Name): map[string]any{
		// An item of a list belongs to those who say which it is.
		".": map[string]any{}, "f:name": map[string]any{},
		"f:clientConfig": map[string]any{"f:caBundle": map[string]any{}},
	}}}}
	if diff := gocmp.Diff(want, owned); diff != "" {
		t.Errorf("fields of the configuration that labelstream owns (-want +got):\n%s", diff)
	}
	now.Webhooks[0].ClientConfig.CABundle = nil
	if diff := gocmp.Diff(s.configuration.Webhooks, now.Webhooks); diff != "" {
		t.Errorf("the configuration but for the caBundle (-before +now):\n%s", diff)
	}
}

// testFirstStart makes everything at the first start, and nothing at the second.
func testFirstStart(t *testing.T, s *selfSigned) {
	h := s.start(t)
	s.plane.setStep(t, s.name, "old", "2")
	s.journal.awaitCount(t, 2)
	s.mustServe(t, h, "tls.crt")
	s.mustOwnOnlyTheBundle(t)
	kept, version := s.kept(t), s.registered(t).ResourceVersion
	h.terminate(t)

	h = s.start(t)
	s.plane.setStep(t, s.name, "old", "3")
	s.journal.awaitCount(t, 4)
	s.mustServe(t, h, "tls.crt")
	h.terminate(t)
	s.journal.mustBe(t, []string{"old 1", "old 2", "old 2", "old 3"})
	if diff := gocmp.Diff(kept, s.kept(t)); diff != "" {
		t.Errorf("a restart has changed the Secret (-before +now):\n%s", diff)
	}
	if now := s.registered(t).ResourceVersion; now != version {
		t.Errorf("a restart has written the configuration: version %s, before %s", now, version)
	}
}

// testRenewal starts with a certificate that is about to end: there is a next one
// beside it, which is served already.
func testRenewal(t *testing.T, s *selfSigned) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ending := &x509.Certificate{Subject: pkix.Name{Organization: []string{"labelstream"}, CommonName: s.host},
		DNSNames: []string{s.host, s.host + ".cluster.local"}, NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	before := map[string][]byte{"tls.crt": inPEM("CERTIFICATE", certify(t, ending, ending, key)), "tls.key": keyInPEM(t, key)}
	created[*corev1.Secret](t)(s.plane.client.CoreV1().Secrets(s.name).Create(t.Context(),
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: s.name}, Data: before}, metav1.CreateOptions{}))
	h := s.start(t)
	s.mustServe(t, h, "next.crt")
	h.terminate(t)
	kept := s.kept(t)
	if diff := gocmp.Diff(before, map[string][]byte{"tls.crt": kept["tls.crt"], "tls.key": kept["tls.key"]}); diff != "" {
		t.Errorf("the certificate of before (-before +now):\n%s", diff)
	}
}

// testRepairs has the Secret deleted and the caBundle overwritten by another tool:
// both are written again.
func testRepairs(t *testing.T, s *selfSigned) {
	h := s.start(t)
	kept := s.kept(t)
	if err := s.plane.client.CoreV1().Secrets(s.name).Delete(t.Context(), s.name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r := s.registered(t)
	r.Webhooks[0].ClientConfig.CABundle = newAuthority(t).bundle
	created[*admissionregistrationv1.ValidatingWebhookConfiguration](t)(s.plane.client.AdmissionregistrationV1().
		ValidatingWebhookConfigurations().Update(t.Context(), r, metav1.UpdateOptions{FieldManager: "another-tool"}))
	s.awaitTrusted(t)
	h.awaitShown(t, s.plane, s.name)
	s.plane.setStep(t, s.name, "old", "2")
	s.journal.awaitStep(t, "old", "2")
	if diff := gocmp.Diff(kept, s.kept(t)); diff != "" {
		t.Errorf("the Secret that was written again (-before +now):\n%s", diff)
	}
	s.mustServe(t, h, "tls.crt")
	h.terminate(t)
}
