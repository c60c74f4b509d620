package emitter

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"labelstream/config"
)

const (
	// maxWords is how much of a receiver's answer is read.
	maxWords = 4 << 10
	// maxRetryAfter bounds how long a receiver can make us wait, so that one
	// wrong date does not stop the sending.
	maxRetryAfter = 5 * time.Minute
)

// verdict is what an answer means for the batch.
type verdict int

const (
	// accepted: the receiver has it.
	accepted verdict = iota
	// conflict: the receiver has newer samples.
	conflict
	// again: the same bytes may be accepted later.
	again
	// refused: the same bytes will never be accepted.
	refused
	// rejected: no bytes will be accepted before a setting is changed.
	rejected
)

// answer is what came of one attempt.
type answer struct {
	verdict verdict
	// class is the same for failures of the same kind, from a small set.
	class string
	// err says what the failure was, nil where there is none.
	err error
	// after is the Retry-After, zero without one.
	after time.Duration
}

// client makes single attempts.
type client struct {
	http *http.Client
	url  string
	// name is the URL without what may be secret, for logs and errors.
	name    string
	agent   string
	timeout time.Duration
	now     func() time.Time
	// pool is the transport where it is the client's own.
	pool *http.Transport
}

func newClient(cfg *config.Delivery, opts Options, senders int) *client {
	c := &client{
		url:     cfg.Destination.String(),
		name:    redact(cfg.Destination.URL),
		agent:   opts.UserAgent,
		timeout: cfg.SendTimeout,
		now:     opts.Now,
	}
	transport := opts.Transport
	if transport == nil {
		c.pool = newTransport(senders)
		transport = c.pool
	}
	c.http = &http.Client{
		Transport: transport,
		// A redirected POST may arrive as a GET, and credentials would follow
		// to wherever it leads.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

func newTransport(senders int) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		DisableCompression:    true,
		MaxIdleConns:          senders,
		MaxIdleConnsPerHost:   senders,
		IdleConnTimeout:       5 * time.Minute,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
}

// close ends the connections of the client's own pool.
func (c *client) close() {
	if c.pool != nil {
		c.pool.CloseIdleConnections()
	}
}

// redact leaves scheme, host and path.
func redact(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

// send makes one attempt, of SendTimeout at most. While reading is above zero,
// payload must not change.
func (c *client) send(ctx context.Context, payload []byte, reading *atomic.Int32) answer {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := c.request(ctx, payload, reading)
	if err != nil {
		return c.failed(ctx, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.failed(ctx, err)
	}
	defer resp.Body.Close()
	// Reading to the end lets the connection be used again; an answer too long
	// for that closes it.
	words, _ := io.ReadAll(io.LimitReader(resp.Body, maxWords))
	return c.classify(resp, words)
}

func (c *client) request(ctx context.Context, payload []byte, reading *atomic.Int32) (*http.Request, error) {
	open := func() (io.ReadCloser, error) {
		reading.Add(1)
		return &body{Reader: bytes.NewReader(payload), reading: reading}, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, nil)
	if err != nil {
		return nil, err
	}
	req.Body, _ = open()
	req.GetBody = open
	req.ContentLength = int64(len(payload))
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
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

// failed is an attempt without an answer.
func (c *client) failed(ctx context.Context, err error) answer {
	// Its text would hold the URL with all that is secret in it.
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	class := classOf(err)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		class = "timeout"
		err = fmt.Errorf("no answer within %v: %w", c.timeout, err)
	}
	return answer{verdict: again, class: class, err: fmt.Errorf("send to %s: %w", c.name, err)}
}

// classOf names the kind of a connection's failure. The error's own text would
// not do, for it holds addresses and ports that change.
func classOf(err error) string {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "name resolution"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "certificate"
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return "timeout"
	}
	return "connection"
}

// classify reads an answer as the delivery table of the design.
func (c *client) classify(resp *http.Response, words []byte) answer {
	code := resp.StatusCode
	a := answer{verdict: verdictOf(code), class: strconv.Itoa(code)}
	if a.verdict == accepted || a.verdict == conflict {
		return a
	}
	said := ""
	if text := strings.TrimSpace(string(words)); text != "" {
		// Quoted: it ends up on terminals, and is not to be trusted.
		said = fmt.Sprintf(", receiver says %q", text)
	}
	hint := ""
	if a.verdict == rejected {
		hint = ": " + c.hint(resp)
	}
	a.err = fmt.Errorf("send to %s: status %d %s%s%s", c.name, code, http.StatusText(code), said, hint)
	if a.verdict == again {
		a.after = retryAfter(resp.Header.Get("Retry-After"), c.now())
	}
	return a
}

func verdictOf(code int) verdict {
	switch {
	case code/100 == 2:
		return accepted
	case code == http.StatusConflict:
		return conflict
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests:
		return again
	case code == http.StatusBadRequest, code == http.StatusRequestEntityTooLarge, code == http.StatusUnprocessableEntity:
		return refused
	case code/100 == 3, code/100 == 4:
		return rejected
	default:
		return again
	}
}

// hint says what to do about a rejection.
func (c *client) hint(resp *http.Response) string {
	switch {
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
		return "check the credentials for LABELSTREAM_DESTINATION"
	case resp.StatusCode == http.StatusNotFound:
		return "check the path of LABELSTREAM_DESTINATION"
	case resp.StatusCode/100 == 3:
		if to, err := resp.Location(); err == nil {
			return fmt.Sprintf("redirects are not followed, set LABELSTREAM_DESTINATION to the final URL (%s)", redact(to))
		}
		return "redirects are not followed, set LABELSTREAM_DESTINATION to the final URL"
	default:
		return "check that LABELSTREAM_DESTINATION takes Prometheus remote_write 1.0"
	}
}

// retryAfter reads a Retry-After header: seconds, or a date. It returns zero
// for none and for what has passed.
func retryAfter(header string, now time.Time) time.Duration {
	if header == "" {
		return 0
	}
	if seconds, err := strconv.ParseInt(header, 10, 64); err == nil {
		// Bounded before it is multiplied, which could overflow.
		return time.Duration(min(max(seconds, 0), int64(maxRetryAfter/time.Second))) * time.Second
	}
	date, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return min(max(0, date.Sub(now)), maxRetryAfter)
}
