// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applyadmission "k8s.io/client-go/applyconfigurations/admissionregistration/v1"
	applycore "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"labelstream/status/outage"
)

const (
	// lookInterval is how often the Secret and the webhook's configuration are
	// read.
	lookInterval = 30 * time.Second
	// retryInterval is how soon they are read again after a failure.
	retryInterval = 5 * time.Second
	// clientTimeout bounds each request to the API server.
	clientTimeout = 10 * time.Second
	// fieldManager owns what is written. An empty Secret is made by another
	// manager: one that applies a Secret without its data gives the data up.
	fieldManager = "labelstream"
	makerManager = "labelstream-maker"
)

// SelfSignedOptions say where a certificate of our own is kept and used.
type SelfSignedOptions struct {
	// Namespace and Name are those of the Secret and the Service. The
	// ValidatingWebhookConfiguration has the same name.
	Namespace, Name string
	// ClientCAFile is as for [NewFiles].
	ClientCAFile string
}

// SelfSigned serves with a certificate of our own, which is its own trust
// anchor. It is kept in a Secret that all replicas share. The first of them to
// come makes and renews it, and tells the API server to trust it.
type SelfSigned struct {
	client  kubernetes.Interface
	options SelfSignedOptions
	names   []string
	clients *clientCAs
	log     logrus.FieldLogger
	outage  *outage.Outage
	now     func() time.Time
	// served is what connections are served with, nil until there is one.
	served atomic.Pointer[tls.Certificate]

	// pair is what the Secret holds, as far as is known.
	pair pair
	// trusted is what API servers have been told to trust since published.
	trusted   []byte
	published time.Time
}

// JSONClient returns a client for [NewSelfSigned].
func JSONClient(cluster *rest.Config) (kubernetes.Interface, error) {
	cfg := rest.CopyConfig(cluster)
	cfg.QPS, cfg.Timeout = -1, clientTimeout
	return kubernetes.NewForConfig(cfg)
}

// NewSelfSigned returns certificates that are there once Run has got them. The
// error names a setting that cannot be used.
func NewSelfSigned(client kubernetes.Interface, options SelfSignedOptions, registerer prometheus.Registerer, log logrus.FieldLogger) (*SelfSigned, error) {
	clients, err := newClientCAs(options.ClientCAFile, log)
	if err != nil {
		return nil, err
	}
	host := options.Name + "." + options.Namespace + ".svc"
	s := &SelfSigned{
		client: client, options: options, clients: clients, log: log, now: time.Now,
		names:  []string{host, host + ".cluster.local"},
		outage: outage.New(log, "Cannot keep the webhook's certificate", "The webhook's certificate is kept again"),
	}
	registerNotAfter(registerer, s.GetCertificate)
	return s, nil
}

var errNoCertificate = errors.New("the webhook has no certificate yet")

// GetCertificate implements Certificates.
func (s *SelfSigned) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := s.served.Load(); c != nil {
		return c, nil
	}
	return nil, errNoCertificate
}

// ClientCAs implements Certificates.
func (s *SelfSigned) ClientCAs() *x509.CertPool { return s.clients.current() }

// Ready returns an error while there is no certificate to serve.
func (s *SelfSigned) Ready() error {
	_, err := s.GetCertificate(nil)
	return err
}

// Run keeps the certificate until ctx ends.
func (s *SelfSigned) Run(ctx context.Context) {
	for {
		pause := s.report(s.reconcile(ctx))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// report logs an error and returns how long to wait. A conflict is none: another
// replica was faster.
func (s *SelfSigned) report(err error) (pause time.Duration) {
	switch {
	case err == nil:
		s.outage.End()
		return lookInterval
	case apierrors.IsForbidden(err):
		err = outage.WithHint(err, "grant the rights that the command rbac prints")
	case apierrors.IsConflict(err), errors.Is(err, context.Canceled):
		return retryInterval
	}
	s.outage.Fail(err.Error(), err)
	return retryInterval
}

// reconcile brings the Secret, the configuration and what is served up to date.
// A Secret that was deleted is made again from what is served.
func (s *SelfSigned) reconcile(ctx context.Context) error {
	kept, version, err := s.readSecret(ctx)
	if err != nil {
		return err
	}
	if kept.current != nil {
		s.pair = kept
	}
	defer s.serve()
	next, err := s.pair.renewed(s.names, s.now())
	if err != nil {
		return err
	}
	if next != kept {
		if err := s.writeSecret(ctx, next, version); err != nil {
			return err
		}
		s.pair = next
	}
	return s.publish(ctx)
}

// serve serves with the certificate of the pair whose time it is.
func (s *SelfSigned) serve() {
	if s.pair.current == nil {
		return
	}
	now := s.now()
	published := bytes.Equal(s.trusted, s.pair.bundle()) && now.Sub(s.published) >= publishedFor
	c := s.pair.serve(now, published).tls
	if before := s.served.Swap(c); before == nil || !before.Leaf.Equal(c.Leaf) {
		s.log.WithField("expires", c.Leaf.NotAfter).Info("Serving the webhook with this certificate")
	}
}

// readSecret returns what the Secret holds, which may be nothing, and its
// version. A Secret that is missing is made: of two that make it, only one can
// write to its first version.
func (s *SelfSigned) readSecret(ctx context.Context) (pair, string, error) {
	secrets := s.client.CoreV1().Secrets(s.options.Namespace)
	kept, err := secrets.Get(ctx, s.options.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		kept, err = secrets.Apply(ctx, s.secret(), metav1.ApplyOptions{FieldManager: makerManager, Force: true})
	}
	if err != nil {
		return pair{}, "", err
	}
	p, err := parsePair(kept.Data, s.names)
	if kept.Type != "" && kept.Type != corev1.SecretTypeOpaque {
		err = fmt.Errorf("it is of type %s", kept.Type)
	}
	if err != nil {
		return pair{}, "", outage.WithHint(
			fmt.Errorf("the Secret %s/%s holds something else than the webhook's certificate: %w", s.options.Namespace, s.options.Name, err),
			"delete it, or choose another name by LABELSTREAM_WEBHOOK_NAME")
	}
	return p, kept.ResourceVersion, nil
}

func (s *SelfSigned) secret() *applycore.SecretApplyConfiguration {
	return applycore.Secret(s.options.Name, s.options.Namespace).WithType(corev1.SecretTypeOpaque)
}

// writeSecret writes the Secret, if it still has the version.
func (s *SelfSigned) writeSecret(ctx context.Context, p pair, version string) error {
	secret := s.secret().WithResourceVersion(version).WithData(p.data())
	_, err := s.client.CoreV1().Secrets(s.options.Namespace).
		Apply(ctx, secret, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	return err
}

// publish tells the API server to trust both certificates of the pair. It
// applies the caBundle and nothing else.
func (s *SelfSigned) publish(ctx context.Context) error {
	configurations := s.client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	have, err := configurations.Get(ctx, s.options.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if len(have.Webhooks) == 0 {
		return fmt.Errorf("the ValidatingWebhookConfiguration %s has no webhooks", s.options.Name)
	}
	bundle, changed := s.pair.bundle(), false
	want := applyadmission.ValidatingWebhookConfiguration(s.options.Name).WithResourceVersion(have.ResourceVersion)
	for _, hook := range have.Webhooks {
		changed = changed || !bytes.Equal(hook.ClientConfig.CABundle, bundle)
		want.WithWebhooks(applyadmission.ValidatingWebhook().WithName(hook.Name).
			WithClientConfig(applyadmission.WebhookClientConfig().WithCABundle(bundle...)))
	}
	if changed {
		s.trusted = nil
		_, err := configurations.Apply(ctx, want, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
		if err != nil {
			return err
		}
		s.log.WithField("configuration", s.options.Name).Info("Told the API server to trust the webhook's certificate")
	}
	if !bytes.Equal(s.trusted, bundle) {
		s.trusted, s.published = bundle, s.now()
	}
	return nil
}
