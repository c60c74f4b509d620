// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"

	"labelstream/status/outage"
)

// Files serves with the certificate and key in a directory, tls.crt and
// tls.key, and reads them again when they change. The names may be links, as in
// a volume of a Secret.
type Files struct {
	watcher *certwatcher.CertWatcher
	clients *clientCAs
	outage  *outage.Outage
}

// NewFiles reads the files. clientCAFile, whose authorities callers must have
// a certificate of, may be "". The error names the settings of files that
// cannot be used, or says that they cannot be watched. Run frees what it takes
// to watch them.
func NewFiles(dir, clientCAFile string, registerer prometheus.Registerer, log logrus.FieldLogger) (*Files, error) {
	clients, err := newClientCAs(clientCAFile, log)
	if err != nil {
		return nil, err
	}
	watcher, err := certwatcher.New(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		return nil, explainFiles(dir, err)
	}
	registerNotAfter(registerer, watcher.GetCertificate)
	unwatched := outage.New(log, "Cannot watch the webhook's certificate; reading it every ten seconds", "")
	return &Files{watcher: watcher, clients: clients, outage: unwatched}, nil
}

func explainFiles(dir string, err error) error {
	// So says inotify; a process that has no file left would not read these.
	if errors.Is(err, syscall.EMFILE) {
		return outage.WithHint(fmt.Errorf("watch the webhook's certificate: %w", err),
			"raise the node's sysctl fs.inotify.max_user_instances, or leave out LABELSTREAM_WEBHOOK_CERT_DIR")
	}
	return fmt.Errorf("LABELSTREAM_WEBHOOK_CERT_DIR=%q: want a certificate in tls.crt and its key in tls.key, in PEM: %w", dir, err)
}

// GetCertificate implements Certificates.
func (f *Files) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return f.watcher.GetCertificate(hello)
}

// ClientCAs implements Certificates.
func (f *Files) ClientCAs() *x509.CertPool { return f.clients.current() }

// Ready returns nil: the certificate is there from the beginning.
func (f *Files) Ready() error { return nil }

// Run reads new certificates until ctx ends. Where a file cannot be read, or a
// key is not the certificate's, the certificate from before is served.
func (f *Files) Run(ctx context.Context) {
	for {
		err := f.watcher.Start(ctx)
		if ctx.Err() != nil {
			return
		}
		// It gives up after ten seconds where it cannot watch the files.
		f.outage.Fail(outage.Cause(err), err)
		_ = f.watcher.ReadCertificate()
	}
}

// registerNotAfter registers when the certificate that is served ends.
func registerNotAfter(registerer prometheus.Registerer, get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) {
	registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "labelstream_webhook_certificate_not_after_timestamp_seconds",
		Help: "When the webhook's certificate ends, in seconds since 1970; not a number while there is none.",
	}, func() float64 {
		c, err := get(nil)
		if err != nil {
			return math.NaN()
		}
		return float64(c.Leaf.NotAfter.Unix())
	}))
}

// clientCAs are the authorities of callers, from a file; without a file anyone
// may call.
type clientCAs struct {
	file   string
	last   atomic.Pointer[x509.CertPool]
	outage *outage.Outage
}

func newClientCAs(file string, log logrus.FieldLogger) (*clientCAs, error) {
	c := &clientCAs{file: file, outage: outage.New(log,
		"Cannot read the authorities of the webhook's callers; keeping those from before",
		"The authorities of the webhook's callers can be read again")}
	return c, c.read()
}

// current returns the authorities that the file holds now, or held before it
// could not be read. API servers keep their connections, so it is read seldom.
func (c *clientCAs) current() *x509.CertPool {
	if err := c.read(); err != nil {
		c.outage.Fail(err.Error(), err)
	} else {
		c.outage.End()
	}
	return c.last.Load()
}

func (c *clientCAs) read() error {
	if c.file == "" {
		return nil
	}
	text, err := os.ReadFile(c.file)
	if err != nil {
		return fmt.Errorf("LABELSTREAM_WEBHOOK_CLIENT_CA_FILE: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return fmt.Errorf("LABELSTREAM_WEBHOOK_CLIENT_CA_FILE=%q: want certificates in PEM, found none", c.file)
	}
	c.last.Store(pool)
	return nil
}
