// Package metrics reads what servers say of themselves at /metrics.
package metrics

import (
	"context"
	"fmt"
	"net/http"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Families are a server's metrics by name.
type Families map[string]*dto.MetricFamily

// Get asks a server for its metrics.
func Get(ctx context.Context, client *http.Client, url string) (Families, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("ask for metrics: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask for metrics: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask for metrics: %s: %s", url, resp.Status)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read the metrics of %s: %w", url, err)
	}
	return families, nil
}

// Sum adds up the counters and gauges of a name that have all the labels
// given. It is zero where there are none: most counters appear with the first
// thing that they count.
func (f Families) Sum(name string, labels map[string]string) float64 {
	total := 0.0
	for _, metric := range f[name].GetMetric() {
		if matches(metric, labels) {
			total += metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + metric.GetUntyped().GetValue()
		}
	}
	return total
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
