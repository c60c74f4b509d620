// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/rest"

	"labelstream/app/check"
	"labelstream/config"
	"labelstream/informer"
)

// runChecks prints what comes of each check, and returns an error where one failed.
func runChecks(ctx context.Context, cfg *config.Config, opts *Options) error {
	var results []check.Result
	var failed int
	var written error
	check.Run(ctx, check.Options{
		Config:  cfg,
		Once:    opts.once(),
		NoSend:  opts.NoSend,
		Connect: func() (*rest.Config, error) { return restConfig(opts) },
		Rules: func(kinds []*informer.Kind) map[string][]rbacv1.PolicyRule {
			return requiredRules(cfg, opts.once(), kinds, namespaceOfRun(cfg))
		},
		Namespace: namespaceOfRun(cfg),
		UserAgent: userAgent(opts),
		Log:       opts.Log,
	}, func(r check.Result) {
		if r.Level == check.Fail {
			failed++
		}
		if results = append(results, r); opts.Output == "text" {
			_, err := io.WriteString(opts.Stdout, r.String())
			written = errors.Join(written, err)
		}
	})
	if opts.Output == "json" {
		encoder := json.NewEncoder(opts.Stdout)
		encoder.SetIndent("", "  ")
		written = encoder.Encode(results)
	}
	if written != nil {
		return fmt.Errorf("print the checks: %w", written)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, len(results))
	}
	return nil
}
