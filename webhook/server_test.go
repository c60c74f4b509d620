// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"labelstream/status/outage"
)

// patience bounds waits that end much sooner unless a test has failed.
const patience = 2 * time.Minute

// made returns a certificate of ours for localhost.
func made(t *testing.T) *certificate {
	t.Helper()
	c, err := newCertificate([]string{"localhost"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// altered returns a copy of a certificate of ours with a change.
func altered(t *testing.T, c *certificate, change func(*x509.Certificate)) *certificate {
	t.Helper()
	template, key := *c.tls.Leaf, c.tls.PrivateKey.(*ecdsa.PrivateKey)
	change(&template)
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &certificate{
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key: c.key,
		tls: &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
	}
}

// caller returns a certificate for a client.
func caller(t *testing.T) *certificate {
	return altered(t, made(t), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
}

// pool trusts the certificates themselves, as an API server does that has them
// in a caBundle.
func pool(certificates ...*certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certificates {
		pool.AppendCertsFromPEM(c.cert)
	}
	return pool
}

func write(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// set writes a certificate and its key into a directory.
func set(t *testing.T, dir string, c *certificate) {
	t.Helper()
	write(t, filepath.Join(dir, "tls.crt"), c.cert)
	write(t, filepath.Join(dir, "tls.key"), c.key)
}

// newFiles runs the files of a directory until the test ends.
func newFiles(t *testing.T, dir, clientCA string) (*Files, *logtest.Hook) {
	t.Helper()
	log, hook := logtest.NewNullLogger()
	f, err := NewFiles(dir, clientCA, prometheus.NewRegistry(), log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return f, hook
}

// fixed is a certificate that stays, for anyone.
type fixed struct{ *certificate }

func (f fixed) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.tls, nil }
func (f fixed) ClientCAs() *x509.CertPool                                     { return nil }

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
		handler = NewHandler("/validate", b.target, false, prometheus.NewRegistry())
	}
	log, hook := logtest.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	b.hook = hook
	var err error
	if b.Server, err = Listen("127.0.0.1:0", handler, certificates, prometheus.NewRegistry(), log); err != nil {
		t.Fatal(err)
	}
	// Silent callers may be silent for as long as a test takes.
	b.server.ReadHeaderTimeout, b.server.ReadTimeout, b.server.WriteTimeout = 0, 0, 0
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

// client is one that trusts the certificates. It offers HTTP/2, as API servers do,
// and has connections of its own.
func client(t *testing.T, roots *x509.CertPool, certificates ...tls.Certificate) *http.Client {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, ServerName: "localhost", Certificates: certificates},
		ForceAttemptHTTP2: true,
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

// TestServer answers by HTTP/1.1 over TLS 1.2 or later. What is logged of other
// connections does not tell the path, which may be a secret.
func TestServer(t *testing.T) {
	c := made(t)
	b := startServer(t, fixed{c}, nil)
	caller := client(t, pool(c))
	for range 3 {
		r, text, err := b.post(caller, strings.NewReader(short(pods+`,"operation":"CREATE","object":`+web)))
		if err != nil || r.StatusCode != 200 || text != allowed || r.Proto != "HTTP/1.1" {
			t.Errorf("answered %v %v %q", r, err, text)
		}
	}
	if shown := b.target.take(); len(shown) != 3 {
		t.Errorf("shown %q", shown)
	}
	if r, _, err := b.post(caller, io.MultiReader(strings.NewReader(short(pods)))); err != nil || r.StatusCode != 411 {
		t.Errorf("in chunks: %v, %v", r, err)
	}
	old := client(t, pool(c))
	old.Transport.(*http.Transport).TLSClientConfig.MaxVersion = tls.VersionTLS11
	if _, _, err := b.post(old, strings.NewReader("{}")); err == nil {
		t.Error("TLS 1.1 was served")
	}
	if _, _, err := b.post(client(t, pool(made(t))), strings.NewReader("{}")); err == nil {
		t.Error("a client that trusts another certificate was answered")
	}
	plain, err := net.Dial("tcp", b.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	fmt.Fprint(plain, "POST /validate HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if line, err := bufio.NewReader(plain).ReadString('\n'); err != nil && !errors.Is(err, io.EOF) || !strings.Contains(line, "400") {
		t.Errorf("plain HTTP was answered %q, %v", line, err)
	}
	if err := b.stop(); err != nil {
		t.Error(err)
	}
	for _, entry := range b.hook.AllEntries() {
		if text, err := entry.String(); err != nil || strings.Contains(text, "validate") {
			t.Errorf("logged %q, %v", text, err)
		}
	}
}

func TestListenError(t *testing.T) {
	taken := startServer(t, fixed{made(t)}, nil).Address().String()
	_, err := Listen(taken, nil, nil, prometheus.NewRegistry(), logrus.New())
	if want := "serve the webhook at " + taken + ", as LABELSTREAM_WEBHOOK_ADDRESS says: "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// TestClientCertificates demands one of an authority in a file, which may change.
func TestClientCertificates(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "clients.crt")
	c, first, second := made(t), caller(t), caller(t)
	set(t, dir, c)
	write(t, file, first.cert)
	certificates, hook := newFiles(t, dir, file)
	b := startServer(t, certificates, nil)
	try := func(want bool, certificates ...tls.Certificate) {
		t.Helper()
		r, _, err := b.post(client(t, pool(c), certificates...), strings.NewReader(short(pods)))
		if (err == nil) != want {
			t.Errorf("answered %v, %v, want success: %v", r, err, want)
		}
	}
	try(false)
	try(false, *second.tls)
	try(true, *first.tls)
	write(t, file, []byte("nothing"))
	try(true, *first.tls)
	try(true, *first.tls)
	write(t, file, second.cert)
	try(true, *second.tls)
	try(false, *first.tls)
	var lines []string
	for _, entry := range hook.AllEntries() {
		lines = append(lines, entry.Message)
	}
	want := "Cannot read the authorities of the webhook's callers; keeping those from before|The authorities of the webhook's callers can be read again"
	if got := strings.Join(lines, "|"); got != want {
		t.Errorf("logged %q, want %q", got, want)
	}
	if lines := b.hook.AllEntries(); len(lines) < 2 || lines[0].Level != logrus.WarnLevel || lines[1].Level != logrus.DebugLevel {
		t.Errorf("logged %v, want the first failed connection as a warning, the others for debugging", lines)
	}
}

// TestFiles says what is served as the files change, one after the other: the
// first change by watching them, others are read at once.
func TestFiles(t *testing.T) {
	dir, a, b := t.TempDir(), made(t), made(t)
	set(t, dir, a)
	f, _ := newFiles(t, dir, "")
	if err := f.Ready(); err != nil || f.ClientCAs() != nil {
		t.Errorf("ready: %v, callers need a certificate: %v", err, f.ClientCAs() != nil)
	}
	read := make(chan struct{})
	isRead := sync.OnceFunc(func() { close(read) })
	f.watcher.RegisterCallback(func(c tls.Certificate) {
		if c.Leaf.Equal(b.tls.Leaf) {
			isRead()
		}
	})
	set(t, dir, b)
	select {
	case <-read:
	case <-time.After(patience):
		t.Fatal("the new certificate is not read")
	}
	for _, step := range []struct {
		name, file string
		text       []byte
		want       *certificate
	}{
		{"a certificate without its key", "tls.crt", a.cert, b},
		{"its key", "tls.key", a.key, a},
		{"rubbish", "tls.crt", []byte("rubbish"), a},
	} {
		write(t, filepath.Join(dir, step.file), step.text)
		_ = f.watcher.ReadCertificate()
		if c, err := f.GetCertificate(nil); err != nil || !c.Leaf.Equal(step.want.tls.Leaf) {
			t.Errorf("%s: serves another certificate, %v", step.name, err)
		}
	}
}

func TestNewFilesErrors(t *testing.T) {
	dir := t.TempDir()
	clientCA := filepath.Join(dir, "clients.crt")
	log, _ := logtest.NewNullLogger()
	expect := func(clientCA, want string) {
		t.Helper()
		_, err := NewFiles(dir, clientCA, prometheus.NewRegistry(), log)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	wrong := fmt.Sprintf("LABELSTREAM_WEBHOOK_CERT_DIR=%q: want a certificate in tls.crt and its key in tls.key, in PEM: ", dir)
	expect("", wrong+"open "+filepath.Join(dir, "tls.crt"))
	set(t, dir, made(t))
	expect(clientCA, "LABELSTREAM_WEBHOOK_CLIENT_CA_FILE: open ")
	write(t, clientCA, []byte("nothing"))
	expect(clientCA, fmt.Sprintf("LABELSTREAM_WEBHOOK_CLIENT_CA_FILE=%q: want certificates in PEM, found none", clientCA))
	write(t, filepath.Join(dir, "tls.key"), made(t).key)
	expect("", wrong+"tls: private key does not match public key")
	if err := explainFiles(dir, syscall.EMFILE); !strings.Contains(outage.Hint(err), "fs.inotify.max_user_instances") {
		t.Errorf("%q does not say what to do where there is no inotify instance left", outage.Hint(err))
	}
}

// TestNotAfter tells when the certificate ends, if there is one.
func TestNotAfter(t *testing.T) {
	c := made(t)
	for _, test := range []struct {
		err  error
		want float64
	}{{errNoCertificate, math.NaN()}, {nil, float64(c.tls.Leaf.NotAfter.Unix())}} {
		registry := prometheus.NewRegistry()
		registerNotAfter(registry, func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.tls, test.err })
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		if got := families[0].GetMetric()[0].GetGauge().GetValue(); !cmp.Equal(got, test.want, cmpopts.EquateNaNs()) {
			t.Errorf("the certificate ends at %v, want %v", got, test.want)
		}
	}
}

// TestConnections has callers open a connection, begin a review and fall silent:
// those beyond the limit are closed at once, so that nobody waits, until one ends.
func TestConnections(t *testing.T) {
	const limit = 5
	c := made(t)
	b := startServer(t, fixed{c}, nil, func(s *Server) { s.limit = limit })
	config := &tls.Config{RootCAs: pool(c), ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	kept := client(t, pool(c))
	post := func() error {
		r, text, err := b.post(kept, strings.NewReader(short(pods)))
		if err == nil && (r.StatusCode != 200 || text != allowed) {
			t.Errorf("answered %v %q", r, text)
		}
		return err
	}
	if err := post(); err != nil {
		t.Fatal(err)
	}
	var silent []net.Conn
	for range limit - 1 {
		c, err := tls.Dial("tcp", b.Address().String(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
		fmt.Fprint(c, "POST /validate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{")
	}
	for range 3 {
		if _, err := tls.Dial("tcp", b.Address().String(), config); err == nil {
			t.Error("a connection too many was served")
		}
		if err := post(); err != nil {
			t.Error(err)
		}
	}
	silent[0].Close()
	for end := time.Now().Add(patience); ; {
		if c, err := tls.Dial("tcp", b.Address().String(), config); err == nil {
			c.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal("a connection that has ended is still counted")
		}
	}
}

// TestGracefulClose has a review in flight when the server is told to end: it
// is answered.
func TestGracefulClose(t *testing.T) {
	c := made(t)
	entered, release := make(chan struct{}), make(chan struct{})
	b := startServer(t, fixed{c}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		fmt.Fprint(w, "answered")
	}))
	answer := make(chan string, 1)
	go func() {
		_, text, err := b.post(client(t, pool(c)), strings.NewReader(""))
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
