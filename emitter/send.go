package emitter

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	promconfig "github.com/prometheus/common/config"
	"golang.org/x/oauth2"

	"labelstream/config"
)

const (
	// maxWords is how much of a receiver's answer is read.
	maxWords = 4 << 10
	// maxRetryAfter bounds how long a receiver can make us wait, so that one
	// wrong date does not stop the sending.
	maxRetryAfter = 5 * time.Minute
)

// verdict is what an answer means for what was sent.
type verdict int

const (
	// accepted: the receiver has it.
	accepted verdict = iota
	// conflict: the receiver has newer samples.
	conflict
	// partial: the receiver has the samples that it says it has, and will not
	// take the others.
	partial
	// again: the same bytes may be accepted later.
	again
	// refused: the same bytes will never be accepted.
	refused
	// rejected: no bytes will be accepted before a setting is changed.
	rejected
	// deferred, expired and stopped are no answers: what was to be sent must
	// wait, has become too old, or has no time left.
	deferred
	expired
	stopped
)

// notSaid is where an answer does not say how many samples were written.
const notSaid = -1

// answer is what came of one attempt.
type answer struct {
	verdict verdict
	// status is the HTTP status, zero where no answer came.
	status int
	// written is the number of samples that a 2.0 receiver says it has.
	written int
	// class is the same for failures of the same kind, from a small set.
	class string
	// gone says that nobody listens at a neighbour.
	gone bool
	// err says what the failure was, nil where there is none.
	err error
	// words are the receiver's, without what is secret.
	words string
	// after is how long to wait: the Retry-After, zero without one.
	after time.Duration
	// requests is how many it took.
	requests int
}

// taken tells whether the receiver has any of it.
func (a *answer) taken() bool {
	return a.verdict == accepted || a.verdict == conflict || a.verdict == partial && a.written > 0
}

// client makes single attempts.
type client struct {
	http *http.Client
	url  string
	// name is the URL without what may be secret, for logs and errors.
	name    string
	agent   string
	timeout time.Duration
	// neighbour says that the destination is on this host, or in this pod.
	neighbour bool
	now       func() time.Time
	secrets   *secrets
}

// newClient fails where the settings of authentication or TLS cannot be used.
func newClient(cfg *config.Delivery, opts Options) (*client, error) {
	c := &client{
		url:       cfg.Destination.String(),
		name:      redact(cfg.Destination.URL),
		agent:     opts.UserAgent,
		timeout:   cfg.SendTimeout,
		neighbour: isLoopback(cfg.Destination.Hostname()),
		now:       opts.Now,
		secrets:   newSecrets(cfg),
	}
	transport := opts.Transport
	if transport == nil {
		var err error
		if transport, err = newTransport(cfg.HTTPClient); err != nil {
			return nil, fmt.Errorf("prepare sending to %s: %w", c.name, c.secrets.redactError(err))
		}
	}
	c.http = &http.Client{
		Transport: transport,
		// A redirected POST may arrive as a GET, and credentials would follow
		// to wherever it leads.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
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

// redact leaves scheme, host and path.
func redact(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

// payload is what one attempt sends.
type payload struct {
	version version
	body    []byte
	samples int
	// reading counts who reads body, which must not change meanwhile.
	reading *atomic.Int32
}

// send makes one attempt, of SendTimeout at most.
func (c *client) send(ctx context.Context, p payload) answer {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := c.request(ctx, p)
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
	return c.classify(resp, words, p)
}

func (c *client) request(ctx context.Context, p payload) (*http.Request, error) {
	open := func() (io.ReadCloser, error) {
		p.reading.Add(1)
		return &body{Reader: bytes.NewReader(p.body), reading: p.reading}, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, nil)
	if err != nil {
		return nil, err
	}
	req.Body, _ = open()
	req.GetBody = open
	req.ContentLength = int64(len(p.body))
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	if p.version == v2 {
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

// failed is an attempt without an answer.
func (c *client) failed(ctx context.Context, err error) answer {
	// Its text would hold the URL with all that is secret in it.
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	a := answer{verdict: again, class: classOf(err), written: notSaid}
	a.gone = c.neighbour && errors.Is(err, syscall.ECONNREFUSED)
	hint := ""
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		a.class = "timeout"
		err = fmt.Errorf("no answer within %v: %w", c.timeout, err)
	case a.class == classCertificate:
		a.verdict, hint = rejected, ": check LABELSTREAM_TLS_CA_FILE and the destination's certificate"
	case a.class == classCredentials:
		a.verdict, hint = rejected, ": check the credentials for LABELSTREAM_DESTINATION"
		if token, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
			err = fmt.Errorf("fetch an OAuth2 token: %s, the token server says %q",
				token.Response.Status, token.Body[:min(len(token.Body), maxWords)])
		}
	}
	a.err = fmt.Errorf("send to %s: %w%s", c.name, c.secrets.redactError(err), hint)
	return a
}

const (
	classCertificate = "certificate"
	classCredentials = "credentials"
)

// classOf names the kind of a connection's failure. The error's own text would
// not do, for it holds addresses and ports that change.
func classOf(err error) string {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "name resolution"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return classCertificate
	}
	if isCredentials(err) {
		return classCredentials
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return "timeout"
	}
	return "connection"
}

// isCredentials tells whether there was nothing to authenticate with: a file
// that cannot be read, or a token that was not granted.
func isCredentials(err error) bool {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return true
	}
	token, ok := errors.AsType[*oauth2.RetrieveError](err)
	return ok && token.Response != nil && verdictOf(token.Response.StatusCode) != again
}

// classify reads an answer as the delivery table of the design.
func (c *client) classify(resp *http.Response, words []byte, p payload) answer {
	code := resp.StatusCode
	a := answer{verdict: verdictOf(code), status: code, class: strconv.Itoa(code), written: notSaid}
	hint := ""
	if p.version == v2 {
		a.written = written(resp.Header)
		switch {
		case a.written == notSaid && a.verdict == accepted:
			a.verdict, a.class = rejected, "not 2.0"
			hint = ": it does not say what it wrote, so it does not speak remote_write 2.0; set LABELSTREAM_PROTOCOL to auto or 1.0"
		case a.written == notSaid || a.verdict == again || a.verdict == rejected:
		case a.written < p.samples:
			a.verdict, a.class = partial, "not_written"
			hint = fmt.Sprintf(": it has %d of %d samples", a.written, p.samples)
		default:
			a.verdict = accepted
		}
	}
	if a.verdict == accepted || a.verdict == conflict {
		return a
	}
	said := ""
	if a.words = strings.TrimSpace(c.secrets.redact(string(words), resp.Request)); a.words != "" {
		// Quoted: it ends up on terminals, and is not to be trusted.
		said = fmt.Sprintf(", receiver says %q", a.words)
	}
	if a.verdict == rejected && hint == "" {
		hint = ": " + c.hint(resp)
	}
	a.err = fmt.Errorf("send to %s: status %d %s%s%s", c.name, code, http.StatusText(code), said, hint)
	if a.verdict == again {
		a.after = retryAfter(resp.Header.Get("Retry-After"), c.now())
	}
	return a
}

// written returns how many samples a receiver says it has. The header
// is in use in two spellings.
func written(header http.Header) int {
	const prefix = "X-Prometheus-Remote-Write-"
	for _, name := range []string{prefix + "Samples-Written", prefix + "Written-Samples"} {
		if n, err := strconv.Atoi(header.Get(name)); err == nil {
			return max(n, 0)
		}
	}
	return notSaid
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
		return "check that LABELSTREAM_DESTINATION takes Prometheus remote_write"
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
