package controlplane

import (
	"bytes"
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
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return c.etcd.Await(ctx, func(ctx context.Context) error {
		_, err := ask(ctx, client, http.MethodGet, loopback("http", c.etcdPort)+"/health", nil)
		return err
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
		_, err = ask(ctx, client, http.MethodGet, config.Host+"/readyz", nil)
		return err
	})
}

// ask sends a request, and returns what an answer of 200 says. Any other is an
// error.
func ask(ctx context.Context, client *http.Client, method, url string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, said)
	}
	return said, err
}
