// SPDX-License-Identifier: Apache-2.0

// Command synthetic runs the synthetic API server on a port of the loopback
// interface. It says "listening on" and its URL in one line on standard
// output when it can be reached, and ends with SIGTERM or SIGINT.
package main

import (
	"context"
	"crypto/tls"
	"flag"

	"labelstream/test/loopback"
	"labelstream/test/synthetic"
)

func main() {
	var options synthetic.Options
	flag.IntVar(&options.Pods, "pods", 10_000, "number of pods")
	profile := flag.String("profile", string(synthetic.Alike), "what the pods' labels are like: alike or mixed")
	flag.IntVar(&options.Deployments, "deployments", 0, "number of Deployments, which look like the pods")
	flag.IntVar(&options.AnnotationBytes, "annotation-bytes", 0, "bytes of further annotations of each pod")
	flag.IntVar(&options.Keys, "keys", 0, "number of further label keys, one for each pod")
	flag.BoolVar(&options.JSONOnly, "json-only", false, "do not speak protobuf")
	kubeconfig := flag.String("kubeconfig", "", "file to write a kubeconfig for the server to")
	useTLS := flag.Bool("tls", false, "serve TLS, HTTP/2 with it, with a certificate signed by itself")
	flag.Parse()
	options.Profile = synthetic.Profile(*profile)
	loopback.Main("synthetic", func(ctx context.Context) error { return serve(ctx, options, *kubeconfig, *useTLS) })
}

func serve(ctx context.Context, options synthetic.Options, kubeconfig string, useTLS bool) error {
	handler, err := synthetic.New(options)
	if err != nil {
		return err
	}
	var certificate *tls.Certificate
	var trusted []byte
	if useTLS {
		if certificate, trusted, err = loopback.Certificate(); err != nil {
			return err
		}
	}
	return loopback.Serve(ctx, handler, certificate, func(url string) error {
		if kubeconfig == "" {
			return nil
		}
		return synthetic.WriteKubeconfig(kubeconfig, url, trusted)
	})
}
