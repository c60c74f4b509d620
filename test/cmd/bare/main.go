// SPDX-License-Identifier: Apache-2.0

// Command bare is what the benchmarks compare the admission webhook with: it
// reads reviews over TLS and answers each with the same bytes. It says
// "listening on" and its URL in one line on standard output when it can be
// reached, and ends with SIGTERM or SIGINT.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net/http"

	"labelstream/test/loopback"
)

func main() {
	certificate := flag.String("certificate", "", "PEM file with the certificate to serve")
	key := flag.String("key", "", "PEM file with the certificate's key")
	flag.Parse()
	loopback.Main("bare", func(ctx context.Context) error {
		pair, err := tls.LoadX509KeyPair(*certificate, *key)
		if err != nil {
			return fmt.Errorf("read the certificate: %w", err)
		}
		return loopback.Serve(ctx, http.HandlerFunc(answer), &pair, nil)
	})
}

// constant allows whatever was asked, and is as long as an answer of labelstream.
const constant = `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":"00000000-0000-0000-0000-000000000000","allowed":true}}`

var contentType = []string{"application/json"}

func answer(w http.ResponseWriter, r *http.Request) {
	if _, err := io.ReadAll(r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header()["Content-Type"] = contentType
	_, _ = io.WriteString(w, constant)
}
