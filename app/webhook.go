// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"k8s.io/client-go/rest"

	"labelstream/config"
	"labelstream/informer"
	"labelstream/webhook"
)

// reviews gives the changes that the webhook is shown to the informers.
type reviews struct {
	informers *informer.Informers
	queue     informer.Queue
}

var _ webhook.Target = reviews{}

// Review implements [webhook.Target].
func (r reviews) Review(c *webhook.Change) (kind string, outcome webhook.Outcome) {
	kind, reviewed := r.informers.Review((*informer.Change)(c), r.queue)
	return kind, webhook.Outcome(reviewed)
}

// certificates are what the webhook is served with.
type certificates interface {
	webhook.Certificates
	// Ready returns an error while there is none.
	Ready() error
	// Run keeps them up to date until ctx ends.
	Run(ctx context.Context)
}

// webhookServer is the admission webhook of a daemon; nil where it has none.
type webhookServer struct {
	certificates certificates
	server       *webhook.Server
	log          logrus.FieldLogger
	// ended is why it is not served any more.
	ended atomic.Pointer[error]
}

// newWebhookServer takes the webhook's address.
func newWebhookServer(cluster *rest.Config, cfg *config.Config, target webhook.Target, registry *prometheus.Registry, log logrus.FieldLogger) (*webhookServer, error) {
	certificates, err := newCertificates(cluster, cfg, registry, log)
	if err != nil {
		return nil, err
	}
	server, err := webhook.Listen(cfg.WebhookAddress, webhook.NewHandler(cfg.WebhookPath, target, cfg.OwnerLabels, registry), certificates, registry, log)
	if err != nil {
		// They free what they hold when they end.
		ended, end := context.WithCancel(context.Background())
		end()
		certificates.Run(ended)
		return nil, err
	}
	log.WithField("webhook", server.Address().String()).Info("Serving the webhook")
	return &webhookServer{certificates: certificates, server: server, log: log}, nil
}

// newCertificates returns the ones of a directory, or else self-signed ones.
func newCertificates(cluster *rest.Config, cfg *config.Config, registry *prometheus.Registry, log logrus.FieldLogger) (certificates, error) {
	if cfg.WebhookCertDir != "" {
		return webhook.NewFiles(cfg.WebhookCertDir, cfg.WebhookClientCAFile, registry, log)
	}
	namespace, err := podNamespace(cfg.PodNamespace, namespaceFile, "webhook's Secret")
	if err != nil {
		return nil, err
	}
	client, err := webhook.JSONClient(cluster)
	if err != nil {
		return nil, err
	}
	return webhook.NewSelfSigned(client, webhook.SelfSignedOptions{
		Namespace:    namespace,
		Name:         cfg.WebhookName,
		ClientCAFile: cfg.WebhookClientCAFile,
	}, registry, log)
}

// run serves until ctx ends.
func (w *webhookServer) run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { w.certificates.Run(ctx) })
	if err := w.server.Run(ctx); err != nil {
		w.ended.Store(&err)
		w.log.WithError(err).Error("The webhook is not served any more")
	}
	running.Wait()
}

// ready returns an error while there is no certificate. It does not wait until
// the API server trusts it.
func (w *webhookServer) ready() error {
	if w == nil {
		return nil
	}
	return w.certificates.Ready()
}

// failure returns why the webhook is not served any more.
func (w *webhookServer) failure() error {
	if w == nil || w.ended.Load() == nil {
		return nil
	}
	return *w.ended.Load()
}
