package emitter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

func testLogger() (logrus.FieldLogger, *logtest.Hook) {
	logger, hook := logtest.NewNullLogger()
	logger.SetLevel(logrus.DebugLevel)
	return logger, hook
}

// server is a destination behind a real connection.
type server struct {
	*httptest.Server
	mu      sync.Mutex
	headers []http.Header
	bodies  [][]byte
	// connections are the addresses that requests came from.
	connections map[string]struct{}
}

func newServer(t *testing.T, answer func(n int, w http.ResponseWriter)) *server {
	t.Helper()
	s := &server{connections: map[string]struct{}{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read request: %v", err)
		}
		s.mu.Lock()
		n := len(s.bodies)
		s.bodies = append(s.bodies, body)
		s.headers = append(s.headers, r.Header)
		s.connections[r.RemoteAddr] = struct{}{}
		s.mu.Unlock()
		answer(n, w)
	}))
	t.Cleanup(s.Close)
	return s
}

// Every status, once as the first answer: how many requests it takes in all,
// and what becomes of the records.
func TestStatusCodes(t *testing.T) {
	type result struct {
		Requests int
		Outcome  Outcome
		Setting  bool
	}
	acceptedAtOnce := result{1, Accepted, false}
	afterRetry := result{2, Accepted, false}
	dropped := result{1, Refused, false}
	afterProbe := result{2, Accepted, true}
	for code, want := range map[int]result{
		200: acceptedAtOnce, 202: acceptedAtOnce, 204: acceptedAtOnce, 409: acceptedAtOnce,
		408: afterRetry, 429: afterRetry, 500: afterRetry, 502: afterRetry, 503: afterRetry, 504: afterRetry, 599: afterRetry,
		400: dropped, 413: dropped, 422: dropped,
		301: afterProbe, 302: afterProbe, 304: afterProbe, 307: afterProbe, 308: afterProbe,
		401: afterProbe, 403: afterProbe, 404: afterProbe, 405: afterProbe, 415: afterProbe, 451: afterProbe,
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			s := newServer(t, func(n int, w http.ResponseWriter) {
				if n > 0 {
					return
				}
				if code/100 == 3 {
					w.Header().Set("Location", "/elsewhere")
				}
				w.WriteHeader(code)
			})
			h := newHarness(testConfig(t, s.URL), Options{ProbeInterval: time.Millisecond}, 1)
			h.jitter = func(time.Duration) time.Duration { return time.Millisecond }
			h.put(t, newRecord(1, "a", "b"))
			h.Close()
			expect(t, "Run", h.Run(t.Context()), nil)
			setting := strings.Contains(fmt.Sprint(h.lines()), "rejects the settings")
			expect(t, "result", result{len(s.bodies), onlyOutcome(t, h), setting}, want)
			if len(s.bodies) == 2 && string(s.bodies[0]) != string(s.bodies[1]) {
				t.Error("what was sent again differs")
			}
		})
	}
}

// onlyOutcome is that of the one record.
func onlyOutcome(t *testing.T, h *harness) Outcome {
	t.Helper()
	if len(h.outcomes) != 1 {
		t.Fatalf("outcomes %v, want one", h.outcomes)
	}
	for outcome, items := range h.outcomes {
		expect(t, "items", items, []Item{{Kind: pods, Key: 1, Series: 2}})
		return outcome
	}
	return -1
}

func TestRequest(t *testing.T) {
	s := newServer(t, func(int, http.ResponseWriter) {})
	cfg := testConfig(t, strings.Replace(s.URL, "http://", "http://user:secret@", 1))
	h := newHarness(cfg, Options{}, 1)
	h.put(t, newRecord(1, "a"))
	h.Close()
	expect(t, "Run", h.Run(t.Context()), nil)
	expect(t, "headers", s.headers, []http.Header{{
		"Content-Type":                      {"application/x-protobuf"},
		"Content-Encoding":                  {"snappy"},
		"X-Prometheus-Remote-Write-Version": {"0.1.0"},
		"User-Agent":                        {"labelstream/test"},
		"Authorization":                     {"Basic dXNlcjpzZWNyZXQ="},
		"Content-Length":                    {fmt.Sprint(len(s.bodies[0]))},
	}})
}

// Answers are read so far that the next request uses the same connection.
func TestConnectionIsUsedAgain(t *testing.T) {
	s := newServer(t, func(n int, w http.ResponseWriter) {
		if n%2 == 0 {
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = io.WriteString(w, "a few words")
	})
	h := newHarness(testConfig(t, s.URL), Options{}, 1)
	h.start(t.Context())
	for key := range uint64(20) {
		h.put(t, newRecord(key, "a"))
	}
	h.Close()
	expect(t, "Run", <-h.done, nil)
	expect(t, "requests", len(s.bodies), 10)
	expect(t, "connections", len(s.connections), 1)
}

// Run leaves no connection behind.
func TestRunClosesConnections(t *testing.T) {
	closed := make(chan struct{})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			close(closed)
		}
	}
	s.Start()
	defer s.Close()
	h := newHarness(testConfig(t, s.URL), Options{}, 1)
	h.put(t, newRecord(1, "a"))
	h.Close()
	expect(t, "Run", h.Run(t.Context()), nil)
	<-closed
}

// Nothing that may be secret is in an error or in the log, whatever goes wrong.
func TestSecretsAreNotTold(t *testing.T) {
	const canary = "canary"
	broken := make(chan struct{})
	s := newServer(t, func(n int, w http.ResponseWriter) {
		switch n {
		case 0:
			w.Header().Set("Location", "http://user:"+canary+"@elsewhere/path?token="+canary)
			w.WriteHeader(http.StatusFound)
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2:
			w.WriteHeader(http.StatusBadRequest)
		case 4:
			// The attempt before this one has broken off, and was logged.
			close(broken)
			panic(http.ErrAbortHandler)
		default:
			panic(http.ErrAbortHandler)
		}
	})
	cfg := testConfig(t, strings.Replace(s.URL, "http://", "http://user:"+canary+"@", 1)+"/write?token="+canary)
	h := newHarness(cfg, Options{ProbeInterval: time.Millisecond}, 1)
	h.jitter = func(time.Duration) time.Duration { return time.Millisecond }
	ctx, cancel := context.WithCancel(t.Context())
	for key := range uint64(4) {
		h.put(t, newRecord(key, "a"))
	}
	h.Close()
	h.start(ctx)
	<-broken
	cancel()
	err := <-h.done
	entries := h.logs.AllEntries()
	for _, entry := range entries {
		text, formatErr := entry.String()
		if formatErr != nil {
			t.Fatal(formatErr)
		}
		if strings.Contains(text, canary) {
			t.Errorf("the log tells the secret: %s", text)
		}
	}
	if err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("Run: %v", err)
	}
	lines := strings.Join(h.lines(), "\n")
	for _, want := range []string{"final URL (http://elsewhere/path)", "503", "400", "EOF"} {
		if !strings.Contains(lines, want) {
			t.Errorf("no %q in the log:\n%s", want, lines)
		}
	}
}

// A receiver's answer is read up to a limit.
func TestLongAnswer(t *testing.T) {
	s := newServer(t, func(_ int, w http.ResponseWriter) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, strings.Repeat("x", 1<<20))
	})
	h := newHarness(testConfig(t, s.URL), Options{}, 1)
	h.put(t, newRecord(1, "a"))
	h.Close()
	expect(t, "Run", h.Run(t.Context()), nil)
	want := fmt.Sprintf("error: The destination refused records, they are dropped: "+
		"send to %s: status 400 Bad Request, receiver says %q (1 records)", s.URL, strings.Repeat("x", maxWords))
	if diff := cmp.Diff([]string{want}, h.lines()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		"-5":                            0,
		"1":                             time.Second,
		"300":                           5 * time.Minute,
		"301":                           5 * time.Minute,
		"9223372036854775807":           5 * time.Minute,
		"99999999999999999999":          0,
		"1.5":                           0,
		"soon":                          0,
		"Sun, 01 Mar 2026 12:00:42 GMT": 42 * time.Second,
		"Sun, 01 Mar 2026 11:00:00 GMT": 0,
		"Sun, 01 Mar 2026 13:00:00 GMT": 5 * time.Minute,
	} {
		expect(t, fmt.Sprintf("%q", header), retryAfter(header, now), want)
	}
}

func TestClassOf(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{&net.OpError{Op: "dial", Err: &net.DNSError{Name: "a", Err: "no such host"}}, "name resolution"},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, "connection reset by peer"},
		{context.DeadlineExceeded, "timeout"},
		{errors.New("anything else"), "connection"},
	} {
		expect(t, fmt.Sprint(tc.err), classOf(tc.err), tc.want)
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
	c := newClient(testConfig(t, "http://destination/"), Options{Transport: transport, Now: time.Now}, 1)
	var reading atomic.Int32
	expect(t, "verdict", c.send(t.Context(), []byte("payload"), &reading).verdict, accepted)
	for left := len(kept); left > 0; left-- {
		expect(t, "readers", reading.Load(), int32(left))
		body := kept[left-1]
		text, err := io.ReadAll(body)
		if err != nil || string(text) != "payload" {
			t.Errorf("read %q, %v", text, err)
		}
		_ = body.Close()
		_ = body.Close()
	}
	expect(t, "readers", reading.Load(), 0)
}
