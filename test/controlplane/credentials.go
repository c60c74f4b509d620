package controlplane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"slices"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const (
	tokensFile = "tokens.csv"
	keyFile    = "service-account.key"
)

// writeCredentials writes the users' tokens and the key that signs those of
// service accounts.
func (c *ControlPlane) writeCredentials() error {
	var tokens strings.Builder
	fmt.Fprintf(&tokens, "%s,%s,%s,system:masters\n", token(Admin), Admin, Admin)
	for _, user := range c.opts.Users {
		fmt.Fprintf(&tokens, "%s,%s,%s\n", token(user), user, user)
	}
	if err := os.WriteFile(c.path(tokensFile), []byte(tokens.String()), 0o600); err != nil {
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
