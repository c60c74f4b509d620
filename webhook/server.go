package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
)

const (
	// headerTimeout bounds the TLS handshake, too, and how long a connection may
	// be silent before its first request.
	headerTimeout = 5 * time.Second
	// An API server waits for 30 s at most, and for 1 s as we ask it to.
	readTimeout  = 15 * time.Second
	writeTimeout = 15 * time.Second
	// idleTimeout is longer than API servers keep an idle connection, so that
	// it is they who close it: a request never meets a connection that closes.
	idleTimeout = 2 * time.Minute
	// closeTimeout is how long reviews in flight have at the end.
	closeTimeout = 5 * time.Second
	// maxHeaderBytes is more than the API server sends, some 500 bytes and a
	// token where it is configured to. net/http allows for 4 KiB more, and many
	// short headers take ten times their length.
	maxHeaderBytes = 4 << 10
	// maxStreams is how many requests may share an HTTP/2 connection: as many as
	// a client takes for granted before it is told. Each may cost as much as a
	// connection of HTTP/1.1, so HTTP/2 is for the first maxHTTP2 connections:
	// API servers speak it but on loopback, where some suffice.
	maxStreams = 100
	maxHTTP2   = 50
)

// Certificates say how to serve TLS.
type Certificates interface {
	// TLS returns the configuration for the next connection. It must not be
	// changed any more.
	TLS() *tls.Config
}

// Server serves the webhook by HTTP/1.1 and HTTP/2, over TLS 1.2 or later.
type Server struct {
	server   *http.Server
	listener *limited
}

// Listen takes the address, as net.Listen does. Nothing is answered before Run.
func Listen(address string, handler http.Handler, certificates Certificates, registerer prometheus.Registerer, log logrus.FieldLogger) (*Server, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serve the webhook at %s, as LABELSTREAM_WEBHOOK_ADDRESS says: %w", address, err)
	}
	problems := quietLog(log)
	connections := newLimited(listener, registerer, problems)
	return &Server{listener: connections, server: &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ErrorLog:          problems,
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12,
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
				config := certificates.TLS()
				if config != nil && connections.open.Load() > maxHTTP2 {
					config = config.Clone()
					config.NextProtos = []string{"http/1.1"}
				}
				return config, nil
			},
		},
	}}, nil
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
		// Those who are not done by now have not sent their review.
		_ = s.server.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the webhook at %s: %w", s.Address(), err)
	}
	return nil
}

// quietLog is for what goes wrong with a connection, mostly its handshake. The
// first such line is a warning, since an API server that does not trust us says
// so there and nowhere else; callers could make us write any number of others.
func quietLog(logger logrus.FieldLogger) *log.Logger {
	return log.New(&connectionLog{log: logger}, "", 0)
}

type connectionLog struct {
	log   logrus.FieldLogger
	lines atomic.Uint64
}

// Write takes one line.
func (l *connectionLog) Write(line []byte) (int, error) {
	entry := l.log.WithField("problem", string(line))
	if l.lines.Add(1) == 1 {
		entry.Warn("A connection to the webhook failed; further ones are logged at level debug")
	} else {
		entry.Debug("A connection to the webhook failed")
	}
	return len(line), nil
}
