// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"

	promconfig "github.com/prometheus/common/config"
)

// Headers are headers of requests, whose values may be secret.
type Headers map[string]string

var (
	headerName  = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
	headerValue = regexp.MustCompile(`^[^\x00-\x1f\x7f]+$`)
	yamlLine    = regexp.MustCompile(`line \d+(: field \S+ not found)?`)
)

// Decode reads a list of name=value for envconfig, as Pairs does. No error holds
// a value.
func (h *Headers) Decode(value string) error {
	headers := make(Headers)
	var invalid invalidValues
	for i, item := range split(value) {
		name, value, reason := pair(item)
		canonical := http.CanonicalHeaderKey(name)
		_, reserved := promconfig.ReservedHeaders[canonical]
		switch {
		case reason != "":
		case !headerName.MatchString(name) || !headerValue.MatchString(value):
			reason = "is not a header"
		case reserved:
			reason = fmt.Sprintf("sets %s, which is not allowed", canonical)
		case headers[canonical] != "":
			reason = twice
		default:
			headers[canonical] = value
			continue
		}
		invalid = append(invalid, hidden(fmt.Sprintf("item %d %s", i+1, reason)))
	}
	if invalid != nil {
		return invalid
	}
	*h = headers
	return nil
}

// DefaultHTTPClient is the configuration of a client without authentication. It
// takes a proxy from the environment and does not follow redirects.
func DefaultHTTPClient() *promconfig.HTTPClientConfig {
	client := promconfig.DefaultHTTPClientConfig
	client.FollowRedirects = false
	client.ProxyFromEnvironment = true
	return &client
}

// checkAuth adds what is wrong with the settings of authentication and TLS
// together, and sets HTTPClient.
func checkAuth(d *Delivery, v *validation) {
	if d.HTTPClientConfigFile == "" {
		d.HTTPClient = d.Auth.httpClient(v)
	} else {
		checkNothingBeside(v)
		d.HTTPClient = loadHTTPClient(d.HTTPClientConfigFile, v)
	}
	c, hasUser := d.HTTPClient, d.Destination.URL != nil && d.Destination.User != nil
	if hasUser && c != nil && (c.BasicAuth != nil || c.Authorization != nil || c.OAuth2 != nil) {
		v.addf("%s has a user, and other settings authenticate too; want one way to authenticate", v.written("DESTINATION"))
	}
}

// checkNothingBeside adds each setting that the file should hold.
func checkNothingBeside(v *validation) {
	for _, name := range []string{"BEARER_TOKEN_FILE", "BASIC_USERNAME", "BASIC_PASSWORD_FILE", "TLS_CA_FILE", "HEADERS"} {
		if os.Getenv(prefix+"_"+name) != "" {
			v.addConflict("HTTP_CLIENT_CONFIG_FILE", name, "are both set; want what the latter says in the file")
		}
	}
}

// httpClient is the configuration that the short settings give.
func (a *Auth) httpClient(v *validation) *promconfig.HTTPClientConfig {
	client := DefaultHTTPClient()
	if (a.BasicUsername == "") != (a.BasicPasswordFile == "") {
		v.addConflict("BASIC_USERNAME", "BASIC_PASSWORD_FILE", "need each other; want both or none")
	}
	if a.BasicUsername != "" && a.BearerTokenFile != "" {
		v.addConflict("BASIC_USERNAME", "BEARER_TOKEN_FILE", "are both set; want one way to authenticate")
	}
	if a.BearerTokenFile != "" {
		client.Authorization = &promconfig.Authorization{Type: "Bearer", CredentialsFile: a.BearerTokenFile}
		checkUsable(v, "BEARER_TOKEN_FILE", a.BearerTokenFile, promconfig.HTTPClientConfig{Authorization: client.Authorization})
	}
	if a.BasicPasswordFile != "" {
		client.BasicAuth = &promconfig.BasicAuth{Username: a.BasicUsername, PasswordFile: a.BasicPasswordFile}
		checkUsable(v, "BASIC_PASSWORD_FILE", a.BasicPasswordFile, promconfig.HTTPClientConfig{BasicAuth: client.BasicAuth})
	}
	if a.TLSCaFile != "" {
		client.TLSConfig.CAFile = a.TLSCaFile
		checkUsable(v, "TLS_CA_FILE", a.TLSCaFile, promconfig.HTTPClientConfig{TLSConfig: client.TLSConfig})
	}
	if len(a.Headers) > 0 {
		client.HTTPHeaders = &promconfig.Headers{Headers: make(map[string]promconfig.Header)}
		for name, value := range a.Headers {
			client.HTTPHeaders.Headers[name] = promconfig.Header{Secrets: []promconfig.Secret{promconfig.Secret(value)}}
		}
	}
	return client
}

// loadHTTPClient reads the file, and checks the files that it names. It returns
// nil where it cannot read or parse the file.
func loadHTTPClient(file string, v *validation) *promconfig.HTTPClientConfig {
	client, _, err := promconfig.LoadHTTPConfigFile(file)
	if err != nil {
		v.add("HTTP_CLIENT_CONFIG_FILE", shown(file, yamlReason(err)))
		return nil
	}
	client.FollowRedirects = false
	if client.ProxyURL.URL == nil && client.NoProxy == "" {
		client.ProxyFromEnvironment = true
	}
	checkUsable(v, "HTTP_CLIENT_CONFIG_FILE", file, *client)
	return client
}

// checkUsable adds what keeps a client from making requests: a file that it cannot
// read or use. It tries a request that ends where it would connect.
func checkUsable(v *validation, name, file string, client promconfig.HTTPClientConfig) {
	client.ProxyConfig = promconfig.ProxyConfig{}
	connects := false
	dial := func(context.Context, string, string) (net.Conn, error) {
		connects = true
		return nil, errors.New("not needed")
	}
	transport, err := promconfig.NewRoundTripperFromConfig(client, "remote_write", promconfig.WithDialContextFunc(dial))
	if err == nil {
		_, err = transport.RoundTrip(&http.Request{Method: http.MethodPost, URL: &url.URL{Scheme: "http", Host: "localhost"}, Header: make(http.Header)})
	}
	if !connects {
		v.add(name, shown(file, err.Error()))
	}
}

// yamlReason says what is wrong with a file that did not parse. What the parser
// says may hold what stands there, and that may be secret.
func yamlReason(err error) string {
	if _, ok := errors.AsType[*url.Error](err); ok {
		return "does not parse: a URL in it is none"
	}
	if !strings.HasPrefix(err.Error(), "yaml: ") {
		return err.Error()
	}
	if lines := yamlLine.FindAllString(err.Error(), -1); lines != nil {
		return "does not parse: " + strings.Join(lines, ", ")
	}
	return "does not parse"
}
