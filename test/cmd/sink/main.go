// SPDX-License-Identifier: Apache-2.0

// Command sink receives remote_write and only counts what arrives. It says
// "listening on" and its URL in one line on standard output when it can be
// reached; GET /totals gives the totals as JSON. It ends with SIGTERM or SIGINT.
package main

import (
	"context"
	"flag"

	"labelstream/test/loopback"
)

func main() {
	var s sink
	flag.DurationVar(&s.delay, "delay", 0, "how long each request takes")
	flag.Int64Var(&s.downEvery, "down-every", 0, "answer 503 for a while after so many requests; 0: never")
	flag.DurationVar(&s.downFor, "down-for", 0, "how long that while is")
	flag.Parse()
	loopback.Main("sink", func(ctx context.Context) error { return loopback.Serve(ctx, &s, nil, nil) })
}
