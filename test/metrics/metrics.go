// SPDX-License-Identifier: Apache-2.0

// Package metrics reads what servers say of themselves at /metrics.
package metrics

import (
	"bytes"
	"context"
	"fmt"
	"net/http"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"labelstream/test/loopback"
)

// Families are a server's metrics by name.
type Families map[string]*dto.MetricFamily

// Get asks a server for its metrics.
func Get(ctx context.Context, client *http.Client, url string) (Families, error) {
	text, err := loopback.Ask(ctx, client, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
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
		found := 0
		for _, pair := range metric.GetLabel() {
			if want, asked := labels[pair.GetName()]; asked && want == pair.GetValue() {
				found++
			}
		}
		if found == len(labels) {
			total += metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + metric.GetUntyped().GetValue()
		}
	}
	return total
}
