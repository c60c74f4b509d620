// Command bare is what the benchmarks compare the admission webhook with: it
// reads reviews over TLS and answers each with the same bytes. It says
// "listening on" and its URL in one line on standard output when it can be
// reached, and ends with SIGTERM or SIGINT.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	certificate := flag.String("certificate", "", "PEM file with the certificate to serve")
	key := flag.String("key", "", "PEM file with the certificate's key")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *certificate, *key); err != nil {
		fmt.Fprintln(os.Stderr, "bare:", err)
		os.Exit(1)
	}
}

// run serves until the context ends, and cuts what is open then.
func run(ctx context.Context, certificate, key string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for reviews: %w", err)
	}
	fmt.Printf("listening on https://%s\n", listener.Addr())
	server := &http.Server{Handler: http.HandlerFunc(answer)}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.ServeTLS(listener, certificate, key); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	}
	return nil
}

// constant allows whatever was asked, and is as long as an answer of labelstream.
const constant = `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":"00000000-0000-0000-0000-000000000000","allowed":true}}`

var contentType = []string{"application/json"}

func answer(w http.ResponseWriter, r *http.Request) {
	if _, err := io.ReadAll(r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header()["Content-Type"] = contentType
	_, _ = io.WriteString(w, constant)
}
