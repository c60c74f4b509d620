// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/oauth2"

	"labelstream/status/outage"
)

// maxRetryAfter bounds how long a receiver can make us wait.
const maxRetryAfter = 5 * time.Minute

// outcome is what an answer means for the records sent.
type outcome int

const (
	accepted      outcome = iota // all, or as much as the answer says
	refused                      // never accepted as they are
	retryable                    // perhaps accepted later
	misconfigured                // none is accepted before a setting is changed
)

// notSaid is where an answer does not say how many samples were written.
const notSaid = -1

// answer is what came of one request.
type answer struct {
	outcome outcome
	// status is the HTTP status, zero where no answer came.
	status int
	// written is the number of samples that a 2.0 receiver says it has; else
	// notSaid.
	written int
	// cause is the same for failures of the same kind, from a small set.
	cause string
	// err says what the failure was, or which samples are missing or too many; nil
	// where all is well.
	err error
	// after is how long to wait: the Retry-After, zero without one.
	after time.Duration
}

// outcomeOf is the table of what a status means by itself.
func outcomeOf(status int) outcome {
	switch {
	case status/100 == 2, status == http.StatusConflict: // the receiver has newer samples
		return accepted
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests:
		return retryable
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge, status == http.StatusUnprocessableEntity:
		return refused
	case status/100 == 3, status/100 == 4:
		return misconfigured
	default:
		return retryable
	}
}

// classify reads an answer as the delivery table of the design.
func (c *client) classify(resp *http.Response, text string, m message) answer {
	a := answer{outcome: outcomeOf(resp.StatusCode), status: resp.StatusCode, written: notSaid}
	if m.version == v2 {
		a.written = written(resp.Header)
	}
	note, hint := a.weigh(resp, m)
	if a.outcome == accepted && note == "" {
		return a
	}
	a.cause = strconv.Itoa(a.status) + note
	said := quote(strings.TrimSpace(c.redact(text, resp.Request)))
	err := fmt.Errorf("send to %s: status %d %s%s%s", c.name, a.status, http.StatusText(a.status), note, said)
	a.err = outage.WithHint(err, hint)
	if a.outcome == retryable {
		a.after = retryAfter(resp.Header.Get("Retry-After"))
	}
	return a
}

// quote makes a receiver's words fit to be logged: they end up on terminals, and are
// not to be trusted. Long ones lose their middle: the reason stands at either end.
func quote(text string) string {
	switch leftOut := len(text) - maxSaid; {
	case text == "":
		return ""
	case leftOut <= 0:
		return fmt.Sprintf(", receiver says %q", text)
	default:
		return fmt.Sprintf(", receiver says %q, %d bytes left out, %q", text[:maxSaid/2], leftOut, text[maxSaid/2+leftOut:])
	}
}

// weigh changes the outcome by what else the answer says. The note is for the
// error.
func (a *answer) weigh(resp *http.Response, m message) (note, hint string) {
	isSuccess := a.status/100 == 2
	if a.written >= m.samples && !isSuccess {
		// It refuses, and says that it has all: Mimir counts what it received.
		a.written = notSaid
	}
	switch {
	case a.outcome == misconfigured:
		return "", hintFor(resp)
	case a.status == http.StatusConflict || a.outcome == retryable:
	case isSuccess && a.written <= 0 && isHTML(resp.Header):
		a.outcome = misconfigured
		return " with a page of HTML", "this is not where the receiver is: check LABELSTREAM_DESTINATION and what stands before it"
	case isSuccess && m.version == v2 && a.written == notSaid:
		a.outcome = misconfigured
		return " without the samples written", "it does not speak remote_write 2.0; set LABELSTREAM_PROTOCOL to auto or 1.0"
	case a.written == m.samples && isSuccess:
	case a.written > 0:
		a.outcome = accepted
		return fmt.Sprintf(", %d of %d samples written", a.written, m.samples), ""
	case a.written == 0:
		a.outcome = refused
		return fmt.Sprintf(", 0 of %d samples written", m.samples), ""
	}
	return "", ""
}

// written returns how many of the samples a receiver says it has. The header is
// in use in two spellings.
func written(header http.Header) int {
	const prefix = "X-Prometheus-Remote-Write-"
	for _, name := range []string{prefix + "Samples-Written", prefix + "Written-Samples"} {
		if n, err := strconv.Atoi(header.Get(name)); err == nil {
			return max(n, 0)
		}
	}
	return notSaid
}

func isHTML(header http.Header) bool {
	mediaType, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	return mediaType == "text/html"
}

// hintFor says what to do about a status that a setting causes.
func hintFor(resp *http.Response) string {
	switch {
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
		return "check the credentials for LABELSTREAM_DESTINATION"
	case resp.StatusCode == http.StatusNotFound:
		return "check the path of LABELSTREAM_DESTINATION"
	case resp.StatusCode/100 == 3:
		hint := "redirects are not followed, set LABELSTREAM_DESTINATION to the final URL"
		if to, err := resp.Location(); err == nil {
			hint += " (" + redactURL(to) + ")"
		}
		return hint
	default:
		return "check that LABELSTREAM_DESTINATION takes Prometheus remote_write"
	}
}

// retryAfter reads a Retry-After header: seconds, or a date. It returns zero
// for none and for what has passed.
func retryAfter(header string) time.Duration {
	if seconds, err := strconv.ParseInt(header, 10, 64); err == nil {
		// Bounded before it is multiplied, which could overflow.
		return time.Duration(min(max(seconds, 0), int64(maxRetryAfter/time.Second))) * time.Second
	}
	date, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return min(max(0, time.Until(date)), maxRetryAfter)
}

// failure is a request without an answer.
func (c *client) failure(ctx context.Context, err error) answer {
	// Its text would hold the URL with all that is secret in it.
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	a := answer{outcome: retryable, written: notSaid}
	hint := ""
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		a.cause, err = "timeout", fmt.Errorf("no answer within %v: %w", c.timeout, err)
	} else if a.cause, hint = causeOf(err); hint != "" {
		a.outcome = misconfigured
	}
	if token, ok := errors.AsType[*oauth2.RetrieveError](err); ok && hint != "" {
		// What the token server says may repeat the client's secret.
		err = fmt.Errorf("fetch an OAuth2 token: status %s", token.Response.Status)
	}
	a.err = outage.WithHint(fmt.Errorf("send to %s: %w", c.name, c.redactError(err)), hint)
	return a
}

// causeOf names the kind of a failed connection. The error's own text would not
// do, for it holds addresses and ports that change. The hint says which setting is
// wrong, "" where none is.
func causeOf(err error) (cause, hint string) {
	const credentials = "check the credentials for LABELSTREAM_DESTINATION"
	var timeout net.Error
	errno, isErrno := errors.AsType[syscall.Errno](err)
	switch {
	case is[*net.DNSError](err):
		return "name resolution", ""
	case is[*tls.CertificateVerificationError](err):
		return "certificate", "check LABELSTREAM_TLS_CA_FILE and the destination's certificate"
	case is[tls.RecordHeaderError](err), errors.Is(err, http.ErrSchemeMismatch):
		return "scheme", "nobody speaks TLS there: check the scheme and the port of LABELSTREAM_DESTINATION"
	case lacksCredentials(err):
		return "credentials", credentials
	// net/http has no type for it. Such a value is a file's with a line break in it.
	case strings.Contains(err.Error(), "invalid header field value"):
		return "header", credentials + " and its headers: one holds a line break, or what no header may"
	case isErrno:
		return errno.Error(), ""
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout", ""
	default:
		return "connection", ""
	}
}

// lacksCredentials tells whether there was nothing to authenticate with: a file
// that cannot be read, or a token that was not granted.
func lacksCredentials(err error) bool {
	token, ok := errors.AsType[*oauth2.RetrieveError](err)
	return is[*fs.PathError](err) || ok && token.Response != nil && outcomeOf(token.Response.StatusCode) != retryable
}

func is[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}
