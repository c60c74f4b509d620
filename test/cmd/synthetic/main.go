// Command synthetic runs the synthetic API server on a port of the loopback
// interface. It says "listening on" and its URL in one line on standard
// output when it can be reached, and ends with SIGTERM or SIGINT.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"labelstream/test/selfsigned"
	"labelstream/test/synthetic"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "synthetic:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var options synthetic.Options
	flags := flag.NewFlagSet("synthetic", flag.ExitOnError)
	flags.IntVar(&options.Pods, "pods", 10_000, "number of pods")
	profile := flags.String("profile", string(synthetic.Alike), "what the pods' labels are like: alike or mixed")
	flags.IntVar(&options.Deployments, "deployments", 0, "number of Deployments, which look like the pods")
	flags.IntVar(&options.AnnotationBytes, "annotation-bytes", 0, "bytes of further annotations of each pod")
	flags.IntVar(&options.Keys, "keys", 0, "number of further label keys, one for each pod")
	flags.BoolVar(&options.JSONOnly, "json-only", false, "do not speak protobuf")
	kubeconfig := flags.String("kubeconfig", "", "file to write a kubeconfig for the server to")
	useTLS := flags.Bool("tls", false, "serve TLS, HTTP/2 with it, with a certificate signed by itself")
	if err := flags.Parse(args); err != nil {
		return err
	}
	options.Profile = synthetic.Profile(*profile)
	handler, err := synthetic.New(options)
	if err != nil {
		return err
	}
	return serve(ctx, handler, *kubeconfig, *useTLS)
}

// serve serves until the context ends, and cuts what is open then.
func serve(ctx context.Context, handler http.Handler, kubeconfig string, useTLS bool) error {
	server := &http.Server{Handler: handler}
	url, trusted := "http://", []byte(nil)
	if useTLS {
		certificate, pem, err := selfsigned.Certificate()
		if err != nil {
			return err
		}
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}}
		url, trusted = "https://", pem
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for clients: %w", err)
	}
	url += listener.Addr().String()
	if kubeconfig != "" {
		if err := synthetic.WriteKubeconfig(kubeconfig, url, trusted); err != nil {
			return errors.Join(err, listener.Close())
		}
	}
	fmt.Println("listening on", url)
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if useTLS {
		err = server.ServeTLS(listener, "", "")
	} else {
		err = server.Serve(listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve on %s: %w", url, err)
}
