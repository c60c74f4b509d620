package emitter

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	promconfig "github.com/prometheus/common/config"

	"labelstream/config"
)

// maxBody is how much of a receiver's answer is read.
const maxBody = 4 << 10

// client makes single requests.
type client struct {
	http *http.Client
	url  string
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
		url:     cfg.Destination.String(),
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
		// A redirected POST may arrive as a GET, and credentials would follow
		// to wherever it leads.
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
	req, err := c.request(ctx, m)
	if err != nil {
		return c.failure(ctx, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.failure(ctx, err)
	}
	defer resp.Body.Close()
	// Reading to the end lets the connection be used again; an answer too long
	// for that closes it.
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	return c.classify(resp, string(text), m)
}

func (c *client) request(ctx context.Context, m message) (*http.Request, error) {
	open := func() (io.ReadCloser, error) {
		m.reading.Add(1)
		return &body{Reader: bytes.NewReader(m.body), reading: m.reading}, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, nil)
	if err != nil {
		return nil, err
	}
	req.Body, _ = open()
	req.GetBody = open
	req.ContentLength = int64(len(m.body))
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	if m.version == v2 {
		req.Header.Set("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
		req.Header.Set("X-Prometheus-Remote-Write-Version", "2.0.0")
	}
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("User-Agent", c.agent)
	return req, nil
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
