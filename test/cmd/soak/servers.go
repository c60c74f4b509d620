// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"

	"labelstream/test/loopback"
)

// server serves TLS on a loopback port that stays the same while it goes down and
// up again.
type server struct {
	handler     http.Handler
	certificate atomic.Pointer[tls.Certificate]
	trusted     []byte // PEM

	address string

	mu      sync.Mutex
	serving bool
	http    *http.Server
}

func newServer(handler http.Handler) (*server, error) {
	s := &server{handler: handler}
	if err := s.renew(); err != nil {
		return nil, err
	}
	var err error
	for range 20 {
		// Not one of those that the kernel gives to clients, who could take it while
		// the server is down.
		s.address = fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(10_000))
		if err = s.up(); err == nil {
			break
		}
	}
	return s, err
}

func (s *server) url() string { return "https://" + s.address }

// renew replaces the certificate, and trusts the one before it as well.
func (s *server) renew() error {
	certificate, trusted, err := loopback.Certificate()
	if err != nil {
		return err
	}
	before := s.trusted
	if i := bytes.LastIndex(before, []byte("-----BEGIN")); i > 0 {
		before = before[:i]
	}
	s.certificate.Store(certificate)
	s.trusted = append(trusted, before...)
	return nil
}

func (s *server) up() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving {
		return nil
	}
	return s.listen()
}

// listen serves again. The mutex is held.
func (s *server) listen() error {
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		return fmt.Errorf("listen for clients: %w", err)
	}
	s.serving = true
	s.http = &http.Server{Handler: s.handler, ErrorLog: silent, TLSConfig: &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.certificate.Load(), nil },
	}}
	go func(h *http.Server) { _ = h.ServeTLS(listener, "", "") }(s.http)
	return nil
}

// down cuts every connection. Who connects now is refused.
func (s *server) down() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving = false
	_ = s.http.Close()
}

// cut ends every connection.
func (s *server) cut() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.serving {
		return nil
	}
	_ = s.http.Close()
	return s.listen()
}

// replaceFile is atomic for readers.
func replaceFile(name string, text []byte) error {
	if err := os.WriteFile(name+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}
