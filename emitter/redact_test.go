// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"bytes"
	"fmt"
	"io"
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
)

func writeFile(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
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

// bearer has a token in a file, or none.
func bearer(file string) *promconfig.HTTPClientConfig {
	return clientWith(func(c *promconfig.HTTPClientConfig) {
		if file != "" {
			c.Authorization = &promconfig.Authorization{Type: "Bearer", CredentialsFile: file}
		}
	})
}

func TestUnusableSettings(t *testing.T) {
	cfg := &config.Delivery{}
	sendingTo("http://u:pw@host/write?a=b", clientWith(func(c *promconfig.HTTPClientConfig) { c.TLSConfig.CAFile = "/none" }))(cfg, nil)
	_, err := New(cfg, Options{Logger: logrus.New()})
	expect(t, "New", fmt.Sprint(err), "prepare sending to http://host/write: unable to read CA cert: unable to read file /none: open /none: no such file or directory")
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
	token := writeFile(t, "canary-token\n")
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
				to := strings.Replace(s.URL, "http://", "http://"+c.user, 1) + "/write" + c.query
				h := newHarness(t, nil, sendingTo(to, c.client), batchSize(1), speaking(protocol), probing(ms, 50*ms))
				h.senders[0].jitter = func(time.Duration) time.Duration { return ms }
				h.put(records("a", "b", "c", "d")...)
				h.Close()
				told := h.told(h.Run(t.Context()))
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

// told is the error, all that was logged at any level, and the text of all metrics.
func (h *harness) told(err error) string {
	all := bytes.NewBufferString(fmt.Sprintln(err))
	for _, entry := range h.logs.AllEntries() {
		text, err := entry.String()
		expect(h.t, "error of the log", err, nil)
		all.WriteString(text)
	}
	families, err := h.reg.Gather()
	expect(h.t, "error of the metrics", err, nil)
	for _, family := range families {
		_, err := expfmt.MetricFamilyToText(all, family)
		expect(h.t, "error of the metrics", err, nil)
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
