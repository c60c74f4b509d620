package config

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
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
	var wrong wrongValues
	for i, item := range split(value) {
		name, value, reason := pair(item)
		canonical := http.CanonicalHeaderKey(name)
		_, reserved := promconfig.ReservedHeaders[canonical]
		_, twice := headers[canonical]
		switch {
		case reason != "":
		case !headerName.MatchString(name) || !headerValue.MatchString(value):
			reason = "is no header"
		case reserved:
			reason = fmt.Sprintf("sets %s, which is not allowed", canonical)
		case twice:
			reason = "has a name that was given before"
		default:
			headers[canonical] = value
			continue
		}
		wrong = append(wrong, wrongValue{hidden: true, reason: fmt.Sprintf("item %d %s", i+1, reason)})
	}
	if wrong != nil {
		return wrong
	}
	*h = headers
	return nil
}

// DefaultHTTPClient returns the configuration of a client without
// authentication: a proxy is taken from the environment, and redirects are not
// followed.
func DefaultHTTPClient() *promconfig.HTTPClientConfig {
	client := promconfig.DefaultHTTPClientConfig
	client.FollowRedirects = false
	client.ProxyFromEnvironment = true
	return &client
}

// validateAuth adds what is wrong with the settings of authentication and TLS,
// and sets HTTPClient.
func validateAuth(d *Delivery, m *mistakes) {
	if d.HTTPClientConfigFile != "" {
		validateOneSource(&d.Auth, m)
		d.HTTPClient = loadHTTPClient(d.HTTPClientConfigFile, m)
	} else {
		d.HTTPClient = d.Auth.httpClient(m)
	}
	validateCredentials(d, m)
}

// validateOneSource refuses what is set beside the file that says all.
func validateOneSource(a *Auth, m *mistakes) {
	for _, other := range []struct {
		name string
		set  bool
	}{
		{"BEARER_TOKEN_FILE", a.BearerTokenFile != ""},
		{"BASIC_USERNAME", a.BasicUsername != ""},
		{"BASIC_PASSWORD_FILE", a.BasicPasswordFile != ""},
		{"TLS_CA_FILE", a.TLSCaFile != ""},
		{"HEADERS", len(a.Headers) > 0},
	} {
		if other.set {
			m.addf("%s_HTTP_CLIENT_CONFIG_FILE and %[1]s_%s are both set; want what the latter says in the file", prefix, other.name)
		}
	}
}

// httpClient is the configuration that the short settings give.
func (a *Auth) httpClient(m *mistakes) *promconfig.HTTPClientConfig {
	client := DefaultHTTPClient()
	if (a.BasicUsername == "") != (a.BasicPasswordFile == "") {
		m.addf("%s_BASIC_USERNAME and %[1]s_BASIC_PASSWORD_FILE: only one is set; want both or none", prefix)
	}
	if a.BasicUsername != "" && a.BearerTokenFile != "" {
		m.addf("%s_BASIC_USERNAME and %[1]s_BEARER_TOKEN_FILE are both set; want one way to authenticate", prefix)
	}
	if a.BearerTokenFile != "" {
		client.Authorization = &promconfig.Authorization{Type: "Bearer", CredentialsFile: a.BearerTokenFile}
		checkReadable(m, "BEARER_TOKEN_FILE", a.BearerTokenFile)
	}
	if a.BasicPasswordFile != "" {
		client.BasicAuth = &promconfig.BasicAuth{Username: a.BasicUsername, PasswordFile: a.BasicPasswordFile}
		checkReadable(m, "BASIC_PASSWORD_FILE", a.BasicPasswordFile)
	}
	if a.TLSCaFile != "" {
		client.TLSConfig.CAFile = a.TLSCaFile
		if checkReadable(m, "TLS_CA_FILE", a.TLSCaFile) {
			checkUsable(m, "TLS_CA_FILE", client)
		}
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
// nil where it does not parse.
func loadHTTPClient(name string, m *mistakes) *promconfig.HTTPClientConfig {
	const setting = "HTTP_CLIENT_CONFIG_FILE"
	client, _, err := promconfig.LoadHTTPConfigFile(name)
	if err != nil {
		m.addValue(setting, yamlReason(err))
		return nil
	}
	client.FollowRedirects = false
	if client.ProxyURL.URL == nil && client.NoProxy == "" {
		client.ProxyFromEnvironment = true
	}
	readable := true
	for _, file := range filesOf(client) {
		readable = checkReadable(m, setting, file) && readable
	}
	if readable {
		checkUsable(m, setting, client)
	}
	return client
}

// filesOf returns the files that the configuration names.
func filesOf(c *promconfig.HTTPClientConfig) []string {
	files := tlsFiles(&c.TLSConfig)
	if c.BasicAuth != nil {
		files = append(files, c.BasicAuth.UsernameFile, c.BasicAuth.PasswordFile)
	}
	if c.Authorization != nil {
		files = append(files, c.Authorization.CredentialsFile)
	}
	if c.OAuth2 != nil {
		files = append(files, c.OAuth2.ClientSecretFile, c.OAuth2.ClientCertificateKeyFile)
		files = append(files, tlsFiles(&c.OAuth2.TLSConfig)...)
	}
	if c.HTTPHeaders != nil {
		for _, header := range c.HTTPHeaders.Headers {
			files = append(files, header.Files...)
		}
	}
	slices.Sort(files)
	return slices.DeleteFunc(slices.Compact(files), func(file string) bool { return file == "" })
}

func tlsFiles(c *promconfig.TLSConfig) []string {
	return []string{c.CAFile, c.CertFile, c.KeyFile}
}

// checkReadable adds the mistake of a file that cannot be read.
func checkReadable(m *mistakes, name, file string) bool {
	_, err := os.ReadFile(file)
	if err != nil {
		m.addValue(name, err.Error())
	}
	return err == nil
}

// checkUsable adds what is wrong with the contents of certificates and keys.
func checkUsable(m *mistakes, name string, client *promconfig.HTTPClientConfig) {
	if _, err := promconfig.NewRoundTripperFromConfig(*client, "remote_write"); err != nil {
		m.addValue(name, err.Error())
	}
}

// validateCredentials refuses two ways to authenticate where one is in the URL.
func validateCredentials(d *Delivery, m *mistakes) {
	if d.Destination.URL == nil || d.Destination.User == nil || d.HTTPClient == nil {
		return
	}
	if c := d.HTTPClient; c.BasicAuth != nil || c.Authorization != nil || c.OAuth2 != nil {
		m.addf("%s_DESTINATION has a user, and other settings authenticate too; want one way to authenticate", prefix)
	}
}

// yamlReason says what is wrong with a file that did not parse. What the parser
// says may hold what stands there, and that may be secret.
func yamlReason(err error) string {
	if _, ok := errors.AsType[*os.PathError](err); ok {
		return err.Error()
	}
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
