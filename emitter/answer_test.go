// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"labelstream/config"
	"labelstream/record"
	"labelstream/status/outage"
)

// took is what came of one record: the requests of each version, and whether it
// was accepted, refused or left unsent.
type took struct {
	V1, V2 int
	Result string
}

// Every status, said to all requests for 40 s by a receiver that speaks both
// versions afterwards.
func TestStatusMatrix(t *testing.T) {
	const (
		ok, no, unsent = "accepted", "refused", "unsent"
	)
	// Each version's setting, in a one-shot run that gives up after 30 s with an
	// attempt every 5 s, and in a long run.
	type row struct{ v1, v1Long, v2, v2Long, auto, autoLong took }
	same := func(v1, v2, auto took) row { return row{v1, v1, v2, v2, auto, auto} }
	var (
		// 2.0 without a word on what was written is no 2.0.
		success   = row{took{1, 0, ok}, took{1, 0, ok}, took{0, 6, unsent}, took{0, 2, ok}, took{1, 1, ok}, took{1, 1, ok}}
		conflicts = same(took{1, 0, ok}, took{0, 1, ok}, took{1, 1, ok})
		refuses   = same(took{1, 0, no}, took{0, 1, no}, took{1, 1, no})
		fails     = same(took{10, 0, ok}, took{0, 10, ok}, took{9, 10, ok})
		waits     = same(took{10, 0, ok}, took{0, 10, ok}, took{0, 10, ok})
		denies    = row{took{6, 0, unsent}, took{2, 0, ok}, took{0, 6, unsent}, took{0, 2, ok}, took{0, 6, unsent}, took{0, 2, ok}}
		rejects   = row{took{6, 0, unsent}, took{2, 0, ok}, took{0, 6, unsent}, took{0, 2, ok}, took{6, 6, unsent}, took{1, 2, ok}}
	)
	for status, want := range map[int]row{
		200: success, 202: success, 204: success, 409: conflicts, 400: refuses, 413: refuses, 422: refuses,
		500: fails, 502: fails, 504: fails, 599: fails, 503: waits, 408: waits, 429: waits,
		401: denies, 403: denies,
		301: rejects, 302: rejects, 304: rejects, 307: rejects, 308: rejects,
		404: rejects, 405: rejects, 415: rejects, 451: rejects,
	} {
		for _, c := range []struct {
			protocol config.Protocol
			long     bool
			want     took
		}{
			{config.Protocol1, false, want.v1}, {config.Protocol1, true, want.v1Long},
			{config.Protocol2, false, want.v2}, {config.Protocol2, true, want.v2Long},
			{config.ProtocolAuto, false, want.auto}, {config.ProtocolAuto, true, want.autoLong},
		} {
			bubble(t, fmt.Sprint(status, c.protocol, c.long), func(t *testing.T) {
				expect(t, "what it took", deliverOne(t, status, c.protocol, c.long), c.want)
			})
		}
	}
}

func deliverOne(t *testing.T, status int, protocol config.Protocol, long bool) (got took) {
	up := time.Now().Add(40 * time.Second)
	d := newDestination(func(int, request, *http.Request) (*http.Response, error) {
		if time.Now().Before(up) {
			return respond(status, "", "Location", "http://elsewhere/"), nil
		}
		return respond(200, "", samplesWritten, "2"), nil
	})
	settings := probing(5*time.Second, 30*time.Second)
	if long {
		settings = probing(time.Minute, 0)
	}
	h := newHarness(t, d, speaking(protocol), settings)
	h.put(newRecord(1, "a", "b"))
	h.Close()
	err := h.Run(t.Context())
	got.Result = map[[3]int64]string{{1, 0, 0}: "accepted", {0, 1, 0}: "refused", {0, 0, 1}: "unsent"}[[3]int64{
		h.Totals()["pods"].Accepted, h.Totals()["pods"].Refused, h.Unsent()}]
	if (err != nil) != (got.Result == "unsent") {
		t.Errorf("Run: %v, and the record is %s", err, got.Result)
	}
	for _, v := range d.versions() {
		if v == v1 {
			got.V1++
		} else {
			got.V2++
		}
	}
	return got
}

// Answers of a 2.0 receiver that says what it has of six samples, in three
// records. Its words are logged and change nothing.
func TestWritten(t *testing.T) {
	const ofAll, spelling = samplesWritten, "X-Prometheus-Remote-Write-Written-Samples"
	const auto, fixed = config.ProtocolAuto, config.Protocol2
	const refused, named = "error: The destination refused records reason=not_written records=", "error: The destination refused a record kind=pods name="
	odd := []string{"warning: The destination contradicts itself, records count as accepted"}
	each := []string{named + "p1 reason=bad_request", named + "p2 reason=bad_request", named + "p3 reason=bad_request"}
	for _, c := range []struct {
		name              string
		protocol          config.Protocol
		status            int
		header            string
		written           int
		accepted, refused int64
		versions          []version
		samples           float64
		// lines are logged, each with the answer.
		lines []string
	}{
		{"all", fixed, 204, ofAll, 6, 3, 0, []version{v2}, 6, nil},
		{"all in the other spelling", auto, 200, spelling, 6, 3, 0, []version{v2}, 6, nil},
		{"more than there are", fixed, 200, ofAll, 60, 3, 0, []version{v2}, 6, odd},
		{"one less", auto, 204, ofAll, 5, 2, 1, []version{v2}, 5, []string{refused + "1"}},
		{"some of a refusal", fixed, 400, ofAll, 4, 2, 1, []version{v2}, 4, []string{refused + "1"}},
		{"half of a refusal", fixed, 422, ofAll, 3, 1, 2, []version{v2}, 3, []string{refused + "2"}},
		{"all of a refusal", fixed, 400, ofAll, 6, 0, 3, []version{v2, v2, v2, v2, v2}, 0, each},
		{"none of a refusal", fixed, 400, ofAll, 0, 0, 3, []version{v2, v2, v2, v2, v2}, 0, each},
		{"more of a refusal than there are", fixed, 400, ofAll, 60, 0, 3, []version{v2, v2, v2, v2, v2}, 0, each},
		{"less than none", fixed, 200, ofAll, -5, 0, 3, []version{v2}, 0, []string{refused + "3"}},
		{"none of a success", fixed, 200, ofAll, 0, 0, 3, []version{v2}, 0, []string{refused + "3"}},
		{"some, and a conflict", fixed, 409, ofAll, 4, 3, 0, []version{v2}, 6, nil},
		{"some, and an error", fixed, 500, ofAll, 4, 3, 0, []version{v2, v2}, 6, []string{"warning: Cannot send", "info: Sending again after=100ms"}},
		{"some of a refusal, with 1.0 to be asked first", auto, 400, ofAll, 4, 3, 0, []version{v2, v1}, 6, nil},
		{"none of a success, with 1.0 to be asked first", auto, 200, ofAll, 0, 3, 0, []version{v2, v1}, 6, nil},
	} {
		bubble(t, c.name, func(t *testing.T) {
			const words = `series {namespace="", pod="p2"} is bad`
			d := newDestination(func(n int, r request, req *http.Request) (*http.Response, error) {
				if r.Version == v1 || c.status == 500 && n > 0 {
					return codes(200)(n, r, req)
				}
				return respond(c.status, words, c.header, strconv.Itoa(c.written)), nil
			})
			h := newHarness(t, d, speaking(c.protocol), batchSize(3))
			h.deliver(newRecord(1, "a", "a2"), newRecord(2, "b", "b2"), newRecord(3, "c", "c2"))
			expect(t, "versions", d.versions(), c.versions)
			expect(t, "totals", h.Totals()["pods"], Totals{Accepted: c.accepted, Refused: c.refused})
			expect(t, "samples", testutil.ToFloat64(h.stats.samplesSent), c.samples)
			var lines []string
			for _, line := range h.lines() {
				message, text, _ := strings.Cut(line, " error=")
				lines = append(lines, message)
				want := fmt.Sprintf("send to http://destination/write: status %d %s, %d of 6 samples written, receiver says %q",
					c.status, http.StatusText(c.status), max(c.written, 0), words)
				if len(d.got()) == 1 && text != want {
					t.Errorf("the log says %q, want %q", text, want)
				}
			}
			expect(t, "log", lines, c.lines)
		})
	}
}

// Where nobody knows of which kind the refused records are, none is blamed.
func TestWrittenOfSeveralKinds(t *testing.T) {
	d := newDestination(func(int, request, *http.Request) (*http.Response, error) {
		return respond(204, "", samplesWritten, "2"), nil
	})
	h := newHarness(t, d, speaking(config.Protocol2), batchSize(3))
	node := newRecord(3, "c")
	node.Kind = nodes
	h.deliver(newRecord(1, "a"), newRecord(2, "b"), node)
	expect(t, "totals", h.Totals(), map[string]Totals{"pods": {Accepted: 2}, "nodes": {Accepted: 1}, "": {Refused: 1}})
}

// What is a matter of settings is not tried again as if it would pass.
func TestMisconfigured(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<html>Please log in")
	})
	plain, secure := httptest.NewServer(handler), httptest.NewUnstartedServer(handler)
	defer plain.Close()
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	token := writeFile(t, "first-line\nsecond-line\n")
	const credentials = "check the credentials for LABELSTREAM_DESTINATION"
	for _, c := range []struct {
		name, url, token string
		err, hint        string
	}{
		{"https to an http port", strings.Replace(plain.URL, "http:", "https:", 1), "", "http: server gave HTTP response to HTTPS client",
			"nobody speaks TLS there: check the scheme and the port of LABELSTREAM_DESTINATION"},
		{"a page of HTML", plain.URL, "", `status 200 OK with a page of HTML, receiver says "<html>Please log in"`,
			"this is not where the receiver is: check LABELSTREAM_DESTINATION and what stands before it"},
		{"a token with a line break", plain.URL, token, `net/http: invalid header field value for "Authorization"`,
			credentials + " and its headers: one holds a line break, or what no header may"},
		{"no file with the token", plain.URL, "/none", "unable to read authorization credentials: unable to read file /none: open /none: no such file or directory", credentials},
		{"another authority's certificate", secure.URL, "", "tls: failed to verify certificate: x509: certificate signed by unknown authority",
			"check LABELSTREAM_TLS_CA_FILE and the destination's certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t, nil, sendingTo(c.url, bearer(c.token)), speaking(config.ProtocolAuto), probing(ms, ms))
			h.put(newRecord(1, "a"))
			h.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			err := h.Run(ctx)
			expect(t, "error", fmt.Sprint(err), fmt.Sprintf("1 records unsent: gave up after 1ms: send to %s: %s", c.url, c.err))
			expect(t, "hint", outage.Hint(err), c.hint)
		})
	}
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // It is midnight of 1 January 2000.
		for header, want := range map[string]time.Duration{
			"":                              0,
			"0":                             0,
			"-5":                            0,
			"1":                             time.Second,
			"301":                           5 * time.Minute,
			"9223372036854775807":           5 * time.Minute,
			"99999999999999999999":          0,
			"soon":                          0,
			"Sat, 01 Jan 2000 00:00:42 GMT": 42 * time.Second,
			"Fri, 31 Dec 1999 23:00:00 GMT": 0,
			"Sat, 01 Jan 2000 01:00:00 GMT": 5 * time.Minute,
		} {
			expect(t, fmt.Sprintf("%q", header), retryAfter(header), want)
		}
	})
}

func TestCauseOf(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{&net.OpError{Op: "dial", Err: &net.DNSError{Name: "a", Err: "no such host"}}, "name resolution"},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, "connection reset by peer"},
		{&net.OpError{Op: "dial", Err: &tls.CertificateVerificationError{Err: errors.New("unknown")}}, "certificate"},
		{tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, "scheme"},
		{errors.New("anything else"), "connection"},
	} {
		cause, _ := causeOf(tc.err)
		expect(t, fmt.Sprint(tc.err), cause, tc.want)
	}
}

// A long answer is logged by its beginning and its end. What is beyond 64 KiB is not
// read, so that no answer takes much memory.
func TestLongAnswers(t *testing.T) {
	for size, want := range map[int]string{
		4096:    strconv.Quote("begin" + strings.Repeat("-", 4096-13) + "reason\nx"),
		6 << 10: fmt.Sprintf("%q, 2048 bytes left out, %q", "begin"+strings.Repeat("-", 2043), strings.Repeat("-", 2040)+"reason\nx"),
		1 << 20: fmt.Sprintf("%q, 61440 bytes left out, %q", "begin"+strings.Repeat("-", 2043), strings.Repeat("-", 2048)),
	} {
		d := newDestination(func(int, request, *http.Request) (*http.Response, error) {
			return respond(400, "begin"+strings.Repeat("-", size-13)+"reason\nx"), nil
		})
		h := newHarness(t, d)
		h.deliver(newRecord(1, "a"))
		expect(t, "log", h.lines(), []string{"error: The destination refused a record kind=pods name=p1 reason=bad_request " +
			"error=send to http://destination/write: status 400 Bad Request, receiver says " + want})
	}
}

// Where a record is refused that has a name beyond the classic ones, the log says
// what to do if that is the reason.
func TestHintOnNames(t *testing.T) {
	const hint = ` hint=its label name "label_a.example/b" has more than letters, digits and _: ` +
		"if the destination knows no such names, set LABELSTREAM_NAMES=underscore"
	for _, c := range []struct {
		status  int
		label   string
		records int
		want    string
	}{{400, "label_a.example/b", 1, hint}, {422, "label_a.example/b", 1, hint}, {413, "label_a.example/b", 1, ""}, {400, "label_b", 1, ""}, {400, "label_a.example/b", 2, ""}} {
		h := newHarness(t, newDestination(codes(c.status)), batchSize(c.records), func(s *config.Delivery, _ *Options) { s.OnRefused = config.OnRefusedDrop })
		rec := newRecord(1, "a", "b")
		rec.Series = record.AppendLabel(record.AppendCount(rec.Series, 1), c.label, "c")
		rec.Count++
		h.deliver([]*record.Record{rec, rec}[:c.records]...)
		for _, line := range h.lines() {
			_, got, _ := strings.Cut(line, http.StatusText(c.status))
			expect(t, fmt.Sprint("hint on ", c.status, c.label), got, c.want)
		}
	}
}

// A transport may read a body after it has answered; the encoder must know.
func TestBodyIsReadUntilClosed(t *testing.T) {
	var kept []io.ReadCloser
	transport := roundTripper(func(req *http.Request) (*http.Response, error) {
		again, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		kept = append(kept, req.Body, again)
		return respond(200, ""), nil
	})
	var reading atomic.Int32
	m := message{version: v1, body: []byte("message"), reading: &reading}
	expect(t, "outcome", newHarness(t, transport).client.post(t.Context(), m).outcome, accepted)
	for left := len(kept); left > 0; left-- {
		expect(t, "readers", reading.Load(), int32(left))
		body := kept[left-1]
		text, err := io.ReadAll(body)
		if err != nil || string(text) != "message" {
			t.Errorf("read %q, %v", text, err)
		}
		_ = body.Close()
		_ = body.Close()
	}
	expect(t, "readers", reading.Load(), 0)
}

// A receiver's answer is read up to a limit, and so far that the next request uses
// the same connection, which Run closes.
func TestConnections(t *testing.T) {
	closed := make(chan struct{})
	var connections, requests atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := requests.Add(1)
		w.WriteHeader([]int{409, 200, 400}[(n-1)%3])
		_, _ = io.WriteString(w, strings.Repeat("x", 1000*int(n)))
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			connections.Add(1)
		case http.StateClosed:
			close(closed)
		}
	}
	s.Start()
	defer s.Close()
	h := newHarness(t, nil, sendingTo(s.URL, nil))
	h.deliver(records("a", "b", "c", "d", "e")...)
	<-closed
	expect(t, "requests", requests.Load(), 3)
	expect(t, "connections", connections.Load(), 1)
	want := fmt.Sprintf("error: The destination refused a record kind=pods name=p5 reason=bad_request "+
		"error=send to %s: status 400 Bad Request, receiver says %q", s.URL, strings.Repeat("x", 3000))
	expect(t, "log", h.lines(), []string{want})
}
