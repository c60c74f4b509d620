package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"k8s.io/client-go/rest"

	"labelstream/config"
	"labelstream/webhook"
)

var errNoCertificate = errors.New("the webhook needs a certificate: set LABELSTREAM_WEBHOOK_CERT_FILE and LABELSTREAM_WEBHOOK_KEY_FILE, " +
	"or LABELSTREAM_WEBHOOK_SELF_SIGNED=true; or do without it by LABELSTREAM_WEBHOOK_ENABLED=false")

// certificates are what the webhook is served with.
type certificates interface {
	webhook.Certificates
	// Ready returns an error while there is none.
	Ready() error
	// Run keeps them up to date until ctx ends.
	Run(ctx context.Context)
}

var (
	_ certificates = (*webhook.Files)(nil)
	_ certificates = (*webhook.SelfSigned)(nil)
)

// hook is a daemon's admission webhook.
type hook struct {
	certificates certificates
	server       *webhook.Server
	log          logrus.FieldLogger
	// ended is why it is not served any more.
	ended atomic.Pointer[error]
}

// newHook takes the address. It returns nil where the webhook is off.
func newHook(cluster *rest.Config, cfg *config.Config, target webhook.Target, registry *prometheus.Registry, log logrus.FieldLogger) (*hook, error) {
	if !cfg.WebhookEnabled {
		return nil, nil
	}
	certificates, err := newCertificates(cluster, cfg, registry, log)
	if err != nil {
		return nil, err
	}
	handler := webhook.NewHandler(cfg.WebhookPath, cfg.WebhookReconnect, target, registry)
	server, err := webhook.Listen(cfg.WebhookAddress, handler, certificates, registry, log)
	if err != nil {
		// They free what they hold when they end.
		ended, end := context.WithCancel(context.Background())
		end()
		certificates.Run(ended)
		return nil, err
	}
	log.WithField("webhook", server.Address().String()).Info("Serving the webhook")
	return &hook{certificates: certificates, server: server, log: log}, nil
}

func newCertificates(cluster *rest.Config, cfg *config.Config, registry *prometheus.Registry, log logrus.FieldLogger) (certificates, error) {
	switch {
	case cfg.WebhookCertFile != "":
		return webhook.NewFiles(cfg.WebhookCertFile, cfg.WebhookKeyFile, cfg.WebhookClientCAFile, registry, log)
	case !cfg.WebhookSelfSigned:
		return nil, errNoCertificate
	}
	namespace, err := podNamespace(cfg.PodNamespace, namespaceFile)
	if err != nil {
		return nil, err
	}
	client, err := webhook.JSONClient(cluster)
	if err != nil {
		return nil, err
	}
	return webhook.NewSelfSigned(client, webhook.SelfSignedOptions{
		Namespace:     namespace,
		Secret:        cfg.WebhookSecret,
		Service:       cfg.WebhookService,
		Configuration: cfg.WebhookConfiguration,
		ClientCAFile:  cfg.WebhookClientCAFile,
	}, registry, log)
}

func podNamespace(namespace, file string) (string, error) {
	if namespace != "" {
		return namespace, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("find the namespace of the webhook's Secret: set POD_NAMESPACE from the downward API: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// serve serves until it is stopped. Reviews are allowed even while the daemon
// ends: an API server may not know yet that it does.
func (h *hook) serve(ctx context.Context) (stop func()) {
	if h == nil {
		return func() {}
	}
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { h.certificates.Run(serving) })
	running.Go(func() {
		if err := h.server.Run(serving); err != nil {
			h.ended.Store(&err)
			h.log.WithError(err).Error("The webhook is not served any more")
		}
	})
	return func() { cancel(); running.Wait() }
}

// ready returns an error while there is no certificate. That the API server
// trusts it is not waited for.
func (h *hook) ready() error {
	if h == nil {
		return nil
	}
	return h.certificates.Ready()
}

// failure returns why the webhook is not served any more.
func (h *hook) failure() error {
	if h == nil || h.ended.Load() == nil {
		return nil
	}
	return *h.ended.Load()
}

// reviewTarget gives reviews to the tenure that takes them.
type reviewTarget struct{ *daemon }

var _ webhook.Target = reviewTarget{}

// Take implements webhook.Target.
func (r reviewTarget) Take(c *webhook.Change) (kind string, outcome webhook.Outcome) {
	t := r.reviewed()
	if t == nil {
		return "", webhook.Standby
	}
	kind, taken := t.reviews.Take(c.Group, c.Resource, c.Object, c.Deleted)
	return kind, webhook.Outcome(taken)
}

// Heal implements webhook.Target.
func (r reviewTarget) Heal(group, resource []byte) {
	if t := r.reviewed(); t != nil {
		t.reviews.Heal(group, resource)
	}
}

// Kind implements webhook.Target.
func (r reviewTarget) Kind(group, resource []byte) string {
	if t := r.reviewed(); t != nil {
		return t.reviews.Kind(group, resource)
	}
	return ""
}
