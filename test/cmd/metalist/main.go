// SPDX-License-Identifier: Apache-2.0

// Command metalist is what the benchmarks compare with: it lists all pods with
// client-go's own metadata client, page by page, drops them, and prints how
// many there were.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig of the API server")
	limit := flag.Int64("limit", 500, "objects a page")
	flag.Parse()
	objects, err := list(context.Background(), *kubeconfig, *limit)
	if err != nil {
		fmt.Fprintln(os.Stderr, "metalist:", err)
		os.Exit(1)
	}
	fmt.Println(objects)
}

func list(ctx context.Context, kubeconfig string, limit int64) (int, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return 0, fmt.Errorf("read the kubeconfig %s: %w", kubeconfig, err)
	}
	config.QPS = -1
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return 0, fmt.Errorf("make a metadata client: %w", err)
	}
	pods := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"})
	objects := 0
	options := metav1.ListOptions{Limit: limit}
	for {
		page, err := pods.List(ctx, options)
		if err != nil {
			return objects, fmt.Errorf("list pods after %d objects: %w", objects, err)
		}
		objects += len(page.Items)
		if options.Continue = page.Continue; options.Continue == "" {
			return objects, nil
		}
	}
}
