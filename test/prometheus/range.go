// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
)

// QueryRange returns the values of a PromQL expression at each step from one time to
// another.
func (s *Server) QueryRange(ctx context.Context, promql string, from, to time.Time, step time.Duration) (model.Matrix, error) {
	unix := func(at time.Time) string { return fmt.Sprintf("%.3f", float64(at.UnixMilli())/1000) }
	body, err := s.get(ctx, "/api/v1/query_range?"+url.Values{
		"query": {promql}, "start": {unix(from)}, "end": {unix(to)}, "step": {strconv.FormatFloat(step.Seconds(), 'f', -1, 64)},
	}.Encode())
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", promql, err)
	}
	var answer struct{ Data struct{ Result model.Matrix } }
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("query %s: read the answer: %w", promql, err)
	}
	return answer.Data.Result, nil
}
