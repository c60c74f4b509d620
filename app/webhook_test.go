// SPDX-License-Identifier: Apache-2.0

package app

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func writeCertificate(t *testing.T) (dir string, client *http.Client) {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	t.Cleanup(server.Close)
	pair := server.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for name, block := range map[string]*pem.Block{
		"tls.crt": {Type: "CERTIFICATE", Bytes: pair.Certificate[0]},
		"tls.key": {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, server.Client()
}

// review posts the review of a change of a pod.
func (r *running) review(t *testing.T, client *http.Client, operation, field, name, app string) {
	t.Helper()
	const format = `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u1","resource":{"group":"","version":"v1","resource":"pods"},` +
		`"operation":%q,%q:{"metadata":{"namespace":"shop","name":%q,"labels":{"app":%q}}}}}`
	resp, err := client.Post("https://"+r.logged(t, "webhook")+"/validate", "application/json", strings.NewReader(fmt.Sprintf(format, operation, field, name, app)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	const want = `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":"u1","allowed":true}}`
	if err != nil || resp.StatusCode != http.StatusOK || string(text) != want {
		t.Errorf("the webhook answered %d %s, %v", resp.StatusCode, text, err)
	}
}

// TestWebhook sends what reviews show and the lists do not: a change, and the end
// of an object.
func TestWebhook(t *testing.T) {
	receiver := newFakeReceiver(t)
	dir, client := writeCertificate(t)
	cfg := loadConfig(t, receiver.URL, map[string]string{"CHANGES": "webhook", "WEBHOOK_ADDRESS": "127.0.0.1:0", "WEBHOOK_CERT_DIR": dir})
	d := start(t, cfg, Flags{Kubeconfig: writeKubeconfig(t, newFakeCluster(t, "a").URL)})
	// Until the daemon knows the kind, reviews give nothing.
	d.waitFor(t, "/metrics", `labelstream_resource_missing{resource="pods"} 0`)
	for range 2 {
		d.review(t, client, "UPDATE", "object", "b", "b2")
	}
	d.review(t, client, "DELETE", "oldObject", "b", "b2")
	receiver.expect(t, "the reviews", "b b2", "b b2")
	if code, body := d.get(t, "/readyz"); code != http.StatusOK {
		t.Errorf("GET /readyz: %d %q", code, body)
	}
	_, metrics := d.get(t, "/metrics")
	for _, want := range []string{
		`labelstream_webhook_reviews_total{operation="UPDATE",outcome="sent",resource="pods"} 1`,
		`labelstream_webhook_reviews_total{operation="UPDATE",outcome="unchanged",resource="pods"} 1`,
		`labelstream_webhook_reviews_total{operation="DELETE",outcome="sent",resource="pods"} 1`,
		`labelstream_records_total{resource="pods",source="webhook"} 2`,
		`labelstream_webhook_certificate_not_after_timestamp_seconds `,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	d.stop()
	if err := <-d.done; err != nil {
		t.Error(err)
	}
}

// TestWebhookFailure ends liveness.
func TestWebhookFailure(t *testing.T) {
	var none *webhookServer
	if err := errors.Join(none.failure(), none.ready()); err != nil {
		t.Errorf("without a webhook: %v", err)
	}
	ended := errors.New("accept: too many open files")
	w := &webhookServer{}
	if w.ended.Store(&ended); w.failure() != ended {
		t.Errorf("failure is %v, want %v", w.failure(), ended)
	}
}
