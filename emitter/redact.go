package emitter

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	promconfig "github.com/prometheus/common/config"

	"labelstream/config"
)

// minSecret is the length from which on a value is hidden: removing shorter
// ones, such as a tenant "1", would leave no text readable.
const minSecret = 4

// secrets are the texts that no log and no error may hold, though a receiver
// repeat them.
type secrets struct {
	// fixed come from the settings, files hold the others; those are read when
	// there is something to redact, for they may have changed.
	fixed, files []string
}

func newSecrets(cfg *config.Delivery) *secrets {
	s := &secrets{}
	s.addURL(cfg.Destination.URL)
	if c := cfg.HTTPClient; c != nil {
		s.addClient(c)
	}
	return s
}

func (s *secrets) add(values ...string) { s.fixed = append(s.fixed, values...) }

// addURL adds user, password and query, as they are written and as they are
// meant.
func (s *secrets) addURL(u *url.URL) {
	if u == nil {
		return
	}
	if u.User != nil {
		password, _ := u.User.Password()
		s.add(u.User.String(), u.User.Username(), password)
	}
	s.add(u.RawQuery, u.Fragment)
	for _, values := range u.Query() {
		s.add(values...)
	}
}

func (s *secrets) addClient(c *promconfig.HTTPClientConfig) {
	s.addURL(c.ProxyURL.URL)
	for _, values := range c.ProxyConnectHeader.HTTPHeader() {
		s.add(values...)
	}
	if b := c.BasicAuth; b != nil {
		s.add(string(b.Password))
		s.files = append(s.files, b.PasswordFile)
	}
	if a := c.Authorization; a != nil {
		s.add(string(a.Credentials))
		s.files = append(s.files, a.CredentialsFile)
	}
	if o := c.OAuth2; o != nil {
		s.add(string(o.ClientSecret), string(o.ClientCertificateKey))
		s.files = append(s.files, o.ClientSecretFile, o.ClientCertificateKeyFile)
	}
	if c.HTTPHeaders == nil {
		return
	}
	for _, header := range c.HTTPHeaders.Headers {
		s.add(header.Values...)
		for _, secret := range header.Secrets {
			s.add(string(secret))
		}
		s.files = append(s.files, header.Files...)
	}
}

// redact replaces every secret in a text. What was sent with req counts as
// such too, for a token may come from elsewhere; req may be nil.
func (s *secrets) redact(text string, req *http.Request) string {
	if text == "" {
		return ""
	}
	isCut := len(text) >= maxWords
	hidden := slices.Clone(s.fixed)
	for _, name := range s.files {
		if content, err := os.ReadFile(name); err == nil {
			hidden = append(hidden, strings.TrimSpace(string(content)))
		}
	}
	if req != nil {
		hidden = append(hidden, credentials(req)...)
	}
	for _, secret := range slices.Clone(hidden) {
		hidden = append(hidden, url.QueryEscape(secret), url.PathEscape(secret))
	}
	hidden = slices.DeleteFunc(hidden, func(secret string) bool { return len(secret) < minSecret })
	// A secret may begin with another: the longer one is replaced first.
	slices.SortFunc(hidden, func(a, b string) int { return len(b) - len(a) })
	for _, secret := range hidden {
		text = strings.ReplaceAll(text, secret, "[hidden]")
	}
	if isCut {
		text = withoutStart(text, hidden)
	}
	return text
}

// withoutStart removes what a secret begins with from the end of a text that was
// cut there.
func withoutStart(text string, hidden []string) string {
	for _, secret := range hidden {
		for n := len(secret) - 1; n >= minSecret; n-- {
			if strings.HasSuffix(text, secret[:n]) {
				return text[:len(text)-n]
			}
		}
	}
	return text
}

// credentials are what a request authenticated with.
func credentials(req *http.Request) []string {
	scheme, value, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	all := []string{value}
	if plain, err := base64.StdEncoding.DecodeString(value); err == nil && strings.EqualFold(scheme, "basic") {
		_, password, _ := strings.Cut(string(plain), ":")
		all = append(all, password)
	}
	return all
}

// redactError returns err, or its redacted text where that differs.
func (s *secrets) redactError(err error) error {
	text := err.Error()
	if clean := s.redact(text, nil); clean != text {
		return errors.New(clean)
	}
	return err
}
