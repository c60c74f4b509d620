package informer

import (
	"context"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// Client returns the client that lists are read with. Its serializer is the
// metadata client's: only that one finds the new continue token in a 410.
func Client(cfg *rest.Config) (rest.Interface, error) {
	cfg = metadata.ConfigFor(cfg)
	// The API server's priority and fairness governs, not a limit of ours.
	cfg.QPS = -1
	cfg.DisableCompression = true
	cfg.WarningHandler = rest.NoWarnings{}
	client, err := rest.UnversionedRESTClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("make a client of the API server at %s: %w", cfg.Host, err)
	}
	return client, nil
}

// Discover asks the API server what it serves. It tries again for a while when
// the server does not answer, as it does not for a moment after a node's or its
// own start.
func Discover(ctx context.Context, cfg *rest.Config, patience time.Duration, log logrus.FieldLogger) (*Catalog, error) {
	client, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("make a client of the API server at %s: %w", cfg.Host, err)
	}
	var trouble trouble
	for {
		catalog, err := NewCatalog(client.ServerPreferredResourcesWithContext(ctx))
		if err == nil {
			return catalog, nil
		}
		err = fmt.Errorf("ask the API server at %s for its resources: %w", cfg.Host, err)
		now := time.Now()
		delay := trouble.note(err, now)
		if ctx.Err() != nil || now.Sub(trouble.since) >= patience {
			return nil, err
		}
		if trouble.news {
			log.WithError(err).Warn("Cannot reach the API server; trying again")
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil, err
		}
	}
}
