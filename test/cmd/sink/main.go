// SPDX-License-Identifier: Apache-2.0

// Command sink receives remote_write and only counts what arrives. It says
// "listening on" and its URL in one line on standard output when it can be
// reached; GET /totals gives the totals as JSON. It ends with SIGTERM or SIGINT.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"labelstream/test/loopback"
)

func main() {
	var s sink
	flag.DurationVar(&s.delay, "delay", 0, "how long each request takes")
	flag.Int64Var(&s.downEvery, "down-every", 0, "answer 503 for a while after so many requests; 0: never")
	flag.DurationVar(&s.downFor, "down-for", 0, "how long that while is")
	trusted := flag.String("tls", "", "serve TLS, and write the certificate that clients are to trust to this `file`")
	flag.Parse()
	loopback.Main("sink", func(ctx context.Context) error { return serve(ctx, &s, *trusted) })
}

func serve(ctx context.Context, s *sink, file string) error {
	if file == "" {
		return loopback.Serve(ctx, s, nil, nil)
	}
	certificate, trusted, err := loopback.Certificate()
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, trusted, 0o600); err != nil {
		return fmt.Errorf("write the certificate to trust: %w", err)
	}
	return loopback.Serve(ctx, s, certificate, nil)
}
