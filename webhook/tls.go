package webhook

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// serving is the configuration that connections are served with, and what it
// is made of.
type serving struct {
	config atomic.Pointer[tls.Config]

	mu          sync.Mutex
	certificate *tls.Certificate
	// clients are the authorities of callers, nil where anyone may call.
	clients *x509.CertPool
}

// TLS implements Certificates. It is nil while there is no certificate.
func (s *serving) TLS() *tls.Config { return s.config.Load() }

// setCertificate has the next connections served with another certificate.
func (s *serving) setCertificate(c *tls.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.certificate = c
	s.update()
}

// setClients has the next callers need a certificate of one of these
// authorities.
func (s *serving) setClients(pool *x509.CertPool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients = pool
	s.update()
}

func (s *serving) update() {
	if s.certificate == nil {
		return
	}
	config := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"h2", "http/1.1"},
		Certificates: []tls.Certificate{*s.certificate},
	}
	if s.clients != nil {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, s.clients
	}
	s.config.Store(config)
}

// leaf returns the certificate that is served, nil where there is none.
func (s *serving) leaf() *x509.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.certificate == nil {
		return nil
	}
	return s.certificate.Leaf
}

// Ready returns an error while there is no certificate to serve.
func (s *serving) Ready() error {
	if s.leaf() == nil {
		return errors.New("the webhook has no certificate yet")
	}
	return nil
}

// registerDays registers the metric of the days that the certificate is still
// valid for, less than 0 where it is not, absent where there is none.
func (s *serving) registerDays(registerer prometheus.Registerer) {
	registerer.MustRegister(daysCollector{s})
}

type daysCollector struct{ *serving }

var daysDesc = prometheus.NewDesc("labelstream_webhook_certificate_days_left",
	"Days for which the webhook's certificate is still valid.", nil, nil)

// Describe implements prometheus.Collector.
func (daysCollector) Describe(descs chan<- *prometheus.Desc) { descs <- daysDesc }

// Collect implements prometheus.Collector.
func (c daysCollector) Collect(metrics chan<- prometheus.Metric) {
	if leaf := c.leaf(); leaf != nil {
		metrics <- prometheus.MustNewConstMetric(daysDesc, prometheus.GaugeValue, time.Until(leaf.NotAfter).Hours()/24)
	}
}

// keyPair parses a certificate and its key, with the leaf that it holds.
func keyPair(certificate, key []byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return nil, fmt.Errorf("parse the certificate: %w", err)
		}
	}
	return &pair, nil
}
