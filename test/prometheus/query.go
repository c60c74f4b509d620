// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/prometheus/common/model"

	"labelstream/test/loopback"
	"labelstream/test/metrics"
)

// Query returns the present value of a PromQL expression whose value is an
// instant vector, in the order in which Prometheus gives it.
func (s *Server) Query(ctx context.Context, promql string) (model.Vector, error) {
	body, err := s.get(ctx, "/api/v1/query?"+url.Values{"query": {promql}}.Encode())
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", promql, err)
	}
	var answer struct{ Data struct{ Result model.Vector } }
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("query %s: read the answer: %w", promql, err)
	}
	return answer.Data.Result, nil
}

// Metrics are the server's own.
func (s *Server) Metrics(ctx context.Context) (metrics.Families, error) {
	return metrics.Get(ctx, http.DefaultClient, s.url("/metrics"))
}

// Answers counts the answers to requests of remote_write by status code.
func (s *Server) Answers(ctx context.Context) (map[string]int, error) {
	families, err := s.Metrics(ctx)
	if err != nil {
		return nil, err
	}
	answers := make(map[string]int)
	for _, metric := range families["prometheus_http_requests_total"].GetMetric() {
		labels := make(map[string]string)
		for _, pair := range metric.GetLabel() {
			labels[pair.GetName()] = pair.GetValue()
		}
		// Some codes are there from the start, at zero.
		if n := int(metric.GetCounter().GetValue()); n > 0 && labels["handler"] == "/api/v1/write" {
			answers[labels["code"]] = n
		}
	}
	return answers, nil
}

func (s *Server) get(ctx context.Context, path string) ([]byte, error) {
	return loopback.Ask(ctx, http.DefaultClient, http.MethodGet, s.url(path), nil)
}
