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

	"labelstream/config"
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

func TestRequest(t *testing.T) {
	s := newServer(t, func(_ int, w http.ResponseWriter) { w.Header().Set(samplesWritten, "1") })
	cfg := testConfig(t, strings.Replace(s.URL, "http://", "http://user:secret@", 1))
	h := newHarness(cfg, Options{}, 1)
	h.put(t, newRecord(1, "a"))
	h.Close()
	expect(t, "Run", h.Run(t.Context()), nil)
	want := http.Header{
		"Content-Type":                      {"application/x-protobuf"},
		"Content-Encoding":                  {"snappy"},
		"X-Prometheus-Remote-Write-Version": {"0.1.0"},
		"User-Agent":                        {"labelstream/test"},
		"Authorization":                     {"Basic dXNlcjpzZWNyZXQ="},
		"Content-Length":                    {fmt.Sprint(len(s.bodies[0]))},
	}
	expect(t, "headers of 1.0", s.headers, []http.Header{want})

	s.headers = nil
	cfg.Protocol = config.Protocol2
	h = newHarness(cfg, Options{}, 1)
	h.put(t, newRecord(1, "a"))
	h.Close()
	expect(t, "Run", h.Run(t.Context()), nil)
	want["Content-Type"] = []string{"application/x-protobuf;proto=io.prometheus.write.v2.Request"}
	want["X-Prometheus-Remote-Write-Version"] = []string{"2.0.0"}
	want["Content-Length"] = []string{fmt.Sprint(len(s.bodies[1]))}
	expect(t, "headers of 2.0", s.headers, []http.Header{want})
}

// Answers are read so far that the next request uses the same connection.
func TestConnectionIsUsedAgain(t *testing.T) {
	s := newServer(t, func(n int, w http.ResponseWriter) {
		if n%2 == 0 {
			w.WriteHeader(http.StatusConflict)
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
	want := fmt.Sprintf("error: The destination refused a record, it is dropped: "+
		"send to %s: status 400 Bad Request, receiver says %q [pods /p1]", s.URL, strings.Repeat("x", maxWords))
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
	c, err := newClient(testConfig(t, "http://destination/"), Options{Transport: transport, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	var reading atomic.Int32
	p := payload{version: v1, body: []byte("payload"), reading: &reading}
	expect(t, "verdict", c.send(t.Context(), p).verdict, accepted)
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
