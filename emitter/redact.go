// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"labelstream/config"
)

// minSecret is the length from which on a value is hidden: removing shorter
// ones, such as a tenant "1", would leave no text readable.
const minSecret = 4

// redactURL leaves scheme, host and path.
func redactURL(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

// secretsOf are those that the URLs of the settings hold: user, password and query,
// as they are written and as they are meant.
func secretsOf(cfg *config.Delivery) []string {
	urls := []*url.URL{cfg.Destination.URL}
	if cfg.HTTPClient != nil && cfg.HTTPClient.ProxyURL.URL != nil {
		urls = append(urls, cfg.HTTPClient.ProxyURL.URL)
	}
	var secrets []string
	for _, u := range urls {
		if u.User != nil {
			password, _ := u.User.Password()
			secrets = append(secrets, u.User.String(), u.User.Username(), password)
		}
		secrets = append(secrets, u.RawQuery, u.Fragment)
		for _, values := range u.Query() {
			secrets = append(secrets, values...)
		}
	}
	return secrets
}

// sentWith are the secrets that a request carried: all headers but those that are
// the same for everybody.
func sentWith(req *http.Request) []string {
	var secrets []string
	for name, values := range req.Header {
		switch name {
		case "Content-Type", "Content-Encoding", "User-Agent", "X-Prometheus-Remote-Write-Version":
		default:
			secrets = append(secrets, values...)
		}
	}
	scheme, value, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	secrets = append(secrets, value)
	if plain, err := base64.StdEncoding.DecodeString(value); err == nil && strings.EqualFold(scheme, "basic") {
		_, password, _ := strings.Cut(string(plain), ":")
		secrets = append(secrets, password)
	}
	return secrets
}

// redact replaces every secret in a text that a receiver says: those of the URL,
// and what the request was sent with, nil for none.
func (c *client) redact(text string, req *http.Request) string {
	isCut := len(text) >= maxBody
	hidden := c.hidden(req)
	for _, secret := range hidden {
		text = strings.ReplaceAll(text, secret, "[hidden]")
	}
	for _, secret := range hidden {
		// A text that was cut may end with the beginning of a secret.
		for n := len(secret) - 1; isCut && n >= minSecret; n-- {
			if strings.HasSuffix(text, secret[:n]) {
				return text[:len(text)-n]
			}
		}
	}
	return text
}

// hidden are the secrets in all spellings, the longer ones first: one may begin
// with another.
func (c *client) hidden(req *http.Request) []string {
	secrets := c.secrets
	if req != nil {
		secrets = slices.Concat(secrets, sentWith(req))
	}
	var hidden []string
	for _, secret := range secrets {
		if len(secret) >= minSecret {
			hidden = append(hidden, secret, url.QueryEscape(secret), url.PathEscape(secret))
		}
	}
	slices.SortFunc(hidden, func(a, b string) int { return len(b) - len(a) })
	return hidden
}

// redactError returns err, or its redacted text where that differs.
func (c *client) redactError(err error) error {
	if text := c.redact(err.Error(), nil); text != err.Error() {
		return errors.New(text)
	}
	return err
}
