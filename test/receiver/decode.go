// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"errors"
	"fmt"
	"mime"
	"net/http"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// versions are what the header X-Prometheus-Remote-Write-Version says in each
// version of the protocol.
var versions = map[string]string{"1.0": "0.1.0", "2.0": "2.0.0"}

// checkHeaders tells the version of the protocol, and what the headers break
// of it.
func checkHeaders(r *http.Request) (string, []error) {
	var errs []error
	if r.Method != http.MethodPost {
		errs = append(errs, fmt.Errorf("method %s instead of POST", r.Method))
	}
	version, err := versionOf(r.Header.Get("Content-Type"))
	if err != nil {
		errs = append(errs, err)
	}
	for _, want := range []struct{ name, value string }{
		{"Content-Encoding", "snappy"},
		{"X-Prometheus-Remote-Write-Version", versions[version]},
	} {
		if got := r.Header.Get(want.name); got != want.value {
			errs = append(errs, fmt.Errorf("header %s is %q instead of %q", want.name, got, want.value))
		}
	}
	if r.UserAgent() == "" {
		errs = append(errs, errors.New("header User-Agent is missing"))
	}
	return version, errs
}

// versionOf reads the version from a Content-Type; where that says nothing it
// is 1.0, and the error says what is wrong.
func versionOf(contentType string) (string, error) {
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil || media != "application/x-protobuf" {
		return "1.0", fmt.Errorf("header Content-Type is %q instead of application/x-protobuf", contentType)
	}
	switch params["proto"] {
	case "", "prometheus.WriteRequest":
		return "1.0", nil
	case "io.prometheus.write.v2.Request":
		return "2.0", nil
	default:
		return "1.0", fmt.Errorf("header Content-Type names an unknown message: %q", contentType)
	}
}

func decode(version string, body []byte) ([]Series, error) {
	size, err := snappy.DecodedLen(body)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the body is not snappy: %w", err)
	case len(body) > maxBody || size > maxBody:
		return nil, fmt.Errorf("the body of %d bytes (%d uncompressed) is over %d", len(body), size, maxBody)
	}
	plain, err := snappy.Decode(nil, body)
	if err != nil {
		return nil, fmt.Errorf("the body is not snappy: %w", err)
	}
	if version == "2.0" {
		return decodeV2(plain)
	}
	return decodeV1(plain)
}

func decodeV1(plain []byte) ([]Series, error) {
	var message prompb.WriteRequest
	if err := message.Unmarshal(plain); err != nil {
		return nil, fmt.Errorf("the body is not a prometheus.WriteRequest: %w", err)
	}
	series := make([]Series, 0, len(message.Timeseries))
	for _, ts := range message.Timeseries {
		s := Series{Labels: make([]Label, 0, len(ts.Labels)), Samples: make([]Sample, 0, len(ts.Samples))}
		for _, l := range ts.Labels {
			s.Labels = append(s.Labels, Label{l.Name, l.Value})
		}
		for _, sample := range ts.Samples {
			s.Samples = append(s.Samples, Sample{sample.Timestamp, sample.Value})
		}
		series = append(series, s)
	}
	return series, nil
}

func decodeV2(plain []byte) ([]Series, error) {
	var message writev2.Request
	if err := message.Unmarshal(plain); err != nil {
		return nil, fmt.Errorf("the body is not an io.prometheus.write.v2.Request: %w", err)
	}
	if len(message.Symbols) == 0 || message.Symbols[0] != "" {
		return nil, errors.New("the symbols do not begin with an empty one")
	}
	series := make([]Series, 0, len(message.Timeseries))
	for i, ts := range message.Timeseries {
		labels, err := desymbolize(ts.LabelsRefs, message.Symbols)
		if err != nil {
			return nil, fmt.Errorf("series %d: %w", i, err)
		}
		s := Series{Labels: labels, Samples: make([]Sample, 0, len(ts.Samples))}
		for _, sample := range ts.Samples {
			s.Samples = append(s.Samples, Sample{sample.Timestamp, sample.Value})
		}
		series = append(series, s)
	}
	return series, nil
}

func desymbolize(refs []uint32, symbols []string) ([]Label, error) {
	if len(refs)%2 != 0 {
		return nil, fmt.Errorf("%d references do not make pairs", len(refs))
	}
	labels := make([]Label, 0, len(refs)/2)
	for i := 0; i < len(refs); i += 2 {
		if last := max(refs[i], refs[i+1]); int(last) >= len(symbols) {
			return nil, fmt.Errorf("reference %d to one of %d symbols", last, len(symbols))
		}
		labels = append(labels, Label{symbols[refs[i]], symbols[refs[i+1]]})
	}
	return labels, nil
}
