// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	promconfig "github.com/prometheus/common/config"
)

var authSettings = []string{
	"HTTP_CLIENT_CONFIG_FILE", "BEARER_TOKEN_FILE", "BASIC_USERNAME", "BASIC_PASSWORD_FILE", "TLS_CA_FILE", "HEADERS",
}

// write makes a file and returns its name.
func write(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// authority is a certificate that expires in 2126; only whether it parses
// matters.
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

func TestLoadAuth(t *testing.T) {
	secret, ca := write(t, "s3cret\n"), write(t, authority)
	clientFile := write(t, "oauth2:\n  client_id: me\n  client_secret_file: "+secret+
		"\n  token_url: http://token.example.com/\nfollow_redirects: true\nhttp_headers:\n  X-Scope-OrgID: {values: [tenant]}\n")
	for _, c := range []struct {
		name     string
		settings map[string]string
		want     func(*promconfig.HTTPClientConfig)
	}{
		{"bearer", map[string]string{"BEARER_TOKEN_FILE": secret}, func(c *promconfig.HTTPClientConfig) {
			c.Authorization = &promconfig.Authorization{Type: "Bearer", CredentialsFile: secret}
		}},
		{"basic", map[string]string{"BASIC_USERNAME": "me", "BASIC_PASSWORD_FILE": secret}, func(c *promconfig.HTTPClientConfig) {
			c.BasicAuth = &promconfig.BasicAuth{Username: "me", PasswordFile: secret}
		}},
		{"authorities", map[string]string{"TLS_CA_FILE": ca}, func(c *promconfig.HTTPClientConfig) {
			c.TLSConfig.CAFile = ca
		}},
		{"headers", map[string]string{"HEADERS": `X-Scope-OrgID=a=b, x-more=one\,two`}, func(c *promconfig.HTTPClientConfig) {
			c.HTTPHeaders = &promconfig.Headers{Headers: map[string]promconfig.Header{
				"X-Scope-Orgid": {Secrets: []promconfig.Secret{"a=b"}}, "X-More": {Secrets: []promconfig.Secret{"one,two"}},
			}}
		}},
		{"file", map[string]string{"HTTP_CLIENT_CONFIG_FILE": clientFile}, func(c *promconfig.HTTPClientConfig) {
			c.OAuth2 = &promconfig.OAuth2{ClientID: "me", ClientSecretFile: secret, TokenURL: "http://token.example.com/"}
			c.HTTPHeaders = &promconfig.Headers{Headers: map[string]promconfig.Header{"X-Scope-OrgID": {Values: []string{"tenant"}}}}
		}},
		{"file with a proxy", map[string]string{"HTTP_CLIENT_CONFIG_FILE": write(t, "no_proxy: a\nproxy_url: http://proxy\n")},
			func(c *promconfig.HTTPClientConfig) {
				c.ProxyConfig = promconfig.ProxyConfig{NoProxy: "a", ProxyURL: promURL("http://proxy")}
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := DefaultHTTPClient()
			c.want(want)
			got := loaded(t, with(c.settings)).HTTPClient
			if d := diff(want, got); d != "" {
				t.Error("-want +got\n" + d)
			}
		})
	}
}

func promURL(text string) promconfig.URL {
	var u URL
	if err := u.Decode(text); err != nil {
		panic(err)
	}
	return promconfig.URL{URL: u.URL}
}

func TestLoadRefusesAuth(t *testing.T) {
	secret, lines, dir := write(t, "s3cret"), write(t, "s3cret\nmore\n"), t.TempDir()
	missing := filepath.Join(dir, "none")
	const (
		p           = "LABELSTREAM_"
		wantFile    = "want the name of such a YAML file, whose own files are readable, and none of the other settings of authentication and TLS"
		wantBearer  = "want the name of a readable file of one line, without BASIC_USERNAME"
		wantHeaders = "want a list of name=value, each name once, and none that HTTP or remote_write sets itself"
	)
	yaml := func(content string) map[string]string {
		return map[string]string{"HTTP_CLIENT_CONFIG_FILE": write(t, content)}
	}
	for _, c := range []struct {
		name     string
		settings map[string]string
		// want has FILE for the value of HTTP_CLIENT_CONFIG_FILE.
		want []string
	}{
		{"no file", map[string]string{"BEARER_TOKEN_FILE": missing}, []string{p + `BEARER_TOKEN_FILE="` + missing +
			`": unable to read authorization credentials: unable to read file ` + missing + `: open ` + missing + `: no such file or directory; ` + wantBearer}},
		{"a token of two lines", map[string]string{"BEARER_TOKEN_FILE": lines},
			[]string{p + `BEARER_TOKEN_FILE="` + lines + `": net/http: invalid header field value for "Authorization"; ` + wantBearer}},
		{"a directory", map[string]string{"BASIC_USERNAME": "me", "BASIC_PASSWORD_FILE": dir}, []string{p + `BASIC_PASSWORD_FILE="` + dir +
			`": unable to read basic auth password: unable to read file ` + dir + `: read ` + dir + `: is a directory; want the name of a readable file, together with BASIC_USERNAME`}},
		{"no certificates", map[string]string{"TLS_CA_FILE": secret},
			[]string{p + `TLS_CA_FILE="` + secret + `": unable to use specified CA cert file ` + secret + `; want the name of a readable PEM file with certificates`}},
		{"half of basic", map[string]string{"BASIC_USERNAME": "me"},
			[]string{p + "BASIC_USERNAME and " + p + "BASIC_PASSWORD_FILE need each other; want both or none"}},
		{"two ways", map[string]string{"BASIC_USERNAME": "me", "BASIC_PASSWORD_FILE": secret, "BEARER_TOKEN_FILE": secret},
			[]string{p + "BASIC_USERNAME and " + p + "BEARER_TOKEN_FILE are both set; want one way to authenticate"}},
		{"two ways, one in the URL", map[string]string{"DESTINATION": "http://me:pw@host/", "BEARER_TOKEN_FILE": secret},
			[]string{p + "DESTINATION has a user, and other settings authenticate too; want one way to authenticate"}},
		{"file and the rest", map[string]string{
			"HTTP_CLIENT_CONFIG_FILE": write(t, "{}"), "BEARER_TOKEN_FILE": secret, "BASIC_USERNAME": "me",
			"BASIC_PASSWORD_FILE": secret, "TLS_CA_FILE": secret, "HEADERS": "a=b",
		}, []string{
			p + "HTTP_CLIENT_CONFIG_FILE and " + p + "BEARER_TOKEN_FILE are both set; want what the latter says in the file",
			p + "HTTP_CLIENT_CONFIG_FILE and " + p + "BASIC_USERNAME are both set; want what the latter says in the file",
			p + "HTTP_CLIENT_CONFIG_FILE and " + p + "BASIC_PASSWORD_FILE are both set; want what the latter says in the file",
			p + "HTTP_CLIENT_CONFIG_FILE and " + p + "TLS_CA_FILE are both set; want what the latter says in the file",
			p + "HTTP_CLIENT_CONFIG_FILE and " + p + "HEADERS are both set; want what the latter says in the file",
		}},
		{"headers", map[string]string{"HEADERS": "s3cret,=s3cret,User-Agent=s3cret,a b=s3cret,x=s3cret,X=s3cret,y=s3\x01cret"}, []string{
			p + "HEADERS: item 1 is not name=value; " + wantHeaders,
			p + "HEADERS: item 2 is not name=value; " + wantHeaders,
			p + "HEADERS: item 3 sets User-Agent, which is not allowed; " + wantHeaders,
			p + "HEADERS: item 4 has a name with a quote or a space; " + wantHeaders,
			p + "HEADERS: item 6 has a name that was given before; " + wantHeaders,
			p + "HEADERS: item 7 is not a header; " + wantHeaders,
		}},
		{"no such key", yaml("bearer_token: s3cret\ntls: {}\n"), []string{p + `HTTP_CLIENT_CONFIG_FILE="FILE": does not parse: line 2: field tls not found; ` + wantFile}},
		{"no YAML", yaml("basic_auth: s3cret\nproxy_url: [\n"), []string{p + `HTTP_CLIENT_CONFIG_FILE="FILE": does not parse: line 2; ` + wantFile}},
		{"wrong types", yaml("basic_auth: s3cret\ntls_config: s3cret\n"), []string{p + `HTTP_CLIENT_CONFIG_FILE="FILE": does not parse: line 1, line 2; ` + wantFile}},
		{"no anchor", yaml("bearer_token: *s3cret\n"), []string{p + `HTTP_CLIENT_CONFIG_FILE="FILE": does not parse; ` + wantFile}},
		{"no URL", yaml("proxy_url: http://me:s3cret@host:port/\n"), []string{p + `HTTP_CLIENT_CONFIG_FILE="FILE": does not parse: a URL in it is none; ` + wantFile}},
		{"two ways in the file", yaml("bearer_token: s3cret\nbasic_auth: {username: me}\n"),
			[]string{p + `HTTP_CLIENT_CONFIG_FILE="FILE": at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured; ` + wantFile}},
		{"no CA", yaml("authorization: {credentials_file: " + secret + "}\ntls_config: {ca_file: " + dir + "}\n"),
			[]string{p + `HTTP_CLIENT_CONFIG_FILE="FILE": unable to read CA cert: unable to read file ` + dir + `: read ` + dir + `: is a directory; ` + wantFile}},
		{"no secret", yaml("oauth2: {client_id: a, client_secret_file: " + missing + ", token_url: 'http://token'}\n"),
			[]string{p + `HTTP_CLIENT_CONFIG_FILE="FILE": unable to read oauth2 client secret: unable to read file ` + missing + `: open ` + missing + `: no such file or directory; ` + wantFile}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := refused(t, with(c.settings))
			for i := range got {
				got[i] = strings.ReplaceAll(got[i], `"`+c.settings["HTTP_CLIENT_CONFIG_FILE"]+`"`, `"FILE"`)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error("-want +got\n" + d)
			}
		})
	}
}
