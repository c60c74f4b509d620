// SPDX-License-Identifier: Apache-2.0

// Package chart runs helm on labelstream's chart.
package chart

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"labelstream/test/cache"
)

// Dir is where the chart is, seen from any package two levels deep.
const Dir = "../../charts/labelstream"

// Helm is what installs the chart.
var Helm = cache.Program{Name: "helm", Module: "helm.sh/helm/v4", Version: "v4.3.1", Package: "./cmd/helm"}

// Run runs helm with the arguments, on the cluster of a kubeconfig where one is
// named, and returns what it prints. An error has what it complains of. What helm
// keeps is put into dir.
func Run(ctx context.Context, dir, kubeconfig string, args ...string) (string, error) {
	program, err := Helm.Path(ctx)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig, "HELM_NO_PLUGINS=1")
	for _, variable := range []string{"HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"} {
		cmd.Env = append(cmd.Env, variable+"="+filepath.Join(dir, variable))
	}
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("helm %s: %w\n%s", args[0], err, complaint.String())
	}
	return string(out), nil
}
