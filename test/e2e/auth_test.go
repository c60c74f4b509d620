package e2e

import (
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"labelstream/test/receiver"
)

// canary is part of every secret of these tests, and must be in nothing that a
// run says.
const canary = "canary"

const (
	oldToken = "old-token-canary"
	newToken = "new-token-canary"
	password = "password-canary"
	tenant   = "tenant-canary"
)

// guarded is a run to receivers that authenticate their senders.
type guarded struct {
	invocation
	want []string
}

// TestGuardedDestinations sends to receivers that authenticate their senders, over
// connections that are to be trusted.
func TestGuardedDestinations(t *testing.T) {
	t.Parallel()
	const (
		namespace = "guarded"
		count     = 40
	)
	p := shared.plane
	p.numbered(t, namespace, count)
	g := guarded{want: podSeries(namespace, count), invocation: invocation{user: p.reader(t, namespace, "pods"), settings: settings{
		"LABELS_RESOURCES": "pods", "NAMESPACES": namespace, "BATCH_SIZE": "5", "LOG_LEVEL": "debug",
	}}}
	for name, test := range map[string]func(*testing.T, guarded){
		"bearer token":               testBearer,
		"bearer token rewritten":     testRewritten,
		"certificate authority":      testAuthority,
		"certificate not trusted":    testNotTrusted,
		"file of Prometheus' format": testClientConfig,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, g)
		})
	}
}

// unless answers 401 to requests that do not have all the headers.
func unless(want map[string]string) receiver.Fault {
	return func(w http.ResponseWriter, hr *http.Request, _ *receiver.Request) bool {
		for name, value := range want {
			if hr.Header.Get(name) != value {
				repeat(w, hr, http.StatusUnauthorized)
				return true
			}
		}
		return false
	}
}

// unavailable answers 503.
func unavailable(w http.ResponseWriter, hr *http.Request, _ *receiver.Request) bool {
	repeat(w, hr, http.StatusServiceUnavailable)
	return true
}

// repeat answers with all that a request says of its sender, as a careless
// receiver does.
func repeat(w http.ResponseWriter, hr *http.Request, code int) {
	words := fmt.Sprintf("seen: %s %q %q", hr.URL.RawQuery, hr.Header.Get("Authorization"), hr.Header.Get("X-Scope-OrgID"))
	if _, password, ok := hr.BasicAuth(); ok {
		words += " " + password
	}
	http.Error(w, words, code)
}

// secretly is a URL with a secret in it, which is sent but never shown.
func secretly(url string) string { return url + "?key=key-canary" }

func testBearer(t *testing.T, g guarded) {
	j := newJournal(t)
	j.Always(unless(map[string]string{"Authorization": "Bearer " + newToken}))
	j.Next(unavailable)
	r := once(t, g.with(settings{"DESTINATION": secretly(j.URL()), "BEARER_TOKEN_FILE": file(t, newToken+"\n")}))
	r.mustSucceed(t)
	compareSeries(t, j.All(), g.want)
	mustHaveRepeated(t, j.Receiver, r)
	r.mustBeDiscreet(t)
}

// testRewritten rewrites the token while the run waits for that: it has 30 s.
func testRewritten(t *testing.T, g guarded) {
	j := newJournal(t)
	j.Always(unless(map[string]string{"Authorization": "Bearer " + newToken}))
	token := file(t, oldToken)
	run := launchOnce(t, g.with(settings{"DESTINATION": secretly(j.URL()), "BEARER_TOKEN_FILE": token}))
	const rejects = "The destination rejects the settings"
	run.awaitLog(t, rejects)
	_, said := run.serving(t).get(t, "/metrics")
	if err := os.WriteFile(token, []byte(newToken), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run.wait(t)
	r.mustSucceed(t)
	compareSeries(t, j.All(), g.want)
	r.mustBeDiscreet(t)
	if !strings.Contains(said, "labelstream_queue_length") || strings.Contains(said, canary) {
		t.Errorf("the metrics are no metrics, or hold a secret:\n%s", said)
	}
	// Once each, however many requests were rejected.
	for _, message := range []string{rejects, "Sending again"} {
		if n := strings.Count(r.stderr, message); n != 1 {
			t.Errorf("the log says %q %d times, want once:\n%s", message, n, r.stderr)
		}
	}
}

func testAuthority(t *testing.T, g guarded) {
	s, url, authority := newTLSReceiver(t)
	once(t, g.with(settings{"DESTINATION": url, "TLS_CA_FILE": authority})).mustSucceed(t)
	compareSeries(t, s.All(), g.want)
}

func testNotTrusted(t *testing.T, g guarded) {
	s, url, _ := newTLSReceiver(t)
	r := once(t, g.with(settings{"DESTINATION": url}))
	r.mustFail(t)
	if n := s.Requests(); n != 0 {
		t.Errorf("%d requests went to a receiver that is not trusted", n)
	}
	r.mustSayOnce(t, "gave up after 30s", url, "certificate", "check LABELSTREAM_TLS_CA_FILE")
}

func testClientConfig(t *testing.T, g guarded) {
	s, url, authority := newTLSReceiver(t)
	expected := &http.Request{Header: http.Header{}}
	expected.SetBasicAuth("writer", password)
	s.Always(unless(map[string]string{"Authorization": expected.Header.Get("Authorization"), "X-Scope-OrgID": tenant}))
	s.Next(unavailable)
	config := file(t, fmt.Sprintf(`basic_auth:
  username: writer
  password_file: %s
tls_config:
  ca_file: %s
http_headers:
  X-Scope-OrgID:
    secrets: [%s]
`, file(t, password), authority, tenant))
	r := once(t, g.with(settings{"DESTINATION": secretly(url), "HTTP_CLIENT_CONFIG_FILE": config}))
	r.mustSucceed(t)
	compareSeries(t, s.All(), g.want)
	mustHaveRepeated(t, s, r)
	r.mustBeDiscreet(t)
}

// newTLSReceiver is a receiver behind TLS, and the file of the authority of its
// certificate.
func newTLSReceiver(t *testing.T) (r *receiver.Receiver, url, authority string) {
	t.Helper()
	r = receiver.New(receiver.Options{})
	server := httptest.NewUnstartedServer(r)
	// It would log each handshake that fails.
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(func() {
		server.Close()
		for _, err := range r.Violations() {
			t.Errorf("remote_write: %v", err)
		}
	})
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return r, server.URL + "/api/v1/write", file(t, string(block))
}

// file writes a file, and returns its name.
func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// mustHaveRepeated demands that all requests but the first were accepted: none
// came without credentials.
func mustHaveRepeated(t *testing.T, s *receiver.Receiver, r result) {
	t.Helper()
	if failed := s.Requests() - s.Accepted(); failed != 1 {
		t.Errorf("%d requests were not accepted, want 1", failed)
	}
	if !strings.Contains(r.stderr, "seen: ") {
		t.Errorf("the log does not have the receiver's words:\n%s", r.stderr)
	}
}

// mustBeDiscreet demands that a run has told no secret, at any level.
func (r result) mustBeDiscreet(t *testing.T) {
	t.Helper()
	if strings.Contains(r.stdout+r.stderr, canary) {
		t.Errorf("the output holds a secret:\n%s%s", r.stdout, r.stderr)
	}
}
