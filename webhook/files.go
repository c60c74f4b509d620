package webhook

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
)

// fileInterval is how often files are looked at. The kubelet takes a minute or
// more to bring a Secret's change to them.
const fileInterval = 10 * time.Second

// Files serves with a certificate and a key from files, and takes new ones
// without a restart. The names may be links, as in a volume of a Secret.
type Files struct {
	serving
	log               logrus.FieldLogger
	certFile, keyFile string
	certText, keyText []byte
	clients           clientFile
	// failure is why the files cannot be used now, "" where they can.
	failure string
}

// NewFiles reads the files. clientCAFile, whose authorities callers must have
// a certificate of, may be "". The error names the setting of a file that
// cannot be used.
func NewFiles(certFile, keyFile, clientCAFile string, registerer prometheus.Registerer, log logrus.FieldLogger) (*Files, error) {
	f := &Files{log: log, certFile: certFile, keyFile: keyFile, clients: clientFile{name: clientCAFile}}
	if err := f.load(); err != nil {
		return nil, err
	}
	f.registerDays(registerer)
	return f, nil
}

// Run takes new certificates until ctx ends. Where a file cannot be read, or a
// key is not the certificate's, what was served before still is.
func (f *Files) Run(ctx context.Context) {
	ticker := time.NewTicker(fileInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			f.reload()
		case <-ctx.Done():
			return
		}
	}
}

// reload loads the files, and logs a failure when it begins, changes and ends.
func (f *Files) reload() {
	err := f.load()
	switch {
	case err != nil && err.Error() != f.failure:
		f.failure = err.Error()
		f.log.WithError(err).Error("Cannot take the webhook's certificates from their files; serving with those from before")
	case err == nil && f.failure != "":
		f.failure = ""
		f.log.Info("The webhook's certificates can be read again")
	}
}

func (f *Files) load() error {
	return errors.Join(f.loadCertificate(), f.clients.load(&f.serving))
}

func (f *Files) loadCertificate() error {
	certificate, err := os.ReadFile(f.certFile)
	if err != nil {
		return fmt.Errorf("LABELSTREAM_WEBHOOK_CERT_FILE: %w", err)
	}
	key, err := os.ReadFile(f.keyFile)
	if err != nil {
		return fmt.Errorf("LABELSTREAM_WEBHOOK_KEY_FILE: %w", err)
	}
	if bytes.Equal(certificate, f.certText) && bytes.Equal(key, f.keyText) {
		return nil
	}
	pair, err := keyPair(certificate, key)
	if err != nil {
		return fmt.Errorf("LABELSTREAM_WEBHOOK_CERT_FILE=%q, LABELSTREAM_WEBHOOK_KEY_FILE=%q: want a certificate and its key in PEM: %w",
			f.certFile, f.keyFile, err)
	}
	f.certText, f.keyText = certificate, key
	f.setCertificate(pair)
	f.log.WithField("expires", pair.Leaf.NotAfter).Info("Serving the webhook with this certificate")
	return nil
}

// clientFile is the file with the authorities of callers; without a name
// anyone may call.
type clientFile struct {
	name string
	text []byte
}

// load sets the authorities, where they have changed.
func (c *clientFile) load(s *serving) error {
	if c.name == "" {
		return nil
	}
	text, err := os.ReadFile(c.name)
	if err != nil {
		return fmt.Errorf("LABELSTREAM_WEBHOOK_CLIENT_CA_FILE: %w", err)
	}
	if bytes.Equal(text, c.text) {
		return nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return fmt.Errorf("LABELSTREAM_WEBHOOK_CLIENT_CA_FILE=%q: want certificates in PEM, found none", c.name)
	}
	c.text = text
	s.setClients(pool)
	return nil
}
