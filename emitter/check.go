// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"labelstream/config"
)

// CheckMetric names the series of the sample that Check sends.
const CheckMetric = "labelstream_check"

// CheckAnswer is what a destination does with one sample.
type CheckAnswer struct {
	// Protocol is the version of the request, 2.0 or 1.0.
	Protocol config.Protocol
	// Err is nil where the sample was accepted.
	Err error
	// TLS is nil where there was no answer by TLS.
	TLS *tls.ConnectionState
	// Ahead is how far the destination's clock is ahead of this one's, to about a
	// second; zero where it does not say.
	Ahead time.Duration
}

// Check sends a sample with the value 1 as 2.0 and as 1.0, each once, whatever the
// setting PROTOCOL. The error says that nothing could be sent, as that of [New].
func Check(ctx context.Context, cfg *config.Delivery, userAgent string) ([]CheckAnswer, error) {
	c, err := newClient(cfg, userAgent)
	if err != nil {
		return nil, err
	}
	defer c.close()
	answers := []CheckAnswer{{Protocol: config.Protocol2}, {Protocol: config.Protocol1}}
	for i := range answers {
		if err := c.check(ctx, &answers[i]); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// check fills in the answer to one request.
func (c *client) check(ctx context.Context, answer *CheckAnswer) error {
	body, v, err := checkMessage(answer.Protocol, time.Now().UnixMilli())
	if err != nil {
		return fmt.Errorf("encode a sample: %w", err)
	}
	observed := *c
	observed.http = &http.Client{CheckRedirect: c.http.CheckRedirect, Transport: observer(func(req *http.Request) (*http.Response, error) {
		resp, err := c.http.Transport.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		answer.TLS = resp.TLS
		if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
			answer.Ahead = time.Until(date)
		}
		return resp, nil
	})}
	answer.Err = observed.post(ctx, message{version: v, body: snappy.Encode(nil, body), samples: 1, reading: new(atomic.Int32)}).err
	return nil
}

type observer func(*http.Request) (*http.Response, error)

func (o observer) RoundTrip(req *http.Request) (*http.Response, error) { return o(req) }

// checkMessage is a request with one sample of the time, in milliseconds of Unix time.
func checkMessage(protocol config.Protocol, at int64) (body []byte, v version, err error) {
	if protocol == config.Protocol1 {
		body, err = (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
			Labels:  []prompb.Label{{Name: "__name__", Value: CheckMetric}},
			Samples: []prompb.Sample{{Value: 1, Timestamp: at}},
		}}}).Marshal()
		return body, v1, err
	}
	body, err = (&writev2.Request{
		Symbols: []string{"", "__name__", CheckMetric},
		Timeseries: []writev2.TimeSeries{{
			LabelsRefs: []uint32{1, 2},
			Samples:    []writev2.Sample{{Value: 1, Timestamp: at}},
			Metadata:   writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_GAUGE},
		}},
	}).Marshal()
	return body, v2, err
}
