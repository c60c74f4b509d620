package controlplane

import (
	"context"
	"fmt"

	"k8s.io/client-go/rest"

	"labelstream/test/metrics"
)

const requestsMetric = "apiserver_request_total"

// Requests counts the requests that the API server has answered since it was
// started last, by its own metric apiserver_request_total: those that have
// all the labels given, such as verb, resource and code.
func (c *ControlPlane) Requests(ctx context.Context, labels map[string]string) (int, error) {
	config, err := c.Config(Admin)
	if err != nil {
		return 0, err
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return 0, fmt.Errorf("count the API server's requests: %w", err)
	}
	families, err := metrics.Get(ctx, client, config.Host+"/metrics")
	if err != nil {
		return 0, fmt.Errorf("count the API server's requests: %w", err)
	}
	return int(families.Sum(requestsMetric, labels)), nil
}
