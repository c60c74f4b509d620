package controlplane

import (
	"context"
	"fmt"
	"net/http"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/client-go/rest"
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
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, config.Host+"/metrics", nil)
	if err != nil {
		return 0, fmt.Errorf("count the API server's requests: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("count the API server's requests: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("count the API server's requests: %s", resp.Status)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return 0, fmt.Errorf("count the API server's requests: read its metrics: %w", err)
	}
	total := 0.0
	for _, metric := range families[requestsMetric].GetMetric() {
		if matches(metric, labels) {
			total += metric.GetCounter().GetValue()
		}
	}
	return int(total), nil
}

func matches(metric *dto.Metric, labels map[string]string) bool {
	found := 0
	for _, pair := range metric.GetLabel() {
		want, asked := labels[pair.GetName()]
		if asked && want != pair.GetValue() {
			return false
		}
		if asked {
			found++
		}
	}
	return found == len(labels)
}
