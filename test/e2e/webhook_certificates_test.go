package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The names of what labelstream keeps and is reached by, where no setting says
// otherwise.
const (
	certificateSecret = "labelstream-webhook"
	webhookService    = "labelstream-webhook"
)

// TestWebhookSelfSigned has labelstream make its own certificate, with no more
// rights than "labelstream rbac" prints, for a Service through which a real API
// server calls it. The configuration says nothing of whom to trust.
func TestWebhookSelfSigned(t *testing.T) {
	t.Parallel()
	p := ownPlane(t, "--service-cluster-ip-range=127.96.0.0/24")
	for name, test := range map[string]struct {
		address string
		watch   bool
		run     func(*testing.T, *selfSigned)
	}{
		"starts":       {"127.96.0.11", false, testFirstStart},
		"renews":       {"127.96.0.12", false, testRenewal},
		"two replicas": {"127.96.0.13", false, testTwoReplicas},
		"repairs":      {"127.96.0.14", true, testRepairs},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.run(t, newSelfSigned(t, p, test.address, test.watch))
		})
	}
}

// selfSigned is a namespace with a Service, and what is written there is to be
// shown through it.
type selfSigned struct {
	plane     *plane
	namespace string
	// host is the Service's name, as API servers call it.
	host    string
	journal *journal
	inv     invocation
	// configuration is as it was before labelstream had it.
	configuration *admissionregistrationv1.ValidatingWebhookConfiguration
}

func newSelfSigned(t *testing.T, p *plane, address string, watch bool) *selfSigned {
	t.Helper()
	namespace := "self-signed-" + address[len("127.96.0."):]
	s := &selfSigned{plane: p, namespace: namespace, host: webhookService + "." + namespace + ".svc", journal: newJournal(t)}
	p.namespace(t, metav1.ObjectMeta{Name: namespace})
	p.create(t, namespace, "old", "1")
	port := freePort(t, address)
	created[*corev1.Service](t)(p.client.CoreV1().Services(namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: webhookService},
		Spec:       corev1.ServiceSpec{ClusterIP: address, Ports: []corev1.ServicePort{{Port: port}}},
	}, metav1.CreateOptions{}))
	r := lenient(admissionregistrationv1.WebhookClientConfig{Service: &admissionregistrationv1.ServiceReference{
		Namespace: namespace, Name: webhookService, Path: new("/validate"), Port: new(port),
	}}, namespace)
	r.GenerateName, r.Name = "", namespace
	// Where there is no watch, a call that is given up is missed for good.
	r.Webhooks[0].TimeoutSeconds = new(int32(30))
	p.register(t, r)
	s.configuration = s.registered(t)
	own := onlyShown.and(settings{
		"DESTINATION": s.journal.URL(), "NAMESPACES": namespace, "WEBHOOK_ENABLED": "true", "WEBHOOK_SELF_SIGNED": "true",
		"POD_NAMESPACE": namespace, "WEBHOOK_CONFIGURATION": namespace,
		"WEBHOOK_ADDRESS": net.JoinHostPort(address, strconv.Itoa(int(port))), "WATCH_ENABLED": strconv.FormatBool(watch),
	})
	p.bind(t, namespace, printedRoles(t, namespace, own))
	s.inv = invocation{kubeconfig: p.accountKubeconfig(t, namespace), settings: own}
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

// start starts a daemon, and returns when it has read the pods and has a
// certificate.
func (s *selfSigned) start(t *testing.T) *hooked {
	t.Helper()
	return s.started(t, spawn(t, s.inv))
}

// started waits until a daemon has read the pods and has a certificate.
func (s *selfSigned) started(t *testing.T, p *process) *hooked {
	t.Helper()
	d := p.serving(t)
	d.awaitSynced(t, "pods")
	eventuallyTrue(t, "the daemon is ready", func() bool {
		code, _ := d.get(t, "/readyz")
		return code == http.StatusOK
	})
	address := hookedAt.FindStringSubmatch(d.stderr.String())
	if address == nil {
		t.Fatalf("the log does not say where the webhook is served:\n%s", d.stderr.String())
	}
	return &hooked{daemon: d, address: address[1]}
}

// registered is the configuration as the API server has it.
func (s *selfSigned) registered(t *testing.T) *admissionregistrationv1.ValidatingWebhookConfiguration {
	t.Helper()
	r, err := s.plane.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), s.namespace, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// kept is what the Secret holds, nil where there is none.
func (s *selfSigned) kept(t *testing.T) map[string][]byte {
	t.Helper()
	secret, err := s.plane.client.CoreV1().Secrets(s.namespace).Get(t.Context(), certificateSecret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return secret.Data
}

// awaitTrusted waits until the API server is told to trust what the Secret says.
func (s *selfSigned) awaitTrusted(t *testing.T) {
	t.Helper()
	eventuallyTrue(t, "the authority of the Secret is trusted", func() bool {
		bundle := s.kept(t)["ca.crt"]
		return bundle != nil && bytes.Equal(bundle, s.registered(t).Webhooks[0].ClientConfig.CABundle)
	})
}

// mustServe demands that a daemon serves the certificate of the Secret, and that
// those who trust its authority take it for the Service's.
func (s *selfSigned) mustServe(t *testing.T, h *hooked) {
	t.Helper()
	kept := s.kept(t)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(kept["ca.crt"])
	dialer := &tls.Dialer{Config: &tls.Config{RootCAs: pool, ServerName: s.host}}
	c, err := dialer.DialContext(t.Context(), "tcp", h.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := c.(*tls.Conn).ConnectionState().PeerCertificates[0]
	if !got.Equal(parsed(t, kept["tls.crt"])) {
		t.Errorf("%s does not serve the certificate that is in the Secret", h.address)
	}
}

func parsed(t *testing.T, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("no PEM: %q", text)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
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
	name := now.Webhooks[0].Name
	want := []any{"Apply", map[string]any{"f:webhooks": map[string]any{fmt.Sprintf(`k:{"name":%q}`, name): map[string]any{
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
	s.awaitTrusted(t)
	h.awaitShown(t, s.plane, s.namespace)
	s.plane.setStep(t, s.namespace, "old", "2")
	s.journal.awaitCount(t, 2)
	s.mustServe(t, h)
	s.mustOwnOnlyTheBundle(t)
	kept, version := s.kept(t), s.registered(t).ResourceVersion
	h.terminate(t)

	h = s.start(t)
	h.awaitShown(t, s.plane, s.namespace)
	s.plane.setStep(t, s.namespace, "old", "3")
	s.journal.awaitCount(t, 4)
	s.mustServe(t, h)
	h.terminate(t)
	compareSteps(t, s.journal.all(), []string{"old 1", "old 2", "old 2", "old 3"})
	if diff := gocmp.Diff(kept, s.kept(t)); diff != "" {
		t.Errorf("a restart has changed the Secret (-before +now):\n%s", diff)
	}
	if now := s.registered(t).ResourceVersion; now != version {
		t.Errorf("a restart has written the configuration: version %s, before %s", now, version)
	}
}

// testRenewal starts with a certificate that is over two thirds of its time: the
// same authority issues the next.
func testRenewal(t *testing.T, s *selfSigned) {
	a := newAuthority(t)
	key, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	before := map[string][]byte{"ca.crt": a.bundle, "ca.key": inPEM("PRIVATE KEY", key)}
	// It is an hour old.
	before["tls.crt"], before["tls.key"] = a.issueUntil(t, time.Now().Add(20*time.Minute), s.host, s.host+".cluster.local")
	created[*corev1.Secret](t)(s.plane.client.CoreV1().Secrets(s.namespace).Create(t.Context(),
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: certificateSecret}, Data: before}, metav1.CreateOptions{}))
	h := s.start(t)
	s.awaitTrusted(t)
	h.awaitShown(t, s.plane, s.namespace)
	s.mustServe(t, h)
	h.terminate(t)
	kept := s.kept(t)
	for _, same := range []string{"ca.crt", "ca.key"} {
		if !bytes.Equal(kept[same], before[same]) {
			t.Errorf("the authority's %s is another", same)
		}
	}
	leaf := parsed(t, kept["tls.crt"])
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life < 90*24*time.Hour || leaf.NotBefore.Before(time.Now().Add(-2*time.Hour)) {
		t.Errorf("the certificate is of %v to %v, want one of 90 days from now", leaf.NotBefore, leaf.NotAfter)
	}
}

// testTwoReplicas starts two at once, which come to serve the same certificate.
func testTwoReplicas(t *testing.T, s *selfSigned) {
	first, second := spawn(t, s.inv), spawn(t, s.inv.with(settings{"WEBHOOK_ADDRESS": "127.0.0.1:0"}))
	replicas := []*hooked{s.started(t, first), s.started(t, second)}
	s.awaitTrusted(t)
	for _, h := range replicas {
		s.mustServe(t, h)
	}
	replicas[0].awaitShown(t, s.plane, s.namespace)
	for _, h := range replicas {
		h.terminate(t)
	}
}

// testRepairs has the Secret deleted and the caBundle overwritten by another tool:
// both are written again, and nothing is missed meanwhile, as there is a watch.
func testRepairs(t *testing.T, s *selfSigned) {
	h := s.start(t)
	s.awaitTrusted(t)
	h.awaitShown(t, s.plane, s.namespace)
	kept := s.kept(t)
	if err := s.plane.client.CoreV1().Secrets(s.namespace).Delete(t.Context(), certificateSecret, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r := s.registered(t)
	r.Webhooks[0].ClientConfig.CABundle = newAuthority(t).bundle
	created[*admissionregistrationv1.ValidatingWebhookConfiguration](t)(s.plane.client.AdmissionregistrationV1().
		ValidatingWebhookConfigurations().Update(t.Context(), r, metav1.UpdateOptions{FieldManager: "another-tool"}))
	// Whether this call fails, or the bundle has been repaired by now, is chance.
	s.plane.setStep(t, s.namespace, "old", "2")
	s.journal.awaitStep(t, "old", "2")
	s.awaitTrusted(t)
	if diff := gocmp.Diff(kept, s.kept(t)); diff != "" {
		t.Errorf("the Secret that was written again (-before +now):\n%s", diff)
	}
	shown := h.reviews(t)[probed]
	eventuallyTrue(t, "what is written is shown again", func() bool {
		h.awaitShown(t, s.plane, s.namespace)
		return h.reviews(t)[probed] > shown
	})
	s.mustServe(t, h)
	s.mustOwnOnlyTheBundle(t)
	h.terminate(t)
}
