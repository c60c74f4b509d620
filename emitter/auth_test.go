package emitter

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/expfmt"

	"labelstream/config"
)

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// clientWith makes an HTTP client configuration.
func clientWith(change func(*promconfig.HTTPClientConfig)) *promconfig.HTTPClientConfig {
	c := config.DefaultHTTPClient()
	change(c)
	return c
}

func bearer(file string) *promconfig.HTTPClientConfig {
	return clientWith(func(c *promconfig.HTTPClientConfig) {
		c.Authorization = &promconfig.Authorization{Type: "Bearer", CredentialsFile: file}
	})
}

// What authenticates is sent.
func TestAuthentication(t *testing.T) {
	secret := writeFile(t, filepath.Join(t.TempDir(), "secret"), "s3cret\n")
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "s3cret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]string{"access_token": "granted", "token_type": "Bearer"})
	}))
	defer tokens.Close()
	for _, c := range []struct {
		name, header, want string
		client             *promconfig.HTTPClientConfig
	}{
		{"bearer", "Authorization", "Bearer s3cret", bearer(secret)},
		{"basic", "Authorization", "Basic bWU6czNjcmV0", clientWith(func(c *promconfig.HTTPClientConfig) {
			c.BasicAuth = &promconfig.BasicAuth{Username: "me", PasswordFile: secret}
		})},
		{"oauth2", "Authorization", "Bearer granted", clientWith(func(c *promconfig.HTTPClientConfig) {
			c.OAuth2 = &promconfig.OAuth2{ClientID: "me", ClientSecretFile: secret, TokenURL: tokens.URL}
		})},
		{"header", "X-Scope-Orgid", "tenant", clientWith(func(c *promconfig.HTTPClientConfig) {
			c.HTTPHeaders = &promconfig.Headers{Headers: map[string]promconfig.Header{"X-Scope-OrgID": {Values: []string{"tenant"}}}}
		})},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t, func(int, http.ResponseWriter) {})
			cfg := testConfig(t, s.URL)
			cfg.HTTPClient = c.client
			h := newHarness(cfg, Options{}, 1)
			h.put(t, newRecord(1, "a"))
			h.Close()
			expect(t, "Run", h.Run(t.Context()), nil)
			expect(t, c.header, s.headers[0].Get(c.header), c.want)
		})
	}
}

// A receiver that demands a client certificate gets the one of the settings.
func TestClientCertificate(t *testing.T) {
	var presented atomic.Pointer[x509.Certificate]
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		presented.Store(r.TLS.PeerCertificates[0])
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	// One certificate serves both sides; only who presents it matters here.
	dir := t.TempDir()
	key, err := x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(name, kind string, der []byte) string {
		return writeFile(t, filepath.Join(dir, name), string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
	}
	certFile, keyFile := encode("tls.crt", "CERTIFICATE", s.Certificate().Raw), encode("tls.key", "PRIVATE KEY", key)
	for _, c := range []struct {
		name     string
		tls      promconfig.TLSConfig
		accepted int
	}{
		{"with a certificate", promconfig.TLSConfig{CAFile: certFile, CertFile: certFile, KeyFile: keyFile}, 1},
		{"without one", promconfig.TLSConfig{CAFile: certFile}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			presented.Store(nil)
			cfg := testConfig(t, s.URL)
			cfg.HTTPClient = clientWith(func(h *promconfig.HTTPClientConfig) { h.TLSConfig = c.tls })
			h := newHarness(cfg, Options{ProbeInterval: ms, GiveUpAfter: ms}, 1)
			h.put(t, newRecord(1, "a"))
			h.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_ = h.Run(ctx)
			expect(t, "accepted", len(h.keys(Accepted)), c.accepted)
			if got := presented.Load(); (got != nil) != (c.accepted == 1) || got != nil && !got.Equal(s.Certificate()) {
				t.Errorf("the receiver saw the certificate %v", got)
			}
		})
	}
}

// replaceFile changes a file's content at once: whoever reads it finds all or
// nothing of it.
func replaceFile(t *testing.T, name, content string) {
	t.Helper()
	if err := os.Rename(writeFile(t, name+".new", content), name); err != nil {
		t.Fatal(err)
	}
}

// A token that was replaced is used for the next request, and one that was
// wrong or missing and is mended closes the circuit, without a new emitter.
func TestCredentialsAreReadAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	var valid atomic.Value
	var denied atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+valid.Load().(string) {
			denied.Add(1)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer s.Close()
	set := func(inFile, atServer string) {
		replaceFile(t, file, inFile)
		valid.Store(atServer)
	}
	cfg := testConfig(t, s.URL)
	cfg.BatchSize, cfg.HTTPClient = 1, bearer(file)
	h := newHarness(cfg, Options{ProbeInterval: ms}, 1)
	h.start(t.Context())
	key := uint64(0)
	deliver := func() {
		key++
		h.put(t, newRecord(key, "a"))
	}
	accepted := func() {
		for len(h.keys(Accepted)) < int(key) {
			time.Sleep(ms)
		}
		_, err := h.SettingError()
		expect(t, "setting error", err, nil)
	}
	rejected := func(want string) {
		for {
			if _, err := h.SettingError(); err != nil && strings.HasSuffix(err.Error(), want) {
				return
			}
			time.Sleep(ms)
		}
	}

	set("first", "first")
	deliver()
	accepted()
	set("second", "second")
	deliver()
	accepted()
	expect(t, "denied while the tokens agree", denied.Load(), 0)

	set("second", "third")
	deliver()
	rejected("401 Unauthorized: check the credentials for LABELSTREAM_DESTINATION")
	set("third", "third")
	accepted()

	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	deliver()
	rejected("no such file or directory: check the credentials for LABELSTREAM_DESTINATION")
	set("fourth", "fourth")
	accepted()
	h.Close()
	expect(t, "Run", <-h.done, nil)
}

// authority is a certificate that has signed nothing.
const authority = `-----BEGIN CERTIFICATE-----
MIIBdDCCARugAwIBAgIUEFa4DE/Ree1JCgPehSB+5GGCHyEwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjMxMzA3MTlaGA8yMTI2MTAzMDEzMDcx
OVowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABIDW
OS7TUp7zjnTkkuwDeEKVbGvhZ6fQ/GO/jccCwh+rUgOVoasrXCwDe86dYV+vhfv0
oCgZgmez2uoDBAvZNBujUzBRMB0GA1UdDgQWBBQmi6sTZejJ4ThMT4Y1DXwtVCPn
LjAfBgNVHSMEGDAWgBQmi6sTZejJ4ThMT4Y1DXwtVCPnLjAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0cAMEQCIBnEU5SNPC4/rqzG3ayizYAiTImtaKpySGR7
KaQmZvq2AiBcaTuqwZBT4/Fnq270JqsJ0ltwXiEQJBYGUJFVvc42GQ==
-----END CERTIFICATE-----`

// A certificate that is not trusted is a matter of settings; a file that comes
// to hold the right one is read.
func TestAuthoritiesAreReadAgain(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	right := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	file := writeFile(t, filepath.Join(t.TempDir(), "ca.pem"), authority)
	cfg := testConfig(t, s.URL)
	cfg.HTTPClient = clientWith(func(c *promconfig.HTTPClientConfig) { c.TLSConfig.CAFile = file })
	h := newHarness(cfg, Options{ProbeInterval: ms}, 1)
	h.put(t, newRecord(1, "a"))
	h.Close()
	h.start(t.Context())
	for {
		if _, err := h.SettingError(); err != nil {
			expect(t, "hint", strings.HasSuffix(err.Error(), ": check LABELSTREAM_TLS_CA_FILE and the destination's certificate"), true)
			break
		}
		time.Sleep(ms)
	}
	replaceFile(t, file, right)
	expect(t, "Run", <-h.done, nil)
	expect(t, "accepted", h.keys(Accepted), []uint64{1})
}

func TestUnusableSettings(t *testing.T) {
	cfg := testConfig(t, "http://u:pw@host/write?a=b")
	cfg.HTTPClient = clientWith(func(c *promconfig.HTTPClientConfig) { c.TLSConfig.CAFile = "/none" })
	logger, _ := testLogger()
	_, err := New(cfg, Options{Logger: logger})
	const want = "prepare sending to http://host/write: unable to read CA cert: unable to read file /none: open /none: no such file or directory"
	if err == nil || err.Error() != want {
		t.Errorf("New: %v, want %s", err, want)
	}
}

// echo answers the nth request with all that it held but for its body: in each
// way in which a receiver's words are told, and too long, so that they are cut
// within a secret.
func echo(n int, w http.ResponseWriter, r *http.Request) {
	all := fmt.Sprintf("%s %v %v", r.URL, r.Header, r.URL.Query())
	if user, password, ok := r.BasicAuth(); ok {
		all += user + " " + password
	}
	all += strings.Repeat(" x", (maxWords-len(all)-30)/2)
	codes := []int{302, 503, 401, 400, 422, 413}
	w.Header().Set("Location", "http://"+r.Host+"/elsewhere?"+r.URL.RawQuery)
	if n%2 == 1 {
		w.Header().Set(samplesWritten, "0")
	}
	w.WriteHeader(codes[n%len(codes)])
	_, _ = io.WriteString(w, all+strings.Repeat(r.Header.Get("Authorization"), 100))
}

// Nothing that may be secret is in an error, in the log or in a metric,
// whatever the receiver says.
func TestNoSecretIsTold(t *testing.T) {
	token := writeFile(t, filepath.Join(t.TempDir(), "token"), "canary-token\n")
	// It repeats what it was sent, as the destination does.
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		form, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, `{"error":"invalid_client","error_description":"%s %s"}`, form, r.Header)
	}))
	defer tokens.Close()
	for _, c := range []struct {
		name, user, query string
		client            *promconfig.HTTPClientConfig
		// said is in the log, so that the receiver's words have been there.
		said string
	}{
		{"URL", "canary-user:canary%2Fpassword@", "?token=canary%3Dquery&x=canary-x", nil, "/write?[hidden]"},
		{"bearer", "", "", bearer(token), "Bearer [hidden]"},
		{"basic", "", "", clientWith(func(c *promconfig.HTTPClientConfig) {
			c.BasicAuth = &promconfig.BasicAuth{Username: "me", PasswordFile: token}
		}), "Basic [hidden]"},
		{"headers", "", "", clientWith(func(c *promconfig.HTTPClientConfig) {
			c.HTTPHeaders = &promconfig.Headers{Headers: map[string]promconfig.Header{
				"X-A": {Values: []string{"canary-a"}}, "X-B": {Secrets: []promconfig.Secret{"canary-token b"}}, "X-C": {Files: []string{token}},
			}}
		}), "X-B:[[hidden]]"},
		{"oauth2", "", "", clientWith(func(c *promconfig.HTTPClientConfig) {
			c.OAuth2 = &promconfig.OAuth2{ClientID: "me", ClientSecretFile: token, TokenURL: tokens.URL}
		}), `400 Bad Request, the token server says`},
	} {
		for _, protocol := range []config.Protocol{config.Protocol1, config.Protocol2, config.ProtocolAuto} {
			t.Run(c.name+" "+string(protocol), func(t *testing.T) {
				var n atomic.Int32
				s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { echo(int(n.Add(1))-1, w, r) }))
				defer s.Close()
				cfg := testConfig(t, strings.Replace(s.URL, "http://", "http://"+c.user, 1)+"/write"+c.query)
				cfg.BatchSize, cfg.HTTPClient, cfg.Protocol = 1, c.client, protocol
				h := newHarness(cfg, Options{ProbeInterval: ms, GiveUpAfter: 50 * ms}, 1)
				h.jitter = func(time.Duration) time.Duration { return ms }
				for key := range uint64(4) {
					h.put(t, newRecord(key, "a"))
				}
				h.Close()
				err := h.Run(t.Context())
				_, setting := h.SettingError()
				told := fmt.Sprint(err, setting) + logged(t, h) + gathered(t, h)
				if i := strings.Index(told, "canary"); i >= 0 {
					t.Errorf("a secret is told: …%s…", told[max(0, i-300):min(len(told), i+60)])
				}
				if !strings.Contains(told, c.said) {
					t.Errorf("%q is not told:\n%.3000s", c.said, told)
				}
			})
		}
	}
}

// logged is all that was logged, at any level.
func logged(t *testing.T, h *harness) string {
	t.Helper()
	var all strings.Builder
	for _, entry := range h.logs.AllEntries() {
		text, err := entry.String()
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(text)
	}
	return all.String()
}

// gathered is the text of all metrics.
func gathered(t *testing.T, h *harness) string {
	t.Helper()
	families, err := h.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(&all, family); err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

func TestRedact(t *testing.T) {
	s := &secrets{fixed: []string{"abcd", "abcdef", "xyz", "p/w d"}}
	for text, want := range map[string]string{
		"":                                "",
		"abcdefg abcd":                    "[hidden]g [hidden]",
		"too short: xyz":                  "too short: xyz",
		"p/w d p%2Fw+d p%2Fw%20d":         "[hidden] [hidden] [hidden]",
		"only the end of long ones abcde": "only the end of long ones [hidden]e",
		strings.Repeat("-", maxWords-5) + "abcde": strings.Repeat("-", maxWords-5) + "[hidden]e",
		strings.Repeat("-", maxWords-4) + "p/w ":  strings.Repeat("-", maxWords-4),
	} {
		expect(t, "redacted", s.redact(text, nil), want)
	}
	req := httptest.NewRequest(http.MethodPost, "/", nil)
	req.SetBasicAuth("me", "from elsewhere")
	expect(t, "what the request had", s.redact("from elsewhere, "+req.Header.Get("Authorization"), req), "[hidden], Basic [hidden]")
}
