// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	admissionregistration "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"labelstream/status/outage"
)

const (
	theSecret        = "/api/v1/namespaces/cost/secrets/labelstream-webhook"
	theConfiguration = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/labelstream-webhook"
)

// fakeStore is an API server with one Secret and one configuration. An apply
// takes the fields that it has, from a version that must be the present one.
type fakeStore struct {
	t  *testing.T
	mu sync.Mutex
	// data is the Secret's, nil where there is none.
	data    map[string][]byte
	typ     corev1.SecretType
	version int
	// bundles are those of the configuration's webhooks by name, nil where there
	// is no configuration.
	bundles map[string][]byte
	// fail answers requests of a method and object with a code.
	fail     map[string]int
	requests []string
	// before is called once before the next apply, without the lock.
	before func()
}

func newFakeStore(t *testing.T) *fakeStore {
	return &fakeStore{t: t, version: 7, typ: corev1.SecretTypeOpaque, fail: make(map[string]int), bundles: map[string][]byte{"labelstream.example.com": nil}}
}

func (f *fakeStore) RoundTrip(r *http.Request) (*http.Response, error) {
	what := r.Method + " " + map[string]string{theSecret: "secret", theConfiguration: "configuration"}[r.URL.Path]
	var body []byte
	if r.Method == http.MethodPatch {
		body, _ = io.ReadAll(r.Body)
		if r.Header.Get("Content-Type") != "application/apply-patch+yaml" || r.URL.Query().Get("force") != "true" {
			f.t.Errorf("%s %s of type %s", r.Method, r.URL, r.Header.Get("Content-Type"))
		}
		if before := f.before; before != nil {
			f.before = nil
			before()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, strings.TrimSpace(what+" "+r.URL.Query().Get("fieldManager")))
	code, answer := f.fail[what], any(nil)
	switch {
	case code != 0:
	case r.URL.Path == theSecret:
		code, answer = f.secret(body)
	default:
		code, answer = f.configuration(body)
	}
	text, err := json.Marshal(answer)
	return &http.Response{
		StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(bytes.NewReader(text)), Request: r, ProtoMajor: 1, ProtoMinor: 1,
	}, err
}

// secret applies a body to the Secret, unless there is none, and returns it.
func (f *fakeStore) secret(body []byte) (int, any) {
	if body != nil {
		var applied corev1.Secret
		if err := json.Unmarshal(body, &applied); err != nil || applied.Kind != "Secret" || applied.Type != corev1.SecretTypeOpaque {
			f.t.Errorf("applied %s, %v", body, err)
		}
		switch version := applied.ResourceVersion; {
		case version != "" && (f.data == nil || version != fmt.Sprint(f.version)):
			return http.StatusConflict, nil
		case applied.Data != nil:
			f.data = applied.Data
		case f.data == nil:
			f.data = make(map[string][]byte)
		}
		f.version++
	}
	if f.data == nil {
		return http.StatusNotFound, nil
	}
	return http.StatusOK, corev1.Secret{
		TypeMeta: metav1.TypeMeta{Kind: "Secret", APIVersion: "v1"}, Type: f.typ, Data: f.data,
		ObjectMeta: metav1.ObjectMeta{Name: "labelstream-webhook", Namespace: "cost", ResourceVersion: fmt.Sprint(f.version)},
	}
}

// configuration is as secret, for the configuration.
func (f *fakeStore) configuration(body []byte) (int, any) {
	if f.bundles == nil {
		return http.StatusNotFound, nil
	}
	if body != nil {
		var applied admissionregistration.ValidatingWebhookConfiguration
		if err := json.Unmarshal(body, &applied); err != nil {
			f.t.Errorf("applied %s, %v", body, err)
		}
		var hooks []string
		for _, hook := range applied.Webhooks {
			bundle, _ := json.Marshal(hook.ClientConfig.CABundle)
			hooks = append(hooks, fmt.Sprintf(`{"name":%q,"clientConfig":{"caBundle":%s}}`, hook.Name, bundle))
			f.bundles[hook.Name] = hook.ClientConfig.CABundle
		}
		want := `{"kind":"ValidatingWebhookConfiguration","apiVersion":"admissionregistration.k8s.io/v1",` +
			`"metadata":{"name":"labelstream-webhook","resourceVersion":"9"},"webhooks":[` + strings.Join(hooks, ",") + "]}"
		if diff := cmp.Diff(want, string(body)); diff != "" {
			f.t.Errorf("applied more than the bundle (-want +got):\n%s", diff)
		}
	}
	answer := admissionregistration.ValidatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{Kind: "ValidatingWebhookConfiguration", APIVersion: "admissionregistration.k8s.io/v1"},
		ObjectMeta: metav1.ObjectMeta{Name: "labelstream-webhook", ResourceVersion: "9", Labels: map[string]string{"a": "b"}},
	}
	for _, name := range slices.Sorted(maps.Keys(f.bundles)) {
		answer.Webhooks = append(answer.Webhooks, admissionregistration.ValidatingWebhook{
			Name: name, FailurePolicy: new(admissionregistration.Ignore), ClientConfig: admissionregistration.WebhookClientConfig{CABundle: f.bundles[name]},
		})
	}
	return http.StatusOK, answer
}

// set changes the store.
func (f *fakeStore) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeStore) expectRequests(t *testing.T, want ...string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if diff := cmp.Diff(want, f.requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	f.requests = nil
}

// expectTrusted checks that each webhook trusts what a replica serves, and that
// the Secret holds it.
func (f *fakeStore) expectTrusted(t *testing.T, s *SelfSigned) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	kept, err := parsePair(f.data, names)
	if err != nil || kept.current == nil {
		t.Fatalf("the Secret holds %v, %v", kept, err)
	}
	for name, bundle := range f.bundles {
		if !bytes.Equal(bundle, kept.bundle()) {
			t.Errorf("%s trusts something else than the Secret holds", name)
		}
	}
	if c := leaf(t, s); !c.Equal(kept.current.tls.Leaf) && (kept.next == nil || !c.Equal(kept.next.tls.Leaf)) {
		t.Error("another certificate is served than the Secret holds")
	}
}

func leaf(t *testing.T, s *SelfSigned) *x509.Certificate {
	t.Helper()
	c, err := s.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.Leaf
}

func newReplica(t *testing.T, store *fakeStore) (*SelfSigned, *logtest.Hook) {
	t.Helper()
	client, err := JSONClient(&rest.Config{Host: "http://api.test", Transport: store})
	if err != nil {
		t.Fatal(err)
	}
	log, hook := logtest.NewNullLogger()
	s, err := NewSelfSigned(client, SelfSignedOptions{Namespace: "cost", Name: "labelstream-webhook"}, prometheus.NewRegistry(), log)
	if err != nil {
		t.Fatal(err)
	}
	return s, hook
}

func step(t *testing.T, s *SelfSigned) {
	t.Helper()
	if err := s.reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
}

var look = []string{"GET secret", "GET configuration"}

// TestFirstStart makes everything, once; a restart serves what is kept. Where others
// delete the Secret or write over the bundle, that is repaired, with the same
// certificate.
func TestFirstStart(t *testing.T) {
	store := newFakeStore(t)
	store.bundles["second.example.com"] = []byte("another")
	s, _ := newReplica(t, store)
	if _, err := s.GetCertificate(nil); err == nil || s.Ready() == nil {
		t.Error("ready without a certificate")
	}
	step(t, s)
	store.expectRequests(t, "GET secret", "PATCH secret labelstream-maker", "PATCH secret labelstream", "GET configuration", "PATCH configuration labelstream")
	store.expectTrusted(t, s)
	if err := s.Ready(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(names, leaf(t, s).DNSNames); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	step(t, s)
	store.expectRequests(t, look...)
	restarted, _ := newReplica(t, store)
	step(t, restarted)
	store.expectRequests(t, look...)
	for name, damage := range map[string]func(){
		"no damage": func() {},
		"bundle":    func() { store.bundles["labelstream.example.com"] = []byte("theirs") },
		"Secret":    func() { store.data = nil },
		"both":      func() { store.data, store.bundles["labelstream.example.com"] = nil, nil },
	} {
		damage()
		step(t, restarted)
		store.expectTrusted(t, restarted)
		if !leaf(t, restarted).Equal(leaf(t, s)) {
			t.Errorf("%s: another certificate is served", name)
		}
	}
}

// TestConflict has one replica come between the other's read and its write, at
// the first start and where the Secret was deleted.
func TestConflict(t *testing.T) {
	store := newFakeStore(t)
	first, hook := newReplica(t, store)
	second, _ := newReplica(t, store)
	conflict := func() {
		t.Helper()
		store.before = func() { step(t, second) }
		err := first.reconcile(t.Context())
		if first.report(err) != retryInterval || err == nil || len(hook.AllEntries()) > 1 {
			t.Errorf("got %v, logged %v, want a conflict, which is not logged", err, hook.AllEntries())
		}
		store.set(func() { store.requests = nil })
		step(t, first)
		store.expectRequests(t, look...)
		store.expectTrusted(t, first)
		store.expectTrusted(t, second)
	}
	store.data = map[string][]byte{} // made, still empty
	conflict()
	served := leaf(t, first)
	store.data = map[string][]byte{}
	conflict()
	if !leaf(t, second).Equal(served) {
		t.Error("the Secret was emptied, and the certificate is another")
	}
}

// TestOverwrittenBundle has a successor published for a day without a break before
// it is served.
func TestOverwrittenBundle(t *testing.T) {
	store := newFakeStore(t)
	s, _ := newReplica(t, store)
	now := noon
	s.now = func() time.Time { return now }
	step(t, s)
	first := leaf(t, s)
	now = now.Add(336 * day)
	step(t, s)
	now = now.Add(23 * time.Hour)
	store.bundles["labelstream.example.com"] = nil
	step(t, s)
	for _, wait := range []time.Duration{23 * time.Hour, time.Hour} {
		if !leaf(t, s).Equal(first) {
			t.Error("the successor is served too early")
		}
		now = now.Add(wait)
		step(t, s)
	}
	if leaf(t, s).Equal(first) {
		t.Error("the successor is not served")
	}
}

// TestSecretOfOthers is left as it is, at the start and later; what is served
// meanwhile is served on.
func TestSecretOfOthers(t *testing.T) {
	ours, foreign := renew(t, pair{}, time.Now()), made(t)
	for name, test := range map[string]struct {
		typ  corev1.SecretType
		data map[string][]byte
		want string
	}{
		"other keys":               {corev1.SecretTypeOpaque, map[string][]byte{"password": []byte("secret")}, "tls.crt, tls.key: tls: failed to find any PEM data in certificate input"},
		"cert-manager's":           {corev1.SecretTypeTLS, pair{current: foreign}.data(), "it is of type kubernetes.io/tls"},
		"our data of another type": {corev1.SecretTypeTLS, ours.data(), "it is of type kubernetes.io/tls"},
	} {
		t.Run(name, func(t *testing.T) {
			store := newFakeStore(t)
			store.data, store.typ = test.data, test.typ
			s, _ := newReplica(t, store)
			want := "the Secret cost/labelstream-webhook holds something else than the webhook's certificate: " + test.want
			err := s.reconcile(t.Context())
			if err == nil || err.Error() != want || s.Ready() == nil || outage.Hint(err) != "delete it, or choose another name by LABELSTREAM_WEBHOOK_NAME" {
				t.Errorf("at the start: %v (%s), ready: %v", err, outage.Hint(err), s.Ready())
			}
			store.expectRequests(t, "GET secret")
			store.data, store.typ = nil, corev1.SecretTypeOpaque
			step(t, s)
			served := leaf(t, s)
			store.set(func() { store.data, store.typ, store.requests = test.data, test.typ, nil })
			if err := s.reconcile(t.Context()); err == nil || err.Error() != want || !leaf(t, s).Equal(served) {
				t.Errorf("later: %v", err)
			}
			store.expectRequests(t, "GET secret")
		})
	}
}

// TestWithoutRights serves what is kept where it cannot be renewed or published.
func TestWithoutRights(t *testing.T) {
	store := newFakeStore(t)
	first, _ := newReplica(t, store)
	step(t, first)
	for _, what := range []string{"PATCH secret", "GET configuration", "PATCH configuration"} {
		store.fail = map[string]int{what: 403}
		store.bundles["labelstream.example.com"] = nil
		s, _ := newReplica(t, store)
		s.now = func() time.Time { return time.Now().Add(340 * day) }
		if err := s.reconcile(t.Context()); err == nil || s.Ready() != nil || !leaf(t, s).Equal(leaf(t, first)) {
			t.Errorf("without the right to %s: %v, ready: %v", what, err, s.Ready())
		}
	}
}

// TestLifetimes runs two replicas, whose clocks are 90 minutes apart, for three
// years: what each serves is always trusted by what API servers were told a day
// before, none undoes what the other does, and all is written once.
func TestLifetimes(t *testing.T) {
	store := newFakeStore(t)
	now := noon
	var replicas []*SelfSigned
	for _, skew := range []time.Duration{0, 90 * time.Minute} {
		s, _ := newReplica(t, store)
		s.now = func() time.Time { return now.Add(skew) }
		replicas = append(replicas, s)
	}
	step(t, replicas[1])
	known := []*x509.CertPool{pool(replicas[1].pair.current)}
	served := make(map[string]bool)
	for ; now.Before(noon.Add(3 * 365 * day)); now = now.Add(12 * time.Hour) {
		for i, s := range replicas {
			step(t, s)
			store.expectTrusted(t, s)
			if _, err := leaf(t, s).Verify(x509.VerifyOptions{Roots: known[0], DNSName: names[0], CurrentTime: now}); err != nil {
				t.Fatalf("after %v, replica %d: %v", now.Sub(noon), i, err)
			}
			served[string(leaf(t, s).Raw)] = true
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(store.bundles["labelstream.example.com"])
		known = append(known, roots)
		known = known[max(0, len(known)-2):]
	}
	// A certificate has a successor after 335 days, which is published when it is
	// made and when the first has ended: 3 times in 3 years.
	var writes int
	for _, request := range store.requests {
		if strings.HasPrefix(request, "PATCH secret labelstream") {
			writes++
		}
	}
	if len(served) != 4 || writes != 1+1+3+3 {
		t.Errorf("%d certificates and %d writes of the Secret in 3 years, want 4 and 8", len(served), writes)
	}
}

// TestRun retries what fails, and says so once.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore(t)
		store.bundles = nil
		store.fail["GET secret"] = 403
		s, hook := newReplica(t, store)
		ended := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { s.Run(ctx); close(ended) }()
		time.Sleep(time.Minute)
		if s.Ready() == nil {
			t.Error("ready without a certificate")
		}
		store.set(func() { store.fail = map[string]int{} })
		time.Sleep(10 * time.Second)
		if err := s.Ready(); err != nil {
			t.Errorf("ready waits for the configuration: %v", err)
		}
		store.set(func() { store.bundles = map[string][]byte{} })
		time.Sleep(10 * time.Second)
		store.set(func() { store.bundles = map[string][]byte{"a": nil} })
		time.Sleep(10 * time.Second)
		store.set(func() { store.requests = nil })
		time.Sleep(10 * time.Minute)
		store.expectTrusted(t, s)
		store.expectRequests(t, slices.Repeat(look, 20)...)
		cancel()
		<-ended
		var got []string
		for _, entry := range hook.AllEntries() {
			got = append(got, fmt.Sprint(entry.Message, ": ", entry.Data["error"], " ", entry.Data["hint"]))
		}
		want := []string{
			"Cannot keep the webhook's certificate: unknown (get secrets labelstream-webhook) grant the rights that the command rbac prints",
			"Serving the webhook with this certificate: <nil> <nil>",
			"Cannot keep the webhook's certificate: the server could not find the requested resource" +
				" (get validatingwebhookconfigurations.admissionregistration.k8s.io labelstream-webhook) <nil>",
			"Cannot keep the webhook's certificate: the ValidatingWebhookConfiguration labelstream-webhook has no webhooks <nil>",
			"Told the API server to trust the webhook's certificate: <nil> <nil>",
			"The webhook's certificate is kept again: <nil> <nil>",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("logged (-want +got):\n%s", diff)
		}
	})
}
