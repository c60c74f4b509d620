package webhook

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

// patience bounds waits that end much sooner unless a test has failed.
const patience = 2 * time.Minute

// made returns an authority whose certificate is for localhost.
func made(t *testing.T) *authority {
	t.Helper()
	a, err := newAuthority([]string{"localhost"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func pool(authorities ...*authority) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, a := range authorities {
		pool.AppendCertsFromPEM(a.bundle())
	}
	return pool
}

// certFiles are a certificate and its key in files.
type certFiles struct{ cert, key, clientCA string }

func newCertFiles(t *testing.T) certFiles {
	dir := t.TempDir()
	return certFiles{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "clients.crt")}
}

func write(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (f certFiles) set(t *testing.T, a *authority) {
	t.Helper()
	write(t, f.cert, a.data[secretLeaf])
	write(t, f.key, a.data[secretLeafKey])
}

func newFiles(t *testing.T, files certFiles, clientCA string) (*Files, *logtest.Hook) {
	t.Helper()
	log, hook := logtest.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	f, err := NewFiles(files.cert, files.key, clientCA, prometheus.NewRegistry(), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { release(f) })
	return f, hook
}

// release frees what files are watched by, if Run has not. They must be there.
func release(f *Files) {
	ended, end := context.WithCancel(context.Background())
	end()
	f.Run(ended)
}

// running runs the files until the test ends.
func running(t *testing.T, f *Files) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// serverBench is a server that runs until the test ends.
type serverBench struct {
	*Server
	target *fakeTarget
	hook   *logtest.Hook
	stop   func() error
}

func startServer(t *testing.T, certificates Certificates, handler http.Handler, prepare ...func(*Server)) *serverBench {
	t.Helper()
	b := &serverBench{target: &fakeTarget{outcome: Sent}}
	if handler == nil {
		handler = NewHandler("/validate", 0, b.target, prometheus.NewRegistry())
	}
	log, hook := logtest.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	b.hook = hook
	var err error
	if b.Server, err = Listen("127.0.0.1:0", handler, certificates, prometheus.NewRegistry(), log); err != nil {
		t.Fatal(err)
	}
	for _, prepare := range prepare {
		prepare(b.Server)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	b.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// endure has a server wait for silent callers for as long as a test may take.
func endure(s *Server) {
	s.server.ReadHeaderTimeout, s.server.ReadTimeout, s.server.WriteTimeout = 0, 0, 0
}

// client is one that trusts the authorities, with the connections of its own.
func client(t *testing.T, http2 bool, roots *x509.CertPool, certificates ...tls.Certificate) *http.Client {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, ServerName: "localhost", Certificates: certificates},
		ForceAttemptHTTP2: http2,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (b *serverBench) post(c *http.Client, body io.Reader) (*http.Response, string, error) {
	r, err := c.Post("https://"+b.Address().String()+"/validate?timeout=1s", "application/json", body)
	if err != nil {
		return nil, "", err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	return r, string(text), err
}

func TestServer(t *testing.T) {
	files := newCertFiles(t)
	a := made(t)
	files.set(t, a)
	certificates, _ := newFiles(t, files, "")
	b := startServer(t, certificates, nil)
	for protocol, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		c := client(t, http2, pool(a))
		for range 3 {
			r, text, err := b.post(c, strings.NewReader(short(pods+`,"operation":"CREATE","object":`+web)))
			if err != nil || r.StatusCode != 200 || text != allowed || r.Proto != protocol {
				t.Errorf("%s: %v %v %q", protocol, r, err, text)
			}
		}
	}
	if took, _ := b.target.taken(); len(took) != 6 {
		t.Errorf("took %q", took)
	}
	old := client(t, false, pool(a))
	old.Transport.(*http.Transport).TLSClientConfig.MaxVersion = tls.VersionTLS11
	if _, _, err := b.post(old, strings.NewReader("{}")); err == nil {
		t.Error("TLS 1.1 was served")
	}
}

func TestListenError(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, err = Listen(taken.Addr().String(), nil, nil, prometheus.NewRegistry(), logrus.New())
	if want := "serve the webhook at " + taken.Addr().String() + ", as LABELSTREAM_WEBHOOK_ADDRESS says: "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// TestClientCertificates demands one of an authority, which may be replaced.
func TestClientCertificates(t *testing.T) {
	files := newCertFiles(t)
	a, first, second := made(t), callers(t), callers(t)
	files.set(t, a)
	write(t, files.clientCA, first.bundle())
	certificates, hook := newFiles(t, files, files.clientCA)
	b := startServer(t, certificates, nil)
	try := func(want bool, certificates ...tls.Certificate) {
		t.Helper()
		r, _, err := b.post(client(t, true, pool(a), certificates...), strings.NewReader(short(pods)))
		if (err == nil) != want {
			t.Errorf("answered %v, %v, want success: %v", r, err, want)
		}
	}
	try(false)
	try(false, *second.leaf)
	try(true, *first.leaf)
	write(t, files.clientCA, []byte("nothing"))
	certificates.reload()
	certificates.reload()
	try(true, *first.leaf)
	write(t, files.clientCA, second.bundle())
	certificates.reload()
	try(true, *second.leaf)
	try(false, *first.leaf)
	var lines []string
	for _, entry := range hook.AllEntries()[1:] {
		lines = append(lines, entry.Message)
	}
	want := "Cannot take the webhook's certificates from their files; serving with those from before|The webhook's certificates can be read again"
	if got := strings.Join(lines, "|"); got != want {
		t.Errorf("logged %q, want %q", got, want)
	}
	if len(b.hook.AllEntries()) < 2 || b.hook.AllEntries()[0].Level != logrus.WarnLevel || b.hook.AllEntries()[1].Level != logrus.DebugLevel {
		t.Errorf("logged %v, want the first failed connection as a warning, the others for debugging", b.hook.AllEntries())
	}
}

// callers is an authority whose certificate is a client's.
func callers(t *testing.T) *authority {
	t.Helper()
	a := made(t)
	template := *a.leaf.Leaf
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	leaf, err := issue(&template, a.trusted[0], &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a, err = assemble(a.trusted, a.key, certificatePEM(leaf), a.data[secretCAKey]); err != nil {
		t.Fatal(err)
	}
	return a
}

// TestRotation replaces the certificate 1,000 times while requests come all the
// time, over new connections: none fails, and after each time one is served with the new
// certificate, long before the files would be read anyway.
func TestRotation(t *testing.T) {
	files := newCertFiles(t)
	two := []*authority{made(t), made(t)}
	files.set(t, two[0])
	certificates, _ := newFiles(t, files, "")
	running(t, certificates)
	b := startServer(t, certificates, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	// served is the certificate of the last answer, news says that it is another.
	var served atomic.Pointer[x509.Certificate]
	news := make(chan struct{}, 1)
	var callers sync.WaitGroup
	defer callers.Wait()
	defer cancel(nil)
	c := client(t, false, pool(two...))
	c.Transport.(*http.Transport).DisableKeepAlives = true
	for range 2 {
		callers.Go(func() {
			for ctx.Err() == nil {
				r, text, err := b.post(c, strings.NewReader(short(pods)))
				if err != nil || r.StatusCode != 200 || text != allowed {
					t.Errorf("answered %v %q, %v", r, text, err)
					cancel(errors.New("a request failed"))
					return
				}
				now := r.TLS.PeerCertificates[0]
				if before := served.Swap(now); before == nil || !before.Equal(now) {
					select {
					case news <- struct{}{}:
					default:
					}
				}
			}
		})
	}
	for i := range 1000 {
		next := two[(i+1)%2]
		files.set(t, next)
		late := time.After(patience)
		for now := served.Load(); now == nil || !now.Equal(next.leaf.Leaf); now = served.Load() {
			select {
			case <-news:
			case <-late:
				t.Fatalf("rotation %d: the certificate is not served", i)
			case <-ctx.Done():
				t.Fatalf("rotation %d: %v", i, context.Cause(ctx))
			}
		}
	}
}

// TestVolume replaces a directory in the way of the kubelet, which has a link
// lead to another.
func TestVolume(t *testing.T) {
	dir, two := t.TempDir(), []*authority{made(t), made(t)}
	lead := func(to string) {
		t.Helper()
		link := filepath.Join(dir, "..data")
		if err := errors.Join(os.Symlink(to, link+"_tmp"), os.Rename(link+"_tmp", link)); err != nil {
			t.Fatal(err)
		}
	}
	fill := func(name string, a *authority) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		certFiles{cert: filepath.Join(dir, name, "tls.crt"), key: filepath.Join(dir, name, "tls.key")}.set(t, a)
	}
	files := certFiles{cert: filepath.Join(dir, "tls.crt"), key: filepath.Join(dir, "tls.key")}
	fill("..1", two[0])
	lead("..1")
	for _, name := range []string{files.cert, files.key} {
		if err := os.Symlink(filepath.Join("..data", filepath.Base(name)), name); err != nil {
			t.Fatal(err)
		}
	}
	certificates, hook := newFiles(t, files, "")
	running(t, certificates)
	b := startServer(t, certificates, nil)
	c := client(t, true, pool(two[0]))
	c.Transport.(*http.Transport).DisableKeepAlives = true
	if _, _, err := b.post(c, strings.NewReader(short(pods))); err != nil {
		t.Fatal(err)
	}
	fill("..2", two[1])
	lead("..2")
	if err := os.RemoveAll(filepath.Join(dir, "..1")); err != nil {
		t.Fatal(err)
	}
	c.Transport.(*http.Transport).TLSClientConfig.RootCAs = pool(two...)
	end := time.Now().Add(patience)
	for with := []byte(nil); !bytes.Equal(with, two[1].leaf.Leaf.Raw); {
		if time.Now().After(end) {
			t.Fatal("the new certificate is not served")
		}
		r, _, err := b.post(c, strings.NewReader(short(pods)))
		if err != nil {
			t.Fatal(err)
		}
		with = r.TLS.PeerCertificates[0].Raw
	}
	for _, entry := range hook.AllEntries() {
		if entry.Level < logrus.InfoLevel {
			t.Errorf("logged %s: %s", entry.Level, entry.Message)
		}
	}
}

// TestFiles says what happens as the files change, one after the other.
func TestFiles(t *testing.T) {
	files := newCertFiles(t)
	a, b := made(t), made(t)
	files.set(t, a)
	f, hook := newFiles(t, files, "")
	if err := f.Ready(); err != nil {
		t.Error(err)
	}
	for _, step := range []struct {
		name      string
		cert, key []byte
		want      *authority
		log       string
	}{
		{"nothing new", nil, nil, a, ""},
		{"a certificate without its key", b.data[secretLeaf], nil, a, "Cannot take the webhook's certificates from their files; serving with those from before"},
		{"still without", nil, nil, a, ""},
		{"its key", nil, b.data[secretLeafKey], b, "Serving the webhook with this certificate; The webhook's certificates can be read again"},
		{"rubbish", []byte("rubbish"), nil, b, "Cannot take the webhook's certificates from their files; serving with those from before"},
		{"still no certificate", []byte{}, nil, b, ""},
		{"as before", b.data[secretLeaf], nil, b, "The webhook's certificates can be read again"},
	} {
		hook.Reset()
		if step.cert != nil {
			write(t, files.cert, step.cert)
		}
		if step.key != nil {
			write(t, files.key, step.key)
		}
		f.reload()
		var lines []string
		for _, entry := range hook.AllEntries() {
			lines = append(lines, entry.Message)
		}
		if got := strings.Join(lines, "; "); got != step.log {
			t.Errorf("%s: logged %q, want %q", step.name, got, step.log)
		}
		if !f.leaf().Equal(step.want.leaf.Leaf) {
			t.Errorf("%s: serves another certificate", step.name)
		}
	}
	if err := os.Remove(files.key); err != nil {
		t.Fatal(err)
	}
	f.reload()
	if !f.leaf().Equal(b.leaf.Leaf) {
		t.Error("without a key file it serves another certificate")
	}
	files.set(t, b)
}

func TestNewFilesErrors(t *testing.T) {
	files := newCertFiles(t)
	a, b := made(t), made(t)
	log, _ := logtest.NewNullLogger()
	expect := func(clientCA, want string) {
		t.Helper()
		_, err := NewFiles(files.cert, files.key, clientCA, prometheus.NewRegistry(), log)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	wrong := fmt.Sprintf("LABELSTREAM_WEBHOOK_CERT_FILE=%q, LABELSTREAM_WEBHOOK_KEY_FILE=%q: want a certificate and its key in PEM: ", files.cert, files.key)
	expect("", wrong+"open "+files.cert)
	files.set(t, a)
	expect(files.clientCA, "LABELSTREAM_WEBHOOK_CLIENT_CA_FILE: open ")
	write(t, files.clientCA, []byte("nothing"))
	expect(files.clientCA, fmt.Sprintf("LABELSTREAM_WEBHOOK_CLIENT_CA_FILE=%q: want certificates in PEM, found none", files.clientCA))
	write(t, files.key, b.data[secretLeafKey])
	expect("", wrong+"tls: private key does not match public key")
	if err := explainFiles(files.cert, files.key, syscall.EMFILE); !strings.Contains(err.Error(), "fs.inotify.max_user_instances") {
		t.Errorf("%q does not say what to do where there is no inotify instance left", err)
	}
}

func TestDaysLeft(t *testing.T) {
	files := newCertFiles(t)
	a := made(t)
	files.set(t, a)
	log, _ := logtest.NewNullLogger()
	registry := prometheus.NewRegistry()
	f, err := NewFiles(files.cert, files.key, "", registry, log)
	if err != nil {
		t.Fatal(err)
	}
	defer release(f)
	if got := testutil.ToFloat64(daysCollector{&f.serving}); got > 90 || got < 89 {
		t.Errorf("%v days left of 90", got)
	}
	if n, err := testutil.GatherAndCount(registry, "labelstream_webhook_certificate_days_left"); n != 1 || err != nil {
		t.Errorf("registered %d, %v", n, err)
	}
}

// TestSlowConnections has 1,000 callers open a connection, send the beginning
// of a review and fall silent, while others are served.
func TestSlowConnections(t *testing.T) {
	files := newCertFiles(t)
	a := made(t)
	files.set(t, a)
	certificates, _ := newFiles(t, files, "")
	handler := NewHandler("/validate", 0, &fakeTarget{outcome: Sent}, prometheus.NewRegistry())
	b := startServer(t, certificates, handler, endure)
	config := &tls.Config{RootCAs: pool(a), ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	for range 1000 {
		c, err := tls.Dial("tcp", b.Address().String(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.NetConn().Close()
		fmt.Fprintf(c, "POST /validate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n{", maxBodyBytes)
	}
	c := client(t, false, pool(a))
	for handler.inFlight.Load() < 1000 {
		if _, _, err := b.post(c, strings.NewReader(short(pods))); err != nil {
			t.Fatal(err)
		}
	}
	text := podReview("UPDATE")
	for range 100 {
		if r, _, err := b.post(c, bytes.NewReader(text)); err != nil || r.StatusCode != 200 {
			t.Fatalf("answered %v, %v", r, err)
		}
	}
	if got := handler.buffers.held.Load(); got > 1<<20 {
		t.Errorf("the slow ones hold %d bytes", got)
	}
	if got := testutil.ToFloat64(handler.metrics.reviews.WithLabelValues("pods", "UPDATE", "sent")); got != 100 {
		t.Errorf("%v reviews were taken, want 100", got)
	}
}

// TestTooManyConnections closes those beyond the limit at once, until others
// end.
func TestTooManyConnections(t *testing.T) {
	files := newCertFiles(t)
	a := made(t)
	files.set(t, a)
	certificates, _ := newFiles(t, files, "")
	registry := prometheus.NewRegistry()
	log, hook := logtest.NewNullLogger()
	server, err := Listen("127.0.0.1:0", NewHandler("/validate", 0, &fakeTarget{outcome: Sent}, registry), certificates, registry, log)
	if err != nil {
		t.Fatal(err)
	}
	server.listener.limit = 2
	endure(server)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", server.Address().String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	silent := dial()
	defer silent.Close()
	b := &serverBench{Server: server}
	kept := client(t, false, pool(a))
	post := func() error {
		r, text, err := b.post(kept, strings.NewReader(short(pods)))
		if err == nil && (r.StatusCode != 200 || text != allowed) {
			t.Errorf("answered %v %q", r, text)
		}
		return err
	}
	if err := post(); err != nil {
		t.Error(err)
	}
	for range 3 {
		beyond := dial()
		if n, err := beyond.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("one connection too many reads %d bytes, %v, want its end", n, err)
		}
		beyond.Close()
		if err := post(); err != nil {
			t.Error(err)
		}
	}
	const want = `
# HELP labelstream_webhook_connections Connections to the webhook that are open.
# TYPE labelstream_webhook_connections gauge
labelstream_webhook_connections 2
# HELP labelstream_webhook_connections_refused_total Connections to the webhook that were closed at once, since too many were open.
# TYPE labelstream_webhook_connections_refused_total counter
labelstream_webhook_connections_refused_total 3
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want),
		"labelstream_webhook_connections", "labelstream_webhook_connections_refused_total"); err != nil {
		t.Error(err)
	}
	if lines := hook.AllEntries(); len(lines) != 1 || lines[0].Level != logrus.WarnLevel || !strings.HasSuffix(fmt.Sprint(lines[0].Data["problem"]), ": 2 are open\n") {
		t.Errorf("logged %v, want one warning of it", lines)
	}
	silent.Close()
	kept.CloseIdleConnections()
	for end := time.Now().Add(patience); post() != nil; {
		if time.Now().After(end) {
			t.Fatal("connections that have ended are still counted")
		}
	}
	kept.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	// The server does not wait for a connection that its client is just closing.
	awaitOpen(t, server, 0)
}

// awaitOpen waits until no more than so many connections are counted.
func awaitOpen(t *testing.T, server *Server, want int64) {
	t.Helper()
	for end := time.Now().Add(patience); server.listener.open.Load() > want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d connections are counted, want %d: some that have ended still are", server.listener.open.Load(), want)
		}
	}
}

// TestHTTP2AmongFew has HTTP/2 spoken where few connections are open, and HTTP/1.1
// with those that come beyond.
func TestHTTP2AmongFew(t *testing.T) {
	files := newCertFiles(t)
	a := made(t)
	files.set(t, a)
	certificates, _ := newFiles(t, files, "")
	b := startServer(t, certificates, nil)
	for _, test := range []struct {
		others   int64
		protocol string
	}{{maxHTTP2 - 1, "HTTP/2.0"}, {maxHTTP2, "HTTP/1.1"}} {
		b.listener.open.Add(test.others)
		c := client(t, true, pool(a))
		r, text, err := b.post(c, strings.NewReader(short(pods)))
		if err != nil || text != allowed || r.Proto != test.protocol {
			t.Errorf("beside %d others: %v %v %q, want %s", test.others, r, err, text, test.protocol)
		}
		c.CloseIdleConnections()
		awaitOpen(t, b.Server, test.others)
		b.listener.open.Add(-test.others)
	}
}

// TestTooManyInFlight has one connection ask more at a time than all may: what
// is too much is refused without being read, and the rest is answered.
func TestTooManyInFlight(t *testing.T) {
	files := newCertFiles(t)
	a := made(t)
	files.set(t, a)
	certificates, _ := newFiles(t, files, "")
	handler := NewHandler("/validate", 0, &fakeTarget{outcome: Sent}, prometheus.NewRegistry())
	b := startServer(t, certificates, handler)
	c := client(t, true, pool(a))
	// All but one place is taken, and then that one.
	handler.inFlight.Add(maxInFlight - 1)
	body, text := io.Pipe()
	last := make(chan string, 1)
	go func() {
		_, answer, err := b.post(c, body)
		last <- fmt.Sprint(answer, err)
	}()
	review := short(pods)
	fmt.Fprint(text, review[:1])
	for handler.inFlight.Load() < maxInFlight {
		time.Sleep(time.Millisecond)
	}
	r, answer, err := b.post(client(t, true, pool(a)), strings.NewReader(review))
	if err != nil || r.StatusCode != 503 || answer != "too many reviews at a time\n" {
		t.Errorf("one too many is answered %v %q, %v", r, answer, err)
	}
	fmt.Fprint(text, review[1:])
	text.Close()
	if got := <-last; got != allowed+"<nil>" {
		t.Errorf("the last that has a place is answered %s", got)
	}
	if n := handler.inFlight.Add(1 - maxInFlight); n != 0 {
		t.Errorf("%d are counted as in flight at the end", n)
	}
}

// TestGracefulClose has a review in flight when the server is told to end: it
// is answered.
func TestGracefulClose(t *testing.T) {
	files := newCertFiles(t)
	a := made(t)
	files.set(t, a)
	certificates, _ := newFiles(t, files, "")
	entered, release := make(chan struct{}), make(chan struct{})
	b := startServer(t, certificates, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		fmt.Fprint(w, "answered")
	}))
	answer := make(chan string, 1)
	go func() {
		_, text, err := b.post(client(t, false, pool(a)), strings.NewReader(""))
		answer <- fmt.Sprint(text, err)
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- b.stop() }()
	for {
		// The listener closes first.
		c, err := net.Dial("tcp", b.Address().String())
		if err != nil {
			break
		}
		c.Close()
	}
	close(release)
	if got := <-answer; got != "answered<nil>" {
		t.Errorf("got %q", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestSecretPath has no path in what is logged of bad connections.
func TestSecretPath(t *testing.T) {
	files := newCertFiles(t)
	a := made(t)
	files.set(t, a)
	certificates, _ := newFiles(t, files, "")
	b := startServer(t, certificates, NewHandler("/validate/s3cret", 0, &fakeTarget{}, prometheus.NewRegistry()))
	c, err := net.Dial("tcp", b.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST /validate/s3cret HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil && !errors.Is(err, io.EOF) || !strings.Contains(line, "400") {
		t.Errorf("plain HTTP was answered %q, %v", line, err)
	}
	if err := b.stop(); err != nil {
		t.Error(err)
	}
	for _, entry := range b.hook.AllEntries() {
		if text, err := entry.String(); err != nil || strings.Contains(text, "s3cret") {
			t.Errorf("logged %q, %v", text, err)
		}
	}
}

func verifyOptions(a *authority, now time.Time) x509.VerifyOptions {
	return x509.VerifyOptions{Roots: pool(a), CurrentTime: now}
}
