package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

// fileInterval is how often files are read, beside when they are seen to
// change. The kubelet takes a minute or more to bring a Secret's change to them.
const fileInterval = 10 * time.Second

// Files serves with a certificate and a key from files, and takes new ones
// without a restart. The names may be links, as in a volume of a Secret.
type Files struct {
	serving
	log     logrus.FieldLogger
	watcher *certwatcher.CertWatcher
	// changed has a word for Run once the watcher has another certificate.
	changed chan struct{}
	// taken is the watcher's certificate that is served.
	taken   *tls.Certificate
	clients clientFile
	// failure is why the files cannot be used now, "" where they can.
	failure string
}

// NewFiles reads the files. clientCAFile, whose authorities callers must have
// a certificate of, may be "". The error names the settings of files that
// cannot be used, or says that they cannot be watched. Only Run frees what it
// takes to watch them.
func NewFiles(certFile, keyFile, clientCAFile string, registerer prometheus.Registerer, log logrus.FieldLogger) (*Files, error) {
	f := &Files{log: log, changed: make(chan struct{}, 1), clients: clientFile{name: clientCAFile}}
	if err := f.clients.load(&f.serving); err != nil {
		return nil, err
	}
	var err error
	if f.watcher, err = certwatcher.New(certFile, keyFile); err != nil {
		return nil, explainFiles(certFile, keyFile, err)
	}
	f.watcher.RegisterCallback(func(tls.Certificate) {
		// Callbacks may overtake each other: the watcher knows the newest.
		select {
		case f.changed <- struct{}{}:
		default:
		}
	})
	f.take()
	f.registerDays(registerer)
	return f, nil
}

func explainFiles(certFile, keyFile string, err error) error {
	// So says inotify; a process that has no file left would not read these.
	if errors.Is(err, syscall.EMFILE) {
		return fmt.Errorf("watch the webhook's certificate: raise the node's sysctl fs.inotify.max_user_instances, "+
			"or use LABELSTREAM_WEBHOOK_SELF_SIGNED: %w", err)
	}
	return fmt.Errorf("LABELSTREAM_WEBHOOK_CERT_FILE=%q, LABELSTREAM_WEBHOOK_KEY_FILE=%q: want a certificate and its key in PEM: %w",
		certFile, keyFile, err)
}

// Run takes new certificates until ctx ends. Where a file cannot be read, or a
// key is not the certificate's, what was served before still is.
func (f *Files) Run(ctx context.Context) {
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		// Its own reading would only log, and as often as it fails.
		if err := f.watcher.WithWatchInterval(math.MaxInt64).Start(ctx); err != nil && ctx.Err() == nil {
			f.log.WithError(err).Warnf("Cannot watch the webhook's certificate; reading it every %s", fileInterval)
		}
	})
	ticker := time.NewTicker(fileInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			f.reload()
		case <-f.changed:
			f.take()
		case <-ctx.Done():
			return
		}
	}
}

// reload reads the files, and logs a failure when it begins, changes and ends.
func (f *Files) reload() {
	err := errors.Join(f.watcher.ReadCertificate(), f.clients.load(&f.serving))
	f.take()
	switch {
	case err != nil && err.Error() != f.failure:
		f.failure = err.Error()
		f.log.WithError(err).Error("Cannot take the webhook's certificates from their files; serving with those from before")
	case err == nil && f.failure != "":
		f.failure = ""
		f.log.Info("The webhook's certificates can be read again")
	}
}

// take serves with the certificate that the watcher has.
func (f *Files) take() {
	// It has one from its beginning, and this never fails.
	pair, _ := f.watcher.GetCertificate(nil)
	if pair == f.taken {
		return
	}
	f.taken = pair
	f.setCertificate(pair)
	f.log.WithField("expires", pair.Leaf.NotAfter).Info("Serving the webhook with this certificate")
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
