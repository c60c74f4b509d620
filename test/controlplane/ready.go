package controlplane

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"

	"k8s.io/client-go/rest"

	"labelstream/test/process"
)

// awaitEtcd returns when etcd serves.
func (c *ControlPlane) awaitEtcd(ctx context.Context) error {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	return c.etcd.Await(ctx, func(ctx context.Context) error {
		return get(ctx, client, loopback("http", c.etcdPort)+"/health")
	})
}

// awaitServer returns when the API server is ready, and a request of the
// administrator is authorized.
func (c *ControlPlane) awaitServer(ctx context.Context, server *process.Process) error {
	return server.Await(ctx, func(ctx context.Context) error {
		// The server writes it when it starts for the first time.
		if _, err := os.Stat(c.certPath()); err != nil {
			return err
		}
		config, err := c.Config(Admin)
		if err != nil {
			return err
		}
		client, err := rest.HTTPClientFor(config)
		if err != nil {
			return err
		}
		return get(ctx, client, config.Host+"/readyz")
	})
}

// get asks for a URL and returns why the answer is not 200.
func get(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, said)
	}
	return nil
}
