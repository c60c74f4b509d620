package prometheus

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/prometheus/common/model"

	"labelstream/test/metrics"
)

// Query returns the present value of a PromQL expression whose value is an
// instant vector, in the order in which Prometheus gives it.
func (s *Server) Query(ctx context.Context, promql string) (model.Vector, error) {
	body, err := s.get(ctx, "/api/v1/query?"+url.Values{"query": {promql}}.Encode())
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", promql, err)
	}
	var answer struct {
		Data struct {
			ResultType string          `json:"resultType"`
			Result     json.RawMessage `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("query %s: read the answer: %w", promql, err)
	}
	if answer.Data.ResultType != model.ValVector.String() {
		return nil, fmt.Errorf("query %s: the result is a %s, not a vector", promql, answer.Data.ResultType)
	}
	var vector model.Vector
	if err := json.Unmarshal(answer.Data.Result, &vector); err != nil {
		return nil, fmt.Errorf("query %s: read the result: %w", promql, err)
	}
	return vector, nil
}

// Metrics are the server's own.
func (s *Server) Metrics(ctx context.Context) (metrics.Families, error) {
	return metrics.Get(ctx, s.client, s.url("/metrics"))
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

// get returns the body of an answer of 200; any other is an error.
func (s *Server) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url(path), nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", resp.Status, body)
	}
	return body, nil
}
