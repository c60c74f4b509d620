package webhook

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

const (
	theSecret        = "/api/v1/namespaces/cost/secrets/labelstream-webhook"
	theConfiguration = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/labelstream"
)

// fakeStore is an API server with one Secret and one configuration. An apply
// takes the fields that it has, from a version that must be the present one.
type fakeStore struct {
	t  *testing.T
	mu sync.Mutex
	// data is the Secret's, nil where there is none.
	data map[string][]byte
	// typ is the Secret's type, Opaque where "".
	typ string
	// bundles are those of the configuration's webhooks by name, nil where
	// there is no configuration.
	bundles map[string][]byte
	version int
	// fail answers requests of a method and path with a code.
	fail     map[string]int
	requests []string
	// before is called once before the next apply, without the lock.
	before func()
}

func newFakeStore(t *testing.T) *fakeStore {
	return &fakeStore{t: t, version: 7, fail: make(map[string]int), bundles: map[string][]byte{"labelstream.example.com": nil}}
}

func (f *fakeStore) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	if r.Method == http.MethodPatch {
		f.mu.Lock()
		before := f.before
		f.before = nil
		f.mu.Unlock()
		if before != nil {
			before()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	code, answer := f.answer(r, body)
	text, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(bytes.NewReader(text)), Request: r, ProtoMajor: 1, ProtoMinor: 1,
	}, nil
}

func failure(code int) (int, any) {
	reasons := map[int]metav1.StatusReason{403: metav1.StatusReasonForbidden, 404: metav1.StatusReasonNotFound, 409: metav1.StatusReasonConflict, 500: metav1.StatusReasonInternalError}
	return code, metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reasons[code], Message: http.StatusText(code),
	}
}

func (f *fakeStore) answer(r *http.Request, body []byte) (int, any) {
	what := r.Method + " " + map[string]string{theSecret: "secret", theConfiguration: "configuration"}[r.URL.Path]
	if r.Method == http.MethodPatch {
		query := r.URL.Query()
		if r.Header.Get("Content-Type") != "application/apply-patch+yaml" || query.Get("force") != "true" {
			f.t.Errorf("%s %s of type %s", r.Method, r.URL, r.Header.Get("Content-Type"))
		}
		what += " " + query.Get("fieldManager")
	}
	f.requests = append(f.requests, what)
	if code := f.fail[strings.Join(strings.Fields(what)[:2], " ")]; code != 0 {
		return failure(code)
	}
	if r.URL.Path == theSecret {
		return f.secret(r, body)
	}
	return f.configuration(r, body)
}

func (f *fakeStore) secret(r *http.Request, body []byte) (int, any) {
	if r.Method == http.MethodPatch {
		var applied secret
		if err := json.Unmarshal(body, &applied); err != nil || applied.Kind != "Secret" || applied.Metadata.Name != "labelstream-webhook" {
			f.t.Errorf("applied %s, %v", body, err)
		}
		switch version := applied.Metadata.ResourceVersion; {
		case version != "" && f.data == nil, version != "" && version != fmt.Sprint(f.version):
			return failure(409)
		case f.data == nil:
			f.data = make(map[string][]byte)
		}
		f.version++
		if applied.Data != nil {
			f.data = applied.Data
		}
	}
	if f.data == nil {
		return failure(404)
	}
	return 200, secret{Metadata: metadata{Name: "labelstream-webhook", ResourceVersion: fmt.Sprint(f.version)}, Type: f.typ, Data: f.data}
}

func (f *fakeStore) configuration(r *http.Request, body []byte) (int, any) {
	if f.bundles == nil {
		return failure(404)
	}
	if r.Method == http.MethodPatch {
		var applied configuration
		if err := json.Unmarshal(body, &applied); err != nil || applied.Metadata.ResourceVersion != "9" {
			f.t.Errorf("applied %s, %v", body, err)
		}
		want := `{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingWebhookConfiguration","metadata":{"name":"labelstream","resourceVersion":"9"},"webhooks":[`
		for i, hook := range applied.Webhooks {
			if i > 0 {
				want += ","
			}
			bundle, _ := json.Marshal(hook.ClientConfig.CABundle)
			want += fmt.Sprintf(`{"name":%q,"clientConfig":{"caBundle":%s}}`, hook.Name, bundle)
			f.bundles[hook.Name] = hook.ClientConfig.CABundle
		}
		if diff := cmp.Diff(want+"]}", string(body)); diff != "" {
			f.t.Errorf("applied more than the bundle (-want +got):\n%s", diff)
		}
	}
	type object map[string]any
	hooks := []object{}
	for _, name := range slices.Sorted(maps.Keys(f.bundles)) {
		hooks = append(hooks, object{
			"name": name, "clientConfig": object{"caBundle": f.bundles[name], "service": object{"name": "labelstream"}}, "sideEffects": "None", "failurePolicy": "Ignore",
		})
	}
	return 200, object{"metadata": object{"name": "labelstream", "resourceVersion": "9", "labels": object{"a": "b"}}, "webhooks": hooks}
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

// expectTrusted checks that each webhook trusts what is served.
func (f *fakeStore) expectTrusted(t *testing.T, s *SelfSigned) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.current == nil {
		t.Fatal("nothing is served")
	}
	for name, bundle := range f.bundles {
		if !bytes.Equal(bundle, s.current.bundle()) {
			t.Errorf("%s trusts something else", name)
		}
	}
	if kept := (&authority{data: f.data}); !kept.same(s.current) {
		t.Error("the Secret holds something else")
	}
	if config := s.TLS(); config == nil || !bytes.Equal(config.Certificates[0].Certificate[0], s.current.leaf.Leaf.Raw) {
		t.Error("another certificate is served")
	}
}

func newReplica(t *testing.T, store *fakeStore) (*SelfSigned, *logtest.Hook) {
	t.Helper()
	client, err := JSONClient(&rest.Config{Host: "http://api.test", Transport: store})
	if err != nil {
		t.Fatal(err)
	}
	log, hook := logtest.NewNullLogger()
	s, err := NewSelfSigned(client, SelfSignedOptions{
		Namespace: "cost", Secret: "labelstream-webhook", Service: "labelstream", Configuration: "labelstream",
	}, prometheus.NewRegistry(), log)
	if err != nil {
		t.Fatal(err)
	}
	return s, hook
}

func step(t *testing.T, s *SelfSigned) {
	t.Helper()
	if err := s.step(t.Context()); err != nil {
		t.Fatal(err)
	}
}

var look = []string{"GET secret", "GET configuration"}

// TestFirstStart makes everything, once.
func TestFirstStart(t *testing.T) {
	store := newFakeStore(t)
	store.bundles["second.example.com"] = []byte("another")
	s, _ := newReplica(t, store)
	if s.Ready() == nil || s.TLS() != nil {
		t.Error("ready without a certificate")
	}
	step(t, s)
	store.expectRequests(t, "GET secret", "PATCH secret labelstream-maker", "GET configuration",
		"PATCH secret labelstream", "GET configuration", "PATCH configuration labelstream")
	store.expectTrusted(t, s)
	if err := s.Ready(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"labelstream.cost.svc", "labelstream.cost.svc.cluster.local"}, s.leaf().DNSNames); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	step(t, s)
	store.expectRequests(t, look...)
}

// TestRestart serves what is kept.
func TestRestart(t *testing.T) {
	store := newFakeStore(t)
	first, _ := newReplica(t, store)
	step(t, first)
	store.requests = nil
	second, _ := newReplica(t, store)
	step(t, second)
	store.expectRequests(t, look...)
	store.expectTrusted(t, second)
	if !second.leaf().Equal(first.leaf()) {
		t.Error("another certificate is served after a restart")
	}
}

// TestTwoAtOnce has one replica come between the other's read and its write,
// at the first start and where the Secret was deleted.
func TestTwoAtOnce(t *testing.T) {
	store := newFakeStore(t)
	first, _ := newReplica(t, store)
	second, _ := newReplica(t, store)
	conflict := func() {
		t.Helper()
		if err := first.step(t.Context()); err == nil || !strings.Contains(err.Error(), `secrets "labelstream-webhook": Conflict`) {
			t.Errorf("got %v, want a conflict", err)
		}
		store.set(func() { store.requests = nil })
		step(t, first)
		store.expectRequests(t, look...)
		store.expectTrusted(t, first)
		store.expectTrusted(t, second)
	}
	store.data = map[string][]byte{} // made, still empty
	store.before = func() { step(t, second) }
	conflict()
	leaf := first.leaf()
	store.set(func() { store.data = nil })
	store.before = func() {} // the one that makes it
	third, _ := newReplica(t, store)
	step(t, second)
	step(t, third)
	step(t, first)
	if !first.leaf().Equal(leaf) || !third.leaf().Equal(leaf) {
		t.Error("a deleted Secret made the certificate another")
	}
	store.expectTrusted(t, third)
}

// TestRepair has others write over what is ours.
func TestRepair(t *testing.T) {
	store := newFakeStore(t)
	s, hook := newReplica(t, store)
	step(t, s)
	leaf := s.leaf()
	store.bundles["labelstream.example.com"] = []byte("theirs")
	step(t, s)
	store.expectTrusted(t, s)
	store.data = map[string][]byte{secretCAKey: []byte("broken")}
	hook.Reset()
	step(t, s)
	store.expectTrusted(t, s)
	if !s.leaf().Equal(leaf) {
		t.Error("another certificate is served")
	}
	if got := hook.AllEntries()[0].Message; got != "The Secret of the webhook's certificate makes no sense; writing it anew" {
		t.Errorf("logged %q", got)
	}
}

// TestSecretOfOthers is left as it is, at the start and later; what is served
// meanwhile is served on.
func TestSecretOfOthers(t *testing.T) {
	const want = `keep the webhook's certificate: Secret "labelstream-webhook" in namespace "cost" holds something of somebody else's: ` +
		`delete it, or name another by LABELSTREAM_WEBHOOK_SECRET`
	ours := made(t)
	for name, test := range map[string]struct {
		typ  string
		data map[string][]byte
	}{
		"other keys":       {"Opaque", map[string][]byte{"password": []byte("secret")}},
		"a certificate":    {"kubernetes.io/tls", map[string][]byte{secretLeaf: ours.data[secretLeaf], secretLeafKey: ours.data[secretLeafKey], secretBundle: ours.bundle()}},
		"our keys of TLS":  {"", map[string][]byte{secretLeaf: ours.data[secretLeaf], secretLeafKey: ours.data[secretLeafKey]}},
		"our data":         {"kubernetes.io/tls", ours.data},
		"a type and empty": {"kubernetes.io/service-account-token", map[string][]byte{}},
	} {
		t.Run(name, func(t *testing.T) {
			store := newFakeStore(t)
			store.data, store.typ = test.data, test.typ
			s, _ := newReplica(t, store)
			if err := s.step(t.Context()); err == nil || err.Error() != want || s.Ready() == nil {
				t.Errorf("at the start: %v, ready: %v", err, s.Ready())
			}
			store.expectRequests(t, "GET secret")
			store.data, store.typ = nil, ""
			step(t, s)
			leaf := s.leaf()
			store.set(func() { store.data, store.typ, store.requests = test.data, test.typ, nil })
			if err := s.step(t.Context()); err == nil || err.Error() != want || s.Ready() != nil || !s.leaf().Equal(leaf) {
				t.Errorf("later: %v, ready: %v", err, s.Ready())
			}
			store.expectRequests(t, "GET secret")
		})
	}
}

// TestNewReplicaWithoutTheSecret has the Secret deleted, and a new replica make
// all anew before an old one writes it back: what that one serves stays trusted.
func TestNewReplicaWithoutTheSecret(t *testing.T) {
	store := newFakeStore(t)
	now := time.Now()
	replica := func() *SelfSigned {
		s, _ := newReplica(t, store)
		s.now = func() time.Time { return now }
		return s
	}
	old := replica()
	step(t, old)
	served := old.leaf()
	ended := must(t)(newAuthority(old.names, now.Add(-6*365*day)))
	theirs := *ended.trusted[0]
	theirs.Subject, theirs.RawSubject, theirs.NotAfter = pkix.Name{CommonName: "theirs"}, nil, now.Add(day)
	signed, err := issue(&theirs, &theirs, &ended.key.PublicKey, ended.key)
	if err != nil {
		t.Fatal(err)
	}
	others := append(certificatePEM(signed), ended.bundle()...)
	store.bundles["labelstream.example.com"] = append(others, store.bundles["labelstream.example.com"]...)
	store.bundles["second.example.com"] = []byte("no certificate")
	store.data = nil
	fresh := replica()
	step(t, fresh)
	store.expectTrusted(t, fresh)
	if n := len(fresh.current.trusted); n != 2 {
		t.Errorf("%d authorities are trusted, want the new one and the old", n)
	}
	trusted := &authority{data: map[string][]byte{secretBundle: store.bundles["labelstream.example.com"]}}
	for name, leaf := range map[string]*x509.Certificate{"the old": served, "the new": fresh.leaf()} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool(trusted), DNSName: old.names[0]}); err != nil {
			t.Errorf("%s certificate: %v", name, err)
		}
	}
	step(t, old)
	store.expectTrusted(t, old)
	if !old.leaf().Equal(fresh.leaf()) {
		t.Error("the replicas serve different certificates")
	}
	// However often that happens, the bundle does not grow without end.
	for range maxTrusted + 2 {
		store.data = nil
		now = now.Add(time.Hour)
		step(t, replica())
	}
	kept, err := parseAuthority(store.data)
	if err != nil || len(kept.trusted) != maxTrusted {
		t.Errorf("%d authorities are trusted, %v, want %d", len(kept.trusted), err, maxTrusted)
	}
}

// TestNewReplicaCannotReadTheConfiguration makes nothing that could take the
// trust from others, unless there is nothing to be read.
func TestNewReplicaCannotReadTheConfiguration(t *testing.T) {
	for code, makes := range map[int]bool{403: true, 404: true, 500: false} {
		store := newFakeStore(t)
		store.fail["GET configuration"] = code
		s, _ := newReplica(t, store)
		if err := s.step(t.Context()); err == nil || (s.Ready() == nil) != makes {
			t.Errorf("%d: %v, ready: %v, want %v", code, err, s.Ready(), makes)
		}
	}
}

// TestLifetimes runs two replicas for eleven years: at every moment what each
// serves is trusted by what the API server has known for a minute, unless all
// is made for the first time.
func TestLifetimes(t *testing.T) {
	store := newFakeStore(t)
	now := noon
	var replicas []*SelfSigned
	for range 2 {
		s, _ := newReplica(t, store)
		s.now = func() time.Time { return now }
		replicas = append(replicas, s)
	}
	step(t, replicas[0])
	known := slices.Clone(store.bundles["labelstream.example.com"])
	leaves, authorities := map[string]bool{}, map[string]bool{}
	for now.Before(noon.Add(11 * 365 * day)) {
		for _, s := range replicas {
			step(t, s)
			pool := (&authority{data: map[string][]byte{secretBundle: known}})
			if _, err := s.leaf().Verify(verifyOptions(pool, now)); err != nil {
				t.Fatalf("at %v: not trusted by what was known a minute ago: %v", now, err)
			}
			leaves[string(s.leaf().Raw)] = true
			authorities[string(s.current.trusted[0].Raw)] = true
		}
		now = now.Add(59 * time.Second)
		known = slices.Clone(store.bundles["labelstream.example.com"])
		if !replicasWait(replicas) {
			now = now.Add(3 * day)
		}
	}
	if len(authorities) != 4 || len(leaves) < 60 || len(leaves) > 70 {
		t.Errorf("%d authorities and %d certificates in 11 years, want 4 and some 65", len(authorities), len(leaves))
	}
}

// replicasWait tells whether a new authority is waited for.
func replicasWait(replicas []*SelfSigned) bool {
	return slices.ContainsFunc(replicas, func(s *SelfSigned) bool { return s.current.issuer() != s.current.trusted[0] })
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
			got = append(got, entry.Message)
		}
		want := []string{
			"Cannot keep the webhook's certificate; trying again", // forbidden
			"Serving the webhook with this certificate",
			"Cannot keep the webhook's certificate; trying again", // no configuration
			"The API server has been told to trust the webhook's certificate",
			"The webhook's certificate can be kept again",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("logged (-want +got):\n%s", diff)
		}
		forbidden := fmt.Sprint(hook.AllEntries()[0].Data["error"])
		if want := `keep the webhook's certificate: grant the verbs "get", "create" and "patch" on resource "secrets" in API group "", resource name "labelstream-webhook": Forbidden`; forbidden != want {
			t.Errorf("logged %q, want %q", forbidden, want)
		}
	})
}
