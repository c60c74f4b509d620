// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"os"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// restConfig returns how to reach the API server: by the file of --kubeconfig,
// KUBECONFIG, the pod's service account unless there is a --context, or
// ~/.kube/config.
func restConfig(opts *Options) (*rest.Config, error) {
	cfg, err := loadRestConfig(opts.Kubeconfig, opts.Context)
	if err != nil {
		return nil, fmt.Errorf("find out how to reach the API server: %w", err)
	}
	cfg.UserAgent = userAgent(opts)
	return cfg, nil
}

func loadRestConfig(file, name string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = file
	variable := os.Getenv(clientcmd.RecommendedConfigPathEnvVar)
	if file == "" && variable == "" && name == "" {
		cfg, err := rest.InClusterConfig()
		if !errors.Is(err, rest.ErrNotInCluster) {
			return cfg, err
		}
	}
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: name}).ClientConfig()
	if file == "" && clientcmd.IsEmptyConfig(err) {
		return nil, fmt.Errorf("no cluster in the files of KUBECONFIG=%q, no service account, no ~/.kube/config", variable)
	}
	return cfg, err
}

func userAgent(opts *Options) string { return "labelstream/" + opts.Build.Version }
