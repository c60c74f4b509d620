package emitter

import (
	"bytes"
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
	"github.com/sirupsen/logrus"

	"labelstream/config"
	"labelstream/status/outage"
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
			var header atomic.Value
			s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { header.Store(r.Header) }))
			defer s.Close()
			cfg := testConfig(t, s.URL)
			cfg.HTTPClient = c.client
			h := newHarness(t, cfg, Options{})
			h.deliver(newRecord(1, "a"))
			expect(t, c.header, header.Load().(http.Header).Get(c.header), c.want)
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

// A token that was replaced is used for the next request, and one that was wrong or
// missing and is mended ends the waiting, without a new emitter.
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
	h := newHarness(t, cfg, Options{ProbeInterval: ms})
	h.start(t.Context())
	failure := func() string {
		_, err := h.senders[0].outage.Err()
		return fmt.Sprint(err)
	}
	delivered := func() {
		for h.Unsent() > 0 || failure() != "<nil>" {
			time.Sleep(ms)
		}
	}
	rejected := func(want string) {
		for !strings.HasSuffix(failure(), want) {
			time.Sleep(ms)
		}
	}

	set("first", "first")
	h.put(newRecord(1, "a"))
	delivered()
	set("second", "second")
	h.put(newRecord(2, "a"))
	delivered()
	expect(t, "denied while the tokens agree", denied.Load(), 0)

	set("second", "third")
	h.put(newRecord(3, "a"))
	rejected("401 Unauthorized")
	set("third", "third")
	delivered()

	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	h.put(newRecord(4, "a"))
	rejected("no such file or directory")
	set("fourth", "fourth")
	delivered()
	h.finish()
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
	cfg.BatchSize = 1
	cfg.HTTPClient = clientWith(func(c *promconfig.HTTPClientConfig) { c.TLSConfig.CAFile = file })
	h := newHarness(t, cfg, Options{ProbeInterval: ms})
	h.put(newRecord(1, "a"))
	h.start(t.Context())
	err := error(nil)
	for err == nil {
		time.Sleep(ms)
		_, err = h.senders[0].outage.Err()
	}
	expect(t, "hint", outage.Hint(err), "check LABELSTREAM_TLS_CA_FILE and the destination's certificate")
	replaceFile(t, file, right)
	h.finish()
}

func TestUnusableSettings(t *testing.T) {
	cfg := testConfig(t, "http://u:pw@host/write?a=b")
	cfg.HTTPClient = clientWith(func(c *promconfig.HTTPClientConfig) { c.TLSConfig.CAFile = "/none" })
	_, err := New(cfg, Options{Logger: logrus.New()})
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
	all += strings.Repeat(" x", (maxBody-len(all)-30)/2)
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
		{"bearer", "", "", bearer(token), "Authorization:[[hidden]"},
		{"basic", "", "", clientWith(func(c *promconfig.HTTPClientConfig) {
			c.BasicAuth = &promconfig.BasicAuth{Username: "me", PasswordFile: token}
		}), "Authorization:[[hidden]"},
		{"headers", "", "", clientWith(func(c *promconfig.HTTPClientConfig) {
			c.HTTPHeaders = &promconfig.Headers{Headers: map[string]promconfig.Header{
				"X-A": {Values: []string{"canary-a"}}, "X-B": {Secrets: []promconfig.Secret{"canary-token b"}}, "X-C": {Files: []string{token}},
			}}
		}), "X-B:[[hidden]]"},
		{"oauth2", "", "", clientWith(func(c *promconfig.HTTPClientConfig) {
			c.OAuth2 = &promconfig.OAuth2{ClientID: "me", ClientSecretFile: token, TokenURL: tokens.URL}
		}), `fetch an OAuth2 token: status 400 Bad Request`},
	} {
		for _, protocol := range []config.Protocol{config.Protocol1, config.Protocol2, config.ProtocolAuto} {
			t.Run(c.name+" "+string(protocol), func(t *testing.T) {
				var n atomic.Int32
				s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { echo(int(n.Add(1))-1, w, r) }))
				defer s.Close()
				cfg := testConfig(t, strings.Replace(s.URL, "http://", "http://"+c.user, 1)+"/write"+c.query)
				cfg.BatchSize, cfg.HTTPClient, cfg.Protocol = 1, c.client, protocol
				h := newHarness(t, cfg, Options{ProbeInterval: ms, GiveUpAfter: 50 * ms})
				h.senders[0].jitter = func(time.Duration) time.Duration { return ms }
				h.put(records("a", "b", "c", "d")...)
				h.Close()
				told := fmt.Sprint(h.Run(t.Context())) + logged(t, h) + gathered(t, h)
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
	c := &client{secrets: []string{"abcd", "abcdef", "xyz", "p/w d"}}
	for text, want := range map[string]string{
		"":                                       "",
		"abcdefg abcd":                           "[hidden]g [hidden]",
		"too short: xyz":                         "too short: xyz",
		"p/w d p%2Fw+d p%2Fw%20d":                "[hidden] [hidden] [hidden]",
		"only the end of long ones abcde":        "only the end of long ones [hidden]e",
		strings.Repeat("-", maxBody-5) + "abcde": strings.Repeat("-", maxBody-5) + "[hidden]e",
		strings.Repeat("-", maxBody-4) + "p/w ":  strings.Repeat("-", maxBody-4),
	} {
		expect(t, "redacted", c.redact(text, nil), want)
	}
	req := httptest.NewRequest(http.MethodPost, "/", nil)
	req.SetBasicAuth("me", "from elsewhere")
	basic := req.Header.Get("Authorization")
	expect(t, "what the request had", c.redact("from elsewhere, "+basic+", "+basic[6:], req), "[hidden], [hidden], [hidden]")
}
