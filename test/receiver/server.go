// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
)

// Server serves a receiver on a loopback port that stays the same while it
// goes down and up again.
type Server struct {
	*Receiver
	address string

	// handlers is held for reading by every request, so that Down can wait.
	handlers sync.RWMutex

	mu     sync.Mutex
	cancel context.CancelFunc
	http   *http.Server
	served chan struct{}
}

// Start returns a server that is up. The caller ends it with Down.
func Start(r *Receiver) (*Server, error) {
	s := &Server{Receiver: r, address: "127.0.0.1:0"}
	if err := s.Up(); err != nil {
		return nil, err
	}
	return s, nil
}

// URL is where the receiver takes requests.
func (s *Server) URL() string { return "http://" + s.address + "/api/v1/write" }

// Up listens again after Down, on the same port.
func (s *Server) Up() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil {
		return nil
	}
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		return fmt.Errorf("listen for remote_write: %w", err)
	}
	s.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{
		Handler:     http.HandlerFunc(s.serve),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	served := make(chan struct{})
	s.http, s.cancel, s.served = server, cancel, served
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	return nil
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.handlers.RLock()
	defer s.handlers.RUnlock()
	// A connection that Down has closed may have brought one more request.
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
	s.ServeHTTP(w, r)
}

// Down closes the port and every connection: who connects now is refused. It
// returns when the last request has ended.
func (s *Server) Down() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http == nil {
		return
	}
	s.cancel()
	_ = s.http.Close()
	<-s.served
	s.handlers.Lock()
	defer s.handlers.Unlock()
	s.http = nil
}
