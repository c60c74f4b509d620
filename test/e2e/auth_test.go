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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/test/receiver"
)

const (
	guarded     = "guarded"
	guardedPods = 40
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

// TestGuardedDestinations sends to receivers that want to know who is there,
// over connections that are to be trusted.
func TestGuardedDestinations(t *testing.T) {
	t.Parallel()
	p := shared.plane
	p.namespace(t, metav1.ObjectMeta{Name: guarded})
	p.pods(t, guardedPods, func(i int) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: guarded, Name: fmt.Sprintf("pod-%02d", i)}
	})
	reader := p.grant(t, guarded, "pods")
	base := settings{"LABELS_RESOURCES": "pods", "NAMESPACES": guarded, "BATCH_SIZE": "5", "LOG_LEVEL": "debug"}
	t.Run("bearer token", func(t *testing.T) { testBearer(t, reader, base) })
	t.Run("bearer token rewritten", func(t *testing.T) { testMended(t, reader, base) })
	t.Run("certificate authority", func(t *testing.T) { testAuthority(t, reader, base) })
	t.Run("certificate not trusted", func(t *testing.T) { testNotTrusted(t, reader, base) })
	t.Run("file of Prometheus' format", func(t *testing.T) { testClientConfig(t, reader, base) })
}

func guardedSeries() []string {
	var series []string
	for i := range guardedPods {
		series = append(series, fmt.Sprintf(`cloudzero_pod_labels{namespace="guarded",pod="pod-%02d",resource_type="pod"}`, i))
	}
	return series
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

// repeat answers with all that a request says of who sends it, as a careless
// receiver does.
func repeat(w http.ResponseWriter, hr *http.Request, code int) {
	words := fmt.Sprintf("seen: %s %q %q", hr.URL.RawQuery, hr.Header.Get("Authorization"), hr.Header.Get("X-Scope-OrgID"))
	if _, password, ok := hr.BasicAuth(); ok {
		words += " " + password
	}
	http.Error(w, words, code)
}

// secretly is a URL with secrets in it, which are sent but never shown.
func secretly(url string) string { return url + "?key=key-canary" }

func testBearer(t *testing.T, reader string, base settings) {
	t.Parallel()
	s := newReceiver(t)
	s.Always(unless(map[string]string{"Authorization": "Bearer " + newToken}))
	s.Next(unavailable)
	r := once(t, invocation{user: reader, settings: base.and(settings{
		"DESTINATION": secretly(s.URL()), "BEARER_TOKEN_FILE": file(t, newToken+"\n"),
	})})
	r.mustSucceed(t)
	compareSeries(t, s.All(), guardedSeries())
	mustHaveRepeated(t, s.Receiver, r)
	mustBeDiscreet(t, r)
}

// testMended rewrites the token while the run waits for that: it has 30 s.
func testMended(t *testing.T, reader string, base settings) {
	t.Parallel()
	s := newReceiver(t)
	s.Always(unless(map[string]string{"Authorization": "Bearer " + newToken}))
	token := file(t, oldToken)
	status := closedPort(t)
	run := launch(t, invocation{user: reader, args: []string{"--once"}, settings: base.and(settings{
		"DESTINATION": secretly(s.URL()), "BEARER_TOKEN_FILE": token, "STATUS_ADDRESS": status,
	})})
	const rejects = "The destination rejects the settings"
	run.awaitLog(t, rejects)
	said := get(t, "http://"+status+"/metrics")
	if err := os.WriteFile(token, []byte(newToken), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run.wait(t)
	r.mustSucceed(t)
	compareSeries(t, s.All(), guardedSeries())
	mustBeDiscreet(t, r)
	if !strings.Contains(said, "labelstream_queue_length") || strings.Contains(said, canary) {
		t.Errorf("the metrics are no metrics, or hold a secret:\n%s", said)
	}
	// Once each, however many requests were rejected.
	for _, message := range []string{rejects, "Sending works again"} {
		if n := strings.Count(r.stderr, message); n != 1 {
			t.Errorf("the log says %q %d times, want once:\n%s", message, n, r.stderr)
		}
	}
}

// get is what a server answers.
func get(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func testAuthority(t *testing.T, reader string, base settings) {
	t.Parallel()
	s, url, authority := newTLSReceiver(t)
	r := once(t, invocation{user: reader, settings: base.and(settings{"DESTINATION": url, "TLS_CA_FILE": authority})})
	r.mustSucceed(t)
	compareSeries(t, s.All(), guardedSeries())
}

func testNotTrusted(t *testing.T, reader string, base settings) {
	t.Parallel()
	s, url, _ := newTLSReceiver(t)
	r := once(t, invocation{user: reader, settings: base.and(settings{"DESTINATION": url})})
	r.mustFail(t)
	if n := s.Requests(); n != 0 {
		t.Errorf("%d requests went to a receiver that is not trusted", n)
	}
	var gaveUp int
	for _, message := range r.errors(t) {
		if containsAll(message, []string{"gave up after 30s", url, "certificate", "check LABELSTREAM_TLS_CA_FILE"}) {
			gaveUp++
		}
	}
	if gaveUp != 1 {
		t.Errorf("%d errors say that the run gave up and what to check, want 1:\n%s", gaveUp, r.stderr)
	}
}

func testClientConfig(t *testing.T, reader string, base settings) {
	t.Parallel()
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
	r := once(t, invocation{user: reader, settings: base.and(settings{"DESTINATION": secretly(url), "HTTP_CLIENT_CONFIG_FILE": config})})
	r.mustSucceed(t)
	compareSeries(t, s.All(), guardedSeries())
	mustHaveRepeated(t, s, r)
	mustBeDiscreet(t, r)
}

// newTLSReceiver is a receiver behind TLS, and the file of the authority of its
// certificate.
func newTLSReceiver(t *testing.T) (r *receiver.Receiver, url, authority string) {
	t.Helper()
	r = receiver.New(receiver.Options{})
	server := httptest.NewUnstartedServer(r)
	// It says of each handshake that fails that it failed.
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
		t.Errorf("the log does not say what the receiver says:\n%s", r.stderr)
	}
}

// mustBeDiscreet demands that a run has told no secret, at any level.
func mustBeDiscreet(t *testing.T, r result) {
	t.Helper()
	if strings.Contains(r.stdout+r.stderr, canary) {
		t.Errorf("the output holds a secret:\n%s%s", r.stdout, r.stderr)
	}
}
