// SPDX-License-Identifier: Apache-2.0

// Package loopback is what the programs and clients of the tests share, which talk
// over the loopback interface.
package loopback

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

// Main runs a command until SIGTERM or SIGINT. An error is its exit code 1.
func Main(name string, run func(context.Context) error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Serve serves on a free port until the context ends, and cuts what is open then;
// with a certificate TLS, and HTTP/2 with it. When it can be reached it tells ready
// its URL, if there is one, and says "listening on" and the URL in one line on
// standard output.
func Serve(ctx context.Context, handler http.Handler, certificate *tls.Certificate, ready func(url string) error) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for clients: %w", err)
	}
	server := &http.Server{Handler: handler}
	serve, url := server.Serve, "http://"+listener.Addr().String()
	if certificate != nil {
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*certificate}}
		serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
		url = "https://" + listener.Addr().String()
	}
	if ready != nil {
		if err := ready(url); err != nil {
			return errors.Join(err, listener.Close())
		}
	}
	fmt.Println("listening on", url)
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", url, err)
	}
	return nil
}

// Ask sends a request over a connection of its own, so none is left behind, and
// returns what an answer of 200 says. Any other is an error.
func Ask(ctx context.Context, client *http.Client, method, url string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, url, err)
	}
	request.Close = true
	response, err := client.Do(request)
	if err != nil {
		return nil, errors.Join(err, context.Cause(ctx))
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("it answered %s: %s", response.Status, said)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, url, err)
	}
	return said, nil
}

// FreePorts finds ports that nobody listens on. Another process may take one
// before it is used: that process says so then.
func FreePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		// Open until all are found, so that none is found twice.
		defer listener.Close()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
