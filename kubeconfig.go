package main

import (
	"errors"
	"fmt"
	"os"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// restConfig says how to reach the API server: by the file given, KUBECONFIG,
// the pod's service account, or ~/.kube/config.
func restConfig(file string) (*rest.Config, error) {
	cfg, err := loadRestConfig(file)
	if err != nil {
		return nil, fmt.Errorf("find out how to reach the API server (--kubeconfig, KUBECONFIG, service account, ~/.kube/config): %w", err)
	}
	cfg.UserAgent = userAgent()
	return cfg, nil
}

func loadRestConfig(file string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = file
	if file == "" && os.Getenv(clientcmd.RecommendedConfigPathEnvVar) == "" {
		cfg, err := rest.InClusterConfig()
		if !errors.Is(err, rest.ErrNotInCluster) {
			return cfg, err
		}
	}
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
}

func userAgent() string { return "labelstream/" + version }
