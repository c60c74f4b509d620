// Command sink receives remote_write and only counts what arrives. It says
// "listening on" and its URL in one line on standard output when it can be
// reached; GET /totals gives the totals as JSON. It ends with SIGTERM or SIGINT.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	var s sink
	flag.DurationVar(&s.delay, "delay", 0, "how long each request takes")
	flag.Int64Var(&s.downEvery, "down-every", 0, "answer 503 for a while after so many requests; 0: never")
	flag.DurationVar(&s.downFor, "down-for", 0, "how long that while is")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, &s); err != nil {
		fmt.Fprintln(os.Stderr, "sink:", err)
		os.Exit(1)
	}
}

// run serves until the context ends.
func run(ctx context.Context, s *sink) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for remote_write: %w", err)
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	server := &http.Server{Handler: s}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	}
	return nil
}
