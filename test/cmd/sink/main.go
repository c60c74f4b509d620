// Command sink receives remote_write and only counts what arrives. It says
// "listening on" and its URL in one line on standard output when it can be
// reached; GET /totals gives the totals as JSON, and so does its last line of
// output when SIGTERM or SIGINT ends it.
package main

import (
	"context"
	"encoding/json"
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
	address := flag.String("address", "127.0.0.1:0", "host and port to listen on")
	var o options
	flag.DurationVar(&o.delay, "delay", 0, "how long each request takes")
	flag.Int64Var(&o.downEvery, "down-every", 0, "answer 503 for a while after so many requests; 0: never")
	flag.DurationVar(&o.downFor, "down-for", 0, "how long that while is")
	version := flag.String("protocol", "both", "versions of remote_write to accept: 1.0, 2.0 or both")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *address, *version, o); err != nil {
		fmt.Fprintln(os.Stderr, "sink:", err)
		os.Exit(1)
	}
}

// run serves until the context ends, then prints the totals.
func run(ctx context.Context, address, version string, o options) error {
	o.accepted = []string{version}
	switch version {
	case "both":
		o.accepted = []string{"1.0", "2.0"}
	case "1.0", "2.0":
	default:
		return fmt.Errorf("protocol %q: give 1.0, 2.0 or both", version)
	}
	handler := newSink(o)
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", address, err)
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	server := &http.Server{Handler: handler}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	}
	return json.NewEncoder(os.Stdout).Encode(handler.snapshot())
}
