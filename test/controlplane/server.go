package controlplane

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"k8s.io/client-go/rest"

	"labelstream/test/loopback"
	"labelstream/test/metrics"
	"labelstream/test/process"
)

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
