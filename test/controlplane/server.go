// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"labelstream/test/loopback"
	"labelstream/test/metrics"
	"labelstream/test/process"
)

const (
	tokensFile = "tokens.csv"
	keyFile    = "service-account.key"
)

// writeCredentials writes the users' tokens and the key that signs those of
// service accounts.
func (c *ControlPlane) writeCredentials() error {
	tokens := fmt.Appendf(nil, "%s,%s,%[2]s,system:masters\n", token(Admin), Admin)
	for _, user := range c.opts.Users {
		tokens = fmt.Appendf(tokens, "%s,%s,%[2]s\n", token(user), user)
	}
	if err := os.WriteFile(c.path(tokensFile), tokens, 0o600); err != nil {
		return fmt.Errorf("write the users' tokens: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key for service accounts: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode the key for service accounts: %w", err)
	}
	return os.WriteFile(c.path(keyFile), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

// token is a user's: the server listens on loopback only, and holds nothing.
func token(user string) string { return "token-of-" + user }

func (c *ControlPlane) certPath() string { return c.path("certs/apiserver.crt") }

// Config returns how to reach the API server as a user, without a limit of
// requests on the client's side. It is an error to ask for a user that
// Options did not name.
func (c *ControlPlane) Config(user string) (*rest.Config, error) {
	if user != Admin && !slices.Contains(c.opts.Users, user) {
		return nil, fmt.Errorf("the control plane has no user %q; name it in Options.Users", user)
	}
	ca, err := os.ReadFile(c.certPath())
	if err != nil {
		return nil, fmt.Errorf("read the API server's certificate: %w", err)
	}
	return &rest.Config{
		Host:            address("https", c.port),
		BearerToken:     token(user),
		TLSClientConfig: rest.TLSClientConfig{CAData: ca},
		QPS:             -1,
	}, nil
}

// WriteKubeconfig writes a kubeconfig with which to reach the API server as a
// user.
func (c *ControlPlane) WriteKubeconfig(path, user string) error {
	config, err := c.Config(user)
	if err != nil {
		return err
	}
	const name = "labelstream-test"
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters[name] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	kubeconfig.AuthInfos[user] = &clientcmdapi.AuthInfo{Token: config.BearerToken}
	kubeconfig.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: user}
	kubeconfig.CurrentContext = name
	return clientcmd.WriteToFile(*kubeconfig, path)
}

func (c *ControlPlane) spawnServer() (*process.Process, error) {
	args := []string{
		"--etcd-servers=" + address("http", c.etcdPort),
		"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(c.port),
		"--cert-dir=" + c.path("certs"),
		"--token-auth-file=" + c.path(tokensFile),
		"--authorization-mode=RBAC",
		// Nothing makes service accounts here, so pods must do without.
		"--disable-admission-plugins=ServiceAccount",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.path(keyFile), "--service-account-signing-key-file=" + c.path(keyFile),
		"--service-cluster-ip-range=10.96.0.0/12",
		// A loopback address is no endpoint for the service kubernetes.
		"--endpoint-reconciler-type=none",
	}
	return process.Start(c.logPath(serverName), filepath.Join(c.bin, serverName), append(args, c.opts.APIServerFlags...)...)
}

// awaitServer returns when the API server is ready, and a request of the
// administrator is authorized.
func (c *ControlPlane) awaitServer(ctx context.Context, server *process.Process) error {
	return server.Await(ctx, func(ctx context.Context) error {
		// The server writes it when it starts for the first time.
		if _, err := os.Stat(c.certPath()); err != nil {
			return err
		}
		client, host, err := c.admin()
		if err != nil {
			return err
		}
		_, err = loopback.Ask(ctx, client, http.MethodGet, host+"/readyz", nil)
		return err
	})
}

// admin is a client of the administrator, and the server's URL.
func (c *ControlPlane) admin() (*http.Client, string, error) {
	config, err := c.Config(Admin)
	if err != nil {
		return nil, "", err
	}
	client, err := rest.HTTPClientFor(config)
	return client, config.Host, err
}

// Requests counts the requests that the API server has answered since it was
// started last, by its own metric apiserver_request_total: those that have
// all the labels given, such as verb, resource and code.
func (c *ControlPlane) Requests(ctx context.Context, labels map[string]string) (int, error) {
	client, host, err := c.admin()
	if err != nil {
		return 0, err
	}
	families, err := metrics.Get(ctx, client, host+"/metrics")
	if err != nil {
		return 0, fmt.Errorf("count the API server's requests: %w", err)
	}
	return int(families.Sum("apiserver_request_total", labels)), nil
}
