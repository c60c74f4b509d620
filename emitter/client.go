// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	promconfig "github.com/prometheus/common/config"

	"labelstream/config"
)

const (
	// maxBody is how much of a receiver's answer is read.
	maxBody = 64 << 10
	// maxSaid is how much of it is logged.
	maxSaid = 4 << 10
)

// client makes single requests.
type client struct {
	http *http.Client
	url  *url.URL
	// name is the URL without what may be secret, for logs and errors.
	name    string
	agent   string
	timeout time.Duration
	// secrets are those of the settings' URLs.
	secrets []string
}

// newClient fails where the settings of authentication or TLS cannot be used.
func newClient(cfg *config.Delivery, userAgent string) (*client, error) {
	c := &client{
		url:     cfg.Destination.URL,
		name:    redactURL(cfg.Destination.URL),
		agent:   userAgent,
		timeout: cfg.SendTimeout,
		secrets: secretsOf(cfg),
	}
	transport, err := newTransport(cfg.HTTPClient)
	if err != nil {
		return nil, fmt.Errorf("prepare sending to %s: %w", c.name, c.redactError(err))
	}
	c.http = &http.Client{
		Transport: transport,
		// A redirected POST may become a GET, and credentials would follow.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// newTransport makes a transport that authenticates, and reads files of
// credentials and certificates again when they have changed.
func newTransport(cfg *promconfig.HTTPClientConfig) (http.RoundTripper, error) {
	if cfg == nil {
		cfg = config.DefaultHTTPClient()
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return promconfig.NewRoundTripperFromConfig(*cfg, "remote_write",
		promconfig.WithDialContextFunc(dialer.DialContext), promconfig.WithIdleConnTimeout(5*time.Minute))
}

// close ends the connections that are idle.
func (c *client) close() { c.http.CloseIdleConnections() }

// message is what one request carries.
type message struct {
	version version
	body    []byte
	samples int
	// reading counts who reads body, which must not change meanwhile.
	reading *atomic.Int32
}

// post makes one request, of SendTimeout at most.
func (c *client) post(ctx context.Context, m message) answer {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	resp, err := c.http.Do(c.request(ctx, m))
	if err != nil {
		return c.failure(ctx, err)
	}
	defer resp.Body.Close()
	// Reading to the end lets the connection be used again; an answer too long
	// for that closes it.
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	return c.classify(resp, string(text), m)
}

func (c *client) request(ctx context.Context, m message) *http.Request {
	contentType, version := "application/x-protobuf", "0.1.0"
	if m.version == v2 {
		contentType, version = "application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"
	}
	open := func() (io.ReadCloser, error) {
		m.reading.Add(1)
		return &body{Reader: bytes.NewReader(m.body), reading: m.reading}, nil
	}
	req := &http.Request{
		Method: http.MethodPost,
		URL:    c.url,
		Header: http.Header{
			"Content-Type":                      {contentType},
			"Content-Encoding":                  {"snappy"},
			"User-Agent":                        {c.agent},
			"X-Prometheus-Remote-Write-Version": {version},
		},
		GetBody:       open,
		ContentLength: int64(len(m.body)),
	}
	req.Body, _ = open()
	return req.WithContext(ctx)
}

// body is a request's. A transport may read it even after it has returned the
// answer, until it closes it.
type body struct {
	*bytes.Reader
	reading *atomic.Int32
	closed  atomic.Bool
}

func (b *body) Close() error {
	if b.closed.CompareAndSwap(false, true) {
		b.reading.Add(-1)
	}
	return nil
}
