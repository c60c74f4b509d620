// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"context"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"labelstream/status/outage"
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

// Discover asks the API server what it serves. It tries again until patience ends,
// since a server does not answer for a moment after a node's or its own start.
// Without patience it asks once.
func Discover(ctx context.Context, cfg *rest.Config, patience time.Duration, log logrus.FieldLogger) (*Catalog, error) {
	client, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("make a client of the API server at %s: %w", cfg.Host, err)
	}
	if patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	failing, backoff := newDiscoveryOutage(log), newBackoff()
	for {
		catalog, err := NewCatalog(client.ServerPreferredResourcesWithContext(ctx))
		if err == nil {
			failing.End()
			return catalog, nil
		}
		if _, before := failing.Err(); before != nil && ctx.Err() != nil {
			// That the time is over is not why.
			return nil, before
		}
		err = fmt.Errorf("ask the API server at %s for its resources: %w", cfg.Host, err)
		if patience <= 0 || ctx.Err() != nil {
			return nil, err
		}
		failing.Fail(outage.Cause(err), err)
		if sleep(ctx, backoff.Step()) != nil {
			return nil, err
		}
	}
}

func newDiscoveryOutage(log logrus.FieldLogger) *outage.Outage {
	return outage.New(log, "Cannot discover what the API server serves", "Discovering again")
}
