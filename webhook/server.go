// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"labelstream/status/outage"
)

const (
	// headerTimeout bounds the TLS handshake, too, and how long a connection may
	// be silent before its first request.
	headerTimeout = 5 * time.Second
	// requestTimeout bounds a review and its answer. An API server waits for 1 s
	// as we ask it to.
	requestTimeout = 15 * time.Second
	// idleTimeout is longer than API servers keep an idle connection, so that
	// it is they who close it: a request never meets a connection that closes.
	idleTimeout = 2 * time.Minute
	// closeTimeout is how long reviews in flight may take at the end.
	closeTimeout = 5 * time.Second
	// maxHeaderBytes is more than the API server sends, some 500 bytes and a
	// token where it is configured to.
	maxHeaderBytes = 4 << 10
	// maxConnections is how many may be open. Three API servers that handle as
	// many writes as they do by default, 200 each, need 600.
	maxConnections = 1000
)

// Certificates say how to serve TLS. Both methods are called as each connection
// begins.
type Certificates interface {
	// GetCertificate returns the certificate to serve with.
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// ClientCAs returns the authorities of callers, nil where anyone may call.
	ClientCAs() *x509.CertPool
}

// Server serves the webhook by HTTP/1.1 over TLS 1.2 or later.
type Server struct {
	server   *http.Server
	listener net.Listener
	// open counts the connections, and limit bounds them.
	open  atomic.Int64
	limit int64
}

// Listen takes the address, as net.Listen does. Nothing is answered before Run.
func Listen(address string, handler http.Handler, certificates Certificates, registerer prometheus.Registerer, log logrus.FieldLogger) (*Server, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serve the webhook at %s, as LABELSTREAM_WEBHOOK_ADDRESS says: %w", address, err)
	}
	s := &Server{listener: listener, limit: maxConnections}
	s.server = &http.Server{
		Handler:           handler,
		Protocols:         new(http.Protocols),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          connectionLogger(log),
		ConnState:         s.connState,
		TLSConfig:         tlsConfig(certificates),
	}
	// API servers speak HTTP/1.1 to all webhooks but those on their own host.
	s.server.Protocols.SetHTTP1(true)
	registerer.MustRegister(gauge("labelstream_webhook_connections", "Connections to the webhook that are open.", &s.open))
	return s, nil
}

func tlsConfig(certificates Certificates) *tls.Config {
	config := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: certificates.GetCertificate,
	}
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		pool := certificates.ClientCAs()
		if pool == nil {
			return nil, nil
		}
		withClients := config.Clone()
		withClients.ClientAuth, withClients.ClientCAs = tls.RequireAndVerifyClientCert, pool
		return withClients, nil
	}
	return config
}

// connState closes connections beyond the limit at once. If they waited until
// others end, API servers would wait for their timeout at each write.
func (s *Server) connState(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if s.open.Add(1) > s.limit {
			_ = c.Close()
		}
	case http.StateClosed:
		s.open.Add(-1)
	}
}

// Address is where the server listens.
func (s *Server) Address() net.Addr { return s.listener.Addr() }

// Run serves until ctx ends; reviews in flight are answered then, if that takes
// no longer than five seconds. The error says why serving ended before.
func (s *Server) Run(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- s.server.ServeTLS(s.listener, "", "") }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve the webhook at %s: %w", s.Address(), err)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := s.server.Shutdown(closing); err != nil {
		// Callers that are not done by now have not sent their review.
		_ = s.server.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the webhook at %s: %w", s.Address(), err)
	}
	return nil
}

// connectionLogger logs what net/http says of connections that fail, mostly in
// their handshake. The first line is a warning, since an API server that does
// not trust the certificate says so there and nowhere else. All others are for
// debugging: callers can cause any number of them.
func connectionLogger(logger logrus.FieldLogger) *log.Logger {
	failed := outage.New(logger, "A connection to the webhook failed", "")
	return log.New(lineWriter(func(line string) { failed.Fail("", errors.New(line)) }), "", 0)
}

type lineWriter func(line string)

// Write implements io.Writer.
func (w lineWriter) Write(line []byte) (int, error) {
	w(strings.TrimSpace(string(line)))
	return len(line), nil
}
