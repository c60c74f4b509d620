// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"labelstream/test/loopback"
	"labelstream/test/process"
	"labelstream/test/reviews"
)

// reviewInterval is that of 1,000 a second.
const reviewInterval = time.Millisecond

// warmTime is how long a server has reviews before each step: connections are to
// be open and caches warm.
const warmTime = 500 * time.Millisecond

type reviewer struct {
	daemonProcess
	loadTime time.Duration
	client   *reviews.Client
	paced    int // reviews at 1,000 a second
}

// begin waits until the backfill has arrived. That takes a while: the first list
// is read when no API server can hold an older write any more.
func (r *reviewer) begin(ctx context.Context) error {
	r.client = reviews.New(r.fixture.webhook, r.fixture.trusted, true)
	if err := r.daemonProcess.begin(ctx); err != nil {
		return err
	}
	return r.await(ctx, r.fixture.scenario.objects)
}

func (r *reviewer) step(ctx context.Context, i int) (usage, error) {
	u, err := load(ctx, r.client, i, r.loadTime, r.process.Pid())
	if i == stepPaced {
		r.paced = u.Items
	}
	return u, err
}

// end demands that no review has become more than one sample, and each that was
// paced one. What connections send without a pause may find the queue full.
func (r *reviewer) end(ctx context.Context) error {
	r.client.Close()
	if err := r.daemonProcess.end(ctx); err != nil || r.process == nil {
		return err
	}
	got, err := r.fixture.received(ctx)
	if got -= r.expected; err == nil && (got < r.paced || got > r.client.Sent()) {
		err = fmt.Errorf("labelstream delivered %d samples of %d reviews, %d of them paced", got, r.client.Sent(), r.paced)
	}
	return err
}

// bareServer reads the reviews and answers a constant.
type bareServer struct{ reviewer }

func (b *bareServer) begin(ctx context.Context) (err error) {
	url := ""
	b.process, url, err = startHelper(ctx, b.fixture.file("bare.log"), b.program, "--certificate", b.fixture.file("tls.crt"), "--key", b.fixture.file("tls.key"))
	b.client = reviews.New(strings.TrimPrefix(url, "https://"), b.fixture.trusted, false)
	return err
}

func (b *bareServer) end(ctx context.Context) error {
	b.client.Close()
	return b.daemonProcess.end(ctx)
}

// load puts the reviews of a step on a process for so long.
func load(ctx context.Context, client *reviews.Client, step int, duration time.Duration, pid int) (usage, error) {
	if err := client.Saturate(ctx, warmTime); err != nil {
		return usage{}, err
	}
	before, err := process.AccountOf(pid)
	if err != nil {
		return usage{}, err
	}
	sent, begun := client.Sent(), time.Now()
	var took []time.Duration
	if step == stepSaturated {
		err = client.Saturate(ctx, duration)
	} else {
		took, err = client.Pace(ctx, int(duration/reviewInterval), reviewInterval)
	}
	if err != nil {
		return usage{}, err
	}
	u := usage{Wall: time.Since(begun), Items: client.Sent() - sent, P50: percentile(took, 50), P99: percentile(took, 99)}
	u.Account, err = process.AccountOf(pid)
	u.CPU -= before.CPU
	return u, err
}

// percentile is the least that so many of a hundred do not exceed.
func percentile(took []time.Duration, hundredths int) time.Duration {
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[(len(took)*hundredths+99)/100-1]
}

// writeCertificate writes tls.crt and tls.key, and gives what clients trust.
func writeCertificate(directory string) (*x509.CertPool, error) {
	certificate, trusted, err := loopback.Certificate()
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("encode the webhook's key: %w", err)
	}
	for file, text := range map[string][]byte{"tls.crt": trusted, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})} {
		if err := os.WriteFile(filepath.Join(directory, file), text, 0o600); err != nil {
			return nil, fmt.Errorf("write the webhook's certificate: %w", err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(trusted)
	return pool, nil
}
