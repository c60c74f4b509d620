package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"labelstream/test/selfsigned"
)

const (
	// webhookPods are listed and watched meanwhile. Nothing comes of the reviews in
	// this API server, so labelstream lists its pods every few seconds, as it would
	// not beside a real one: they are few, so that it is the reviews that count.
	webhookPods = 1000
	// webhookConnections are at work at a time. kube-apiserver keeps 25 idle ones
	// to a host.
	webhookConnections = 32
	// webhookInterval is that of 1,000 a second.
	webhookInterval = time.Millisecond
	// warmTime is how long a server has the connections' load before each turn
	// that is measured.
	warmTime = 500 * time.Millisecond
	// turnTime is at most how long a server has a load before it is the other
	// server's turn: a machine that is shared is not as fast one moment as the next.
	turnTime = 2 * time.Second
	// slowConnections are there beside the others.
	slowConnections = 1000
)

// webhookName is by which --only chooses it.
const webhookName = "webhook"

// loadUsage is what a server took under a load, and how it answered.
type loadUsage struct {
	Reviews int
	Wall    time.Duration
	CPU     time.Duration // user and system
	PeakRSS int64         // bytes, the most since the process's start
	latencies
}

// latencies are zero where a review is not sent at a time of its own, but after
// another.
type latencies struct{ P50, P99, P999, Worst time.Duration }

// The loads, in the order in which a server has them.
const (
	loadFlatOut = iota
	loadPaced
	loadBesideSlow
	loadCount
)

// webhookPair is a run: both servers under each load, in turn.
type webhookPair [loadCount]struct{ bare, product loadUsage }

// webhookResult holds the counted runs.
type webhookResult struct{ runs []webhookPair }

// measureWebhook runs both servers once that is not counted, and as often as
// asked for.
func measureWebhook(ctx context.Context, p programs, o options) (*webhookResult, error) {
	template := newReviewTemplate()
	r := &webhookResult{}
	for i := range o.runs + 1 {
		pair, err := runWebhook(ctx, template, p, o)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "  %.2f of the bare server's rate\n", pair.ratio(loadFlatOut, loadUsage.rate))
		if i > 0 {
			r.runs = append(r.runs, pair)
		}
	}
	return r, nil
}

// runWebhook is one life of all servers. Each review that labelstream answers
// must also have been sent, once.
func runWebhook(ctx context.Context, template *reviewTemplate, p programs, o options) (pair webhookPair, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, errors.New("it took longer than --timeout"))
	defer cancel()
	directory, err := os.MkdirTemp("", "labelstream-bench-")
	if err != nil {
		return pair, fmt.Errorf("make a directory for the certificate: %w", err)
	}
	defer os.RemoveAll(directory)
	s := &webhookServers{}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.start(ctx, directory, p); err != nil {
		return pair, err
	}
	bare, product := newLoad(s.bareServer(), template), newLoad(s.productServer(), template)
	defer bare.close()
	defer product.close()
	for i := range pair {
		both := []*turns{{load: bare, pid: s.bare.command.Process.Pid}, {load: product, pid: s.daemon.command.Process.Pid}}
		if err := takeTurns(ctx, i, o.webhookTime, both...); err != nil {
			return pair, err
		}
		pair[i].bare, pair[i].product = both[0].usage(), both[1].usage()
	}
	return pair, s.checkSent(ctx, product.reviews.Load())
}

// webhookServers are the processes of a run.
type webhookServers struct {
	synthetic, sink, bare *helper
	daemon                *daemon
	trusted               *x509.CertPool
}

// start starts all, labelstream with these further settings, and returns when
// that has backfilled. What was started is there beside an error, too.
func (s *webhookServers) start(ctx context.Context, directory string, p programs, environment ...string) (err error) {
	certificate, key := filepath.Join(directory, "tls.crt"), filepath.Join(directory, "tls.key")
	if s.trusted, err = writeCertificate(certificate, key); err != nil {
		return err
	}
	kubeconfig := filepath.Join(directory, "kubeconfig")
	if s.synthetic, err = startHelper(ctx, p.synthetic, "--pods", strconv.Itoa(webhookPods), "--kubeconfig", kubeconfig); err != nil {
		return err
	}
	if s.sink, err = startHelper(ctx, p.sink); err != nil {
		return err
	}
	if s.bare, err = startHelper(ctx, p.bare, "--certificate", certificate, "--key", key); err != nil {
		return err
	}
	environment = append(environment, "LABELSTREAM_WEBHOOK_ADDRESS=127.0.0.1:0",
		"LABELSTREAM_WEBHOOK_CERT_FILE="+certificate, "LABELSTREAM_WEBHOOK_KEY_FILE="+key)
	if s.daemon, err = startDaemon(ctx, p.labelstream, kubeconfig, s.sink.url, environment...); err != nil {
		return err
	}
	if _, err = s.daemon.live(ctx, daemonStages(webhookPods)[0], s.synthetic.url); err != nil {
		return fmt.Errorf("backfill before the reviews: %w", err)
	}
	return nil
}

func (s *webhookServers) bareServer() *reviewServer {
	return &reviewServer{address: strings.TrimPrefix(s.bare.url, "https://"), trusted: s.trusted}
}

func (s *webhookServers) productServer() *reviewServer {
	return &reviewServer{address: s.daemon.webhook, trusted: s.trusted, repeats: true}
}

// stop stops those that run.
func (s *webhookServers) stop() error {
	err := s.stopDaemon()
	for _, h := range []*helper{s.bare, s.sink, s.synthetic} {
		if h != nil {
			err = errors.Join(err, h.stop())
		}
	}
	return err
}

func (s *webhookServers) stopDaemon() error {
	if s.daemon == nil {
		return nil
	}
	d := s.daemon
	s.daemon = nil
	return d.stop()
}

// checkSent ends labelstream, and demands that it has sent a sample for each
// pod of the backfill, and one for each review.
func (s *webhookServers) checkSent(ctx context.Context, reviews int64) error {
	if err := s.stopDaemon(); err != nil {
		return err
	}
	sent, err := fetchTotals(ctx, s.sink.url)
	if err != nil {
		return err
	}
	if want := webhookPods + reviews; sent.Samples != want {
		return fmt.Errorf("labelstream sent %d samples for a backfill of %d pods and %d reviews, want %d", sent.Samples, webhookPods, reviews, want)
	}
	return nil
}

// writeCertificate writes a certificate and its key, and gives what clients are
// to trust.
func writeCertificate(certificateFile, keyFile string) (*x509.CertPool, error) {
	certificate, trusted, err := selfsigned.Certificate()
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("encode the webhook's key: %w", err)
	}
	for file, text := range map[string][]byte{
		certificateFile: trusted,
		keyFile:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return nil, fmt.Errorf("write the webhook's certificate: %w", err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(trusted)
	return pool, nil
}

// turns are those that a server, which is this process, has under one load.
type turns struct {
	load *load
	pid  int
	sum  loadUsage
	took []time.Duration
}

// takeTurns puts a load on each server for so long, in turns. Slow connections
// take as long as a review of theirs, so beside them each has one turn.
func takeTurns(ctx context.Context, which int, duration time.Duration, servers ...*turns) error {
	turn := min(duration, turnTime)
	if which == loadBesideSlow {
		turn = duration
	}
	for rest := duration; rest > 0; rest -= turn {
		for _, s := range servers {
			if err := s.measure(ctx, which, min(turn, rest)); err != nil {
				return err
			}
		}
	}
	return nil
}

// usage is that of all turns.
func (t *turns) usage() loadUsage {
	t.sum.latencies = percentiles(t.took)
	return t.sum
}

// measure puts a load on the server for so long.
func (t *turns) measure(ctx context.Context, which int, duration time.Duration) (err error) {
	l := t.load
	// Connections are to be open and caches warm.
	if err := l.flatOut(ctx, warmTime); err != nil {
		return err
	}
	if which == loadBesideSlow {
		slow, failure := l.slowly(ctx, l.slow)
		if failure != nil {
			return failure
		}
		defer func() { err = errors.Join(err, slow.end()) }()
	}
	before, err := processTime(t.pid)
	if err != nil {
		return err
	}
	reviews, begun := l.reviews.Load(), time.Now()
	var took []time.Duration
	if which == loadFlatOut {
		err = l.flatOut(ctx, duration)
	} else {
		took, err = l.paced(ctx, int(duration/webhookInterval), webhookInterval)
	}
	if err != nil {
		return err
	}
	t.took = append(t.took, took...)
	t.sum.Reviews += int(l.reviews.Load() - reviews)
	t.sum.Wall += time.Since(begun)
	after, err := processTime(t.pid)
	if err != nil {
		return err
	}
	t.sum.CPU += after - before
	t.sum.PeakRSS, err = statusField(t.pid, "VmHWM")
	return err
}

// percentiles of how long reviews took.
func percentiles(took []time.Duration) latencies {
	if len(took) == 0 {
		return latencies{}
	}
	slices.Sort(took)
	// The least that so many of a thousand do not exceed.
	at := func(thousandths int) time.Duration { return took[(len(took)*thousandths+999)/1000-1] }
	return latencies{P50: at(500), P99: at(990), P999: at(999), Worst: at(1000)}
}

// ratio compares labelstream with the bare server.
func (p *webhookPair) ratio(load int, of func(loadUsage) float64) float64 {
	return of(p[load].product) / of(p[load].bare)
}
