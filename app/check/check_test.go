// SPDX-License-Identifier: Apache-2.0

package check

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"go.uber.org/goleak"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/rest"

	"labelstream/config"
	"labelstream/informer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	host              = "labelstream-webhook.labelstream.svc"
	configurationPath = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/labelstream-webhook"
	servicePath       = "/api/v1/namespaces/labelstream/services/labelstream-webhook"
	endpointsPath     = "/apis/discovery.k8s.io/v1/namespaces/labelstream/endpointslices"
	secretPath        = "/api/v1/namespaces/labelstream/secrets/labelstream-webhook"
)

// fakeCluster is an API server of objects and of failures, by their paths.
type fakeCluster struct {
	objects map[string]any
	fails   map[string]int
	// denied are rights, such as "watch pods".
	denied []string

	hook     *admissionv1.ValidatingWebhook
	service  *corev1.Service
	endpoint *discoveryv1.Endpoint
	secret   *corev1.Secret
}

func newFakeCluster(t *testing.T) *fakeCluster {
	resource := func(name, kind string, namespaced bool, verbs ...string) metav1.APIResource {
		return metav1.APIResource{Name: name, Kind: kind, Namespaced: namespaced, Verbs: verbs}
	}
	cert, key := newCertificate(t, host, time.Now().AddDate(1, 0, 0))
	port, path, ignore := int32(443), "/validate", admissionv1.Ignore
	every := []admissionv1.OperationType{admissionv1.Create, admissionv1.Update, admissionv1.Delete}
	configuration := &admissionv1.ValidatingWebhookConfiguration{Webhooks: []admissionv1.ValidatingWebhook{{
		Name:          "hook",
		FailurePolicy: &ignore,
		ClientConfig: admissionv1.WebhookClientConfig{CABundle: cert, Service: &admissionv1.ServiceReference{
			Namespace: "labelstream", Name: "labelstream-webhook", Path: &path, Port: &port,
		}},
		Rules: []admissionv1.RuleWithOperations{
			{Operations: every, Rule: admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods", "namespaces"}}},
			{Operations: every, Rule: admissionv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"*"}}},
		},
	}}}
	service := &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 443}}}}
	endpoints := &discoveryv1.EndpointSliceList{Items: []discoveryv1.EndpointSlice{{Endpoints: []discoveryv1.Endpoint{{}}}}}
	secret := &corev1.Secret{Data: map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key}}
	return &fakeCluster{
		fails: make(map[string]int),
		objects: map[string]any{
			"/version": version.Info{GitVersion: "v1.34.1"},
			"/api":     metav1.APIVersions{Versions: []string{"v1"}},
			"/apis": metav1.APIGroupList{Groups: []metav1.APIGroup{{
				Name: "apps", Versions: []metav1.GroupVersionForDiscovery{{GroupVersion: "apps/v1", Version: "v1"}},
				PreferredVersion: metav1.GroupVersionForDiscovery{GroupVersion: "apps/v1", Version: "v1"},
			}}},
			"/api/v1": metav1.APIResourceList{GroupVersion: "v1", APIResources: []metav1.APIResource{
				resource("pods", "Pod", true, "list", "watch"), resource("namespaces", "Namespace", false, "list", "watch"),
				resource("componentstatuses", "ComponentStatus", false, "list"), resource("bindings", "Binding", true, "create"),
			}},
			"/apis/apps/v1":   metav1.APIResourceList{GroupVersion: "apps/v1", APIResources: []metav1.APIResource{resource("deployments", "Deployment", true, "list", "watch")}},
			configurationPath: configuration, servicePath: service, endpointsPath: endpoints, secretPath: secret,
		},
		hook: &configuration.Webhooks[0], service: service, endpoint: &endpoints.Items[0].Endpoints[0], secret: secret,
	}
}

func (f *fakeCluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	object, code := f.objects[r.URL.Path], f.fails[r.URL.Path]
	if r.Method == http.MethodPost && code == 0 {
		var review authorizationv1.SelfSubjectAccessReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			code = http.StatusBadRequest
		}
		on := review.Spec.ResourceAttributes
		if slices.Contains(f.denied, on.Verb+" "+on.Resource) {
			review.Status.EvaluationError = "no such role"
		} else {
			review.Status.Allowed = true
		}
		object = review
	}
	if object == nil && code == 0 {
		code = http.StatusNotFound
	}
	if code != 0 {
		reason := strings.ReplaceAll(http.StatusText(code), " ", "")
		object = metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure,
			Code: int32(code), Reason: metav1.StatusReason(reason), Message: path.Base(r.URL.Path) + ": " + reason,
		}
		w.WriteHeader(code)
	}
	_ = json.NewEncoder(w).Encode(object)
}

// newCertificate makes one that is its own authority, in PEM, or one of an issuer.
func newCertificate(t *testing.T, name string, notAfter time.Time, issuer ...tls.Certificate) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name + notAfter.String()}, NotBefore: notAfter.AddDate(-2, 0, 0), NotAfter: notAfter,
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	template.IsCA, template.BasicConstraintsValid = name == "authority", true
	parent, signer := template, crypto.PrivateKey(private)
	if issuer != nil {
		parent, signer = issuer[0].Leaf, issuer[0].PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &private.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded})
}

// receiver answers the versions of remote_write, 0 for 204 and the samples written.
type receiver struct {
	v1, v2 int
	ahead  time.Duration
}

func (r receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Date", time.Now().Add(r.ahead).UTC().Format(http.TimeFormat))
	code := r.v1
	if strings.HasPrefix(req.Header.Get("X-Prometheus-Remote-Write-Version"), "2.") {
		code = r.v2
		w.Header().Set("X-Prometheus-Remote-Write-Samples-Written", "1")
	}
	if code == 0 {
		code = http.StatusNoContent
	}
	w.WriteHeader(code)
}

// setting is everything that a check looks at.
type setting struct {
	t        *testing.T
	cluster  *fakeCluster
	receiver receiver
	// ends is the end of the receiver's certificate, zero where it has none.
	ends time.Time
	// values lack their prefix.
	values  map[string]string
	options Options
	dir     string
}

// resultsOf runs all checks. Addresses are API and DESTINATION.
func resultsOf(t *testing.T, change func(*setting)) (results []string) {
	s := &setting{t: t, dir: t.TempDir(), cluster: newFakeCluster(t), values: map[string]string{"LABELS_RESOURCES": "pods,namespaces"}}
	api := httptest.NewServer(s.cluster)
	defer api.Close()
	s.options = Options{
		Namespace: "labelstream",
		Connect: func() (*rest.Config, error) {
			return &rest.Config{Host: api.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}, nil
		},
		Rules: func(kinds []*informer.Kind) map[string][]rbacv1.PolicyRule {
			rules := map[string][]rbacv1.PolicyRule{"labelstream": {{Verbs: []string{"get", "update"}, APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, ResourceNames: []string{"lease"}}}}
			for _, kind := range kinds {
				rules[""] = append(rules[""], rbacv1.PolicyRule{Verbs: []string{"list", "watch"}, APIGroups: []string{kind.GVR.Group}, Resources: []string{kind.GVR.Resource}})
			}
			return rules
		},
	}
	s.options.Log, _ = logtest.NewNullLogger()
	change(s)
	server := httptest.NewUnstartedServer(s.receiver)
	defer server.Close()
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if s.ends.IsZero() {
		server.Start()
	} else {
		s.startTLS(server)
	}
	t.Setenv("LABELSTREAM_DESTINATION", server.URL)
	for name, value := range s.values {
		t.Setenv("LABELSTREAM_"+name, value)
	}
	cfg, err := config.Load(false)
	if err != nil {
		t.Fatal(err)
	}
	s.options.Config = cfg
	names := strings.NewReplacer(api.URL, "API", server.URL, "DESTINATION")
	Run(t.Context(), s.options, func(r Result) {
		results = append(results, names.Replace(string(r.Level)+" "+r.Check+": "+r.Message))
		if (r.Level == OK) != (r.Hint == "") {
			t.Errorf("%+v", r)
		}
	})
	return results
}

// startTLS starts the receiver, whose certificate is the file ca.
func (s *setting) startTLS(server *httptest.Server) {
	cert, key := newCertificate(s.t, "receiver", s.ends)
	pair, err := tls.X509KeyPair(cert, key)
	if err == nil {
		err = os.WriteFile(s.ca(), cert, 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.StartTLS()
}

func (s *setting) ca() string { return filepath.Join(s.dir, "ca") }

func TestAllIsWell(t *testing.T) {
	ends := time.Now().AddDate(1, 0, 0).UTC().Format(time.DateOnly)
	want := []string{
		"ok API server: API is Kubernetes v1.34.1",
		"ok resources: pods, namespaces",
		"ok rights: list, watch pods",
		"ok rights: list, watch namespaces",
		"ok rights: get, update leases.coordination.k8s.io lease in namespace labelstream",
		"ok webhook: the Service labelstream/labelstream-webhook has a ready pod",
		"ok webhook: the caBundle trusts the certificate for " + host + ", which ends on " + ends,
		"ok webhook: the rules are for pods, namespaces",
		"ok destination: DESTINATION accepts remote_write 2.0, which is used",
		"ok destination: DESTINATION accepts remote_write 1.0",
		"ok destination: TLS 1.3, and its certificate ends on " + ends,
	}
	got := resultsOf(t, func(s *setting) {
		s.values["CHANGES"], s.values["TLS_CA_FILE"], s.ends = "webhook", s.ca(), time.Now().AddDate(1, 0, 0)
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	got = resultsOf(t, func(s *setting) { s.values["TLS_CA_FILE"], s.options.Once, s.options.NoSend = "", true, true })
	if diff := cmp.Diff(want[:5], got); diff != "" {
		t.Errorf("of one run without sending, results (-want +got):\n%s", diff)
	}
}

// TestFaults has the results that are not ok of each fault.
func TestFaults(t *testing.T) {
	later := func(days int) time.Time { return time.Now().AddDate(0, 0, days) }
	day := func(at time.Time) string { return at.UTC().Format(time.DateOnly) }
	webhook := func(change func(*setting)) func(*setting) {
		return func(s *setting) {
			s.values["CHANGES"] = "webhook"
			change(s)
		}
	}
	fails := func(path string, code int) func(*setting) {
		return webhook(func(s *setting) { s.cluster.fails[path] = code })
	}
	hook := func(change func(*admissionv1.ValidatingWebhook)) func(*setting) {
		return webhook(func(s *setting) { change(s.cluster.hook) })
	}
	served := func(host string, notAfter time.Time, trusted bool) func(*setting) {
		return webhook(func(s *setting) {
			cert, key := newCertificate(s.t, host, notAfter)
			s.cluster.secret.Data = map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key}
			if trusted {
				s.cluster.hook.ClientConfig.CABundle = cert
			}
		})
	}
	answers := func(r receiver) func(*setting) { return func(s *setting) { s.receiver = r } }
	const service = "the Service labelstream/labelstream-webhook"
	for _, tt := range []struct {
		name   string
		change func(*setting)
		want   []string
	}{
		{"no kubeconfig", func(s *setting) {
			s.options.Connect = func() (*rest.Config, error) { return nil, errors.New("no cluster") }
		},
			[]string{"fail API server: no cluster"}},
		{"unreachable", func(s *setting) {
			s.options.Connect = func() (*rest.Config, error) { return &rest.Config{Host: "http://127.0.0.1:1"}, nil }
		}, []string{`fail API server: ask http://127.0.0.1:1 for its version: Get "http://127.0.0.1:1/version?timeout=10s": dial tcp 127.0.0.1:1: connect: connection refused`}},
		{"credentials", func(s *setting) { s.cluster.fails["/version"] = 401 },
			[]string{"fail API server: ask API for its version: the server has asked for the client to provide credentials"}},
		{"discovery", func(s *setting) { s.cluster.fails["/api"] = 403 },
			[]string{"fail resources: ask the API server at API for its resources: unknown (Forbidden)"}},
		{"kinds", func(s *setting) { s.values["LABELS_RESOURCES"] = "pods,pod,componentstatuses,bindings" }, []string{
			`fail resources: LABELSTREAM_LABELS_RESOURCES: "pod": no such resource; write "pods"`,
			`fail resources: LABELSTREAM_LABELS_RESOURCES: "bindings": the server does not let this resource be listed`,
			"fail resources: the API server does not let componentstatuses be watched",
		}},
		{"rights", func(s *setting) { s.cluster.denied = []string{"watch pods", "get leases", "update leases"} }, []string{
			"fail rights: watch pods is not allowed: no such role",
			"fail rights: get, update leases.coordination.k8s.io lease in namespace labelstream is not allowed: no such role",
		}},
		{"no reviews of rights", func(s *setting) {
			s.values["LABELS_RESOURCES"] = "bindings"
			s.cluster.fails["/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"] = 403
		}, []string{
			`fail resources: LABELSTREAM_LABELS_RESOURCES: "bindings": the server does not let this resource be listed`,
			"fail rights: ask whether get leases.coordination.k8s.io lease in namespace labelstream is allowed: selfsubjectaccessreviews: Forbidden",
		}},

		{"destination's credentials", answers(receiver{401, 401, 0}), []string{"fail destination: send to DESTINATION: status 401 Unauthorized"}},
		{"1.0 alone", answers(receiver{0, 415, 0}), nil},
		{"2.0 alone", answers(receiver{400, 0, 0}), nil},
		{"neither", answers(receiver{404, 415, 0}), []string{
			"fail destination: remote_write 2.0: send to DESTINATION: status 415 Unsupported Media Type",
			"fail destination: remote_write 1.0: send to DESTINATION: status 404 Not Found",
		}},
		{"not the version that is wanted", func(s *setting) {
			s.values["PROTOCOL"] = "2.0"
			s.receiver.v2 = 415
		}, []string{"fail destination: remote_write 2.0: send to DESTINATION: status 415 Unsupported Media Type"}},
		{"clock", answers(receiver{0, 0, -2 * time.Hour}), []string{"warn destination: its clock and this one are 2h0m0s apart"}},
		{"untrusted", func(s *setting) { s.ends = later(300) }, []string{
			"fail destination: send to DESTINATION: tls: failed to verify certificate: x509: certificate signed by unknown authority"}},
		{"destination's certificate ends soon", func(s *setting) { s.values["TLS_CA_FILE"], s.ends = s.ca(), later(5) },
			[]string{"warn destination: its certificate ends on " + day(later(5))}},

		{"no configuration", fails(configurationPath, 404), []string{"fail webhook: the ValidatingWebhookConfiguration labelstream-webhook: labelstream-webhook: NotFound"}},
		{"configuration forbidden", fails(configurationPath, 403), []string{"warn webhook: the ValidatingWebhookConfiguration labelstream-webhook: labelstream-webhook: Forbidden"}},
		{"no webhooks", webhook(func(s *setting) { s.cluster.objects[configurationPath] = admissionv1.ValidatingWebhookConfiguration{} }),
			[]string{"fail webhook: the ValidatingWebhookConfiguration labelstream-webhook: it has no webhooks"}},
		{"failure policy", hook(func(h *admissionv1.ValidatingWebhook) { h.FailurePolicy = nil }), []string{"warn webhook: writes fail in the cluster while hook is away"}},
		{"URL", hook(func(h *admissionv1.ValidatingWebhook) { h.ClientConfig.Service = nil }), []string{"warn webhook: hook has a URL in place of a Service; not checked"}},
		{"path", hook(func(h *admissionv1.ValidatingWebhook) { h.ClientConfig.Service.Path = nil }), []string{"fail webhook: hook has another path than the one that is served"}},
		{"no Service", fails(servicePath, 404), []string{"fail webhook: " + service + ": labelstream-webhook: NotFound"}},
		{"Service forbidden", fails(servicePath, 403), []string{"warn webhook: " + service + ": labelstream-webhook: Forbidden"}},
		{"port", webhook(func(s *setting) { s.cluster.service.Spec.Ports[0].Port = 8443 }), []string{"fail webhook: " + service + " has no port 443"}},
		{"endpoints forbidden", fails(endpointsPath, 403), []string{"warn webhook: the EndpointSlices of " + service + ": endpointslices: Forbidden"}},
		{"no ready pod", webhook(func(s *setting) { s.cluster.endpoint.Conditions.Ready = new(bool) }), []string{"fail webhook: " + service + " has no ready pod"}},
		{"empty bundle", hook(func(h *admissionv1.ValidatingWebhook) { h.ClientConfig.CABundle = nil }), []string{"fail webhook: the caBundle holds no certificate"}},
		{"no Secret", fails(secretPath, 404), []string{"fail webhook: the webhook's certificate: labelstream-webhook: NotFound"}},
		{"files of another machine", webhook(func(s *setting) { s.values["WEBHOOK_CERT_DIR"] = "/nonexistent" }),
			[]string{"warn webhook: the webhook's certificate: open /nonexistent/tls.crt: no such file or directory"}},
		{"files", webhook(func(s *setting) {
			dir := s.t.TempDir()
			s.values["WEBHOOK_CERT_DIR"] = dir
			for name, data := range s.cluster.secret.Data {
				if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
					s.t.Fatal(err)
				}
			}
		}), nil},
		{"intermediate authority", webhook(func(s *setting) {
			pair := func(cert, key []byte) tls.Certificate {
				c, err := tls.X509KeyPair(cert, key)
				if err != nil {
					s.t.Fatal(err)
				}
				return c
			}
			root, rootKey := newCertificate(s.t, "authority", later(400))
			middle, middleKey := newCertificate(s.t, "authority", later(300), pair(root, rootKey))
			leaf, key := newCertificate(s.t, host, later(200), pair(middle, middleKey))
			s.cluster.hook.ClientConfig.CABundle = root
			s.cluster.secret.Data = map[string][]byte{corev1.TLSCertKey: append(leaf, middle...), corev1.TLSPrivateKeyKey: key}
		}), nil},
		{"another authority", served(host, later(300), false), []string{
			"fail webhook: API servers do not trust the webhook's certificate for " + host + ", which ends on " + day(later(300)) + ": x509: certificate signed by unknown authority"}},
		{"another name", served("other.svc", later(300), true), []string{
			"fail webhook: API servers do not trust the webhook's certificate for " + host + ", which ends on " + day(later(300)) + ": x509: certificate is valid for other.svc, not " + host}},
		{"ends soon", served(host, later(5), true), []string{"warn webhook: the certificate ends on " + day(later(5))}},

		{"no rule", webhook(func(s *setting) { s.cluster.hook.Rules[0].Resources = []string{"pods"} }), []string{"fail webhook: no rule is for namespaces"}},
		{"no rule for the group", webhook(func(s *setting) {
			s.values["LABELS_RESOURCES"] = "deployments"
			s.cluster.hook.Rules[1].APIGroups = []string{""}
		}), []string{"fail webhook: no rule is for deployments.apps"}},
		{"singular", webhook(func(s *setting) { s.cluster.hook.Rules[0].Resources = []string{"pod", "Namespace"} }), []string{
			`fail webhook: the rules name "pod", and resources have names in the plural: there are no reviews of pods`,
			`fail webhook: the rules name "Namespace", and resources have names in the plural: there are no reviews of namespaces`,
		}},
		{"operations", webhook(func(s *setting) { s.cluster.hook.Rules[0].Operations = []admissionv1.OperationType{"CREATE"} }), []string{
			"fail webhook: the rules for pods lack [UPDATE DELETE]", "fail webhook: the rules for namespaces lack [UPDATE DELETE]"}},
		{"scope", webhook(func(s *setting) {
			scope := admissionv1.NamespacedScope
			s.cluster.hook.Rules[0].Scope = &scope
		}), []string{"fail webhook: no rule is for namespaces"}},
		{"version", webhook(func(s *setting) {
			exact := admissionv1.Exact
			s.cluster.hook.MatchPolicy, s.cluster.hook.Rules[0].APIVersions = &exact, []string{"v2"}
		}), []string{"fail webhook: no rule is for pods", "fail webhook: no rule is for namespaces"}},
		{"everything", webhook(func(s *setting) {
			s.cluster.hook.Rules[0] = admissionv1.RuleWithOperations{Operations: []admissionv1.OperationType{"*"}, Rule: admissionv1.Rule{APIGroups: []string{"*"}, APIVersions: []string{"*"}, Resources: []string{"*/*"}}}
		}), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, result := range resultsOf(t, tt.change) {
				if !strings.HasPrefix(result, "ok ") {
					got = append(got, result)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("results (-want +got):\n%s", diff)
			}
		})
	}
}
