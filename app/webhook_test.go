package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"labelstream/config"
	"labelstream/record"
	"labelstream/webhook"
)

// webhookConfig has the webhook served with a certificate that the client
// trusts.
func webhookConfig(t *testing.T, receiver *fakeReceiver) (*config.Config, *http.Client) {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	t.Cleanup(server.Close)
	pair := server.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cfg := daemonConfig(t, receiver)
	dir := t.TempDir()
	cfg.WebhookEnabled, cfg.WebhookAddress = true, "127.0.0.1:0"
	cfg.WebhookCertFile, cfg.WebhookKeyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for name, block := range map[string]*pem.Block{
		cfg.WebhookCertFile: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]},
		cfg.WebhookKeyFile:  {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cfg, server.Client()
}

// review posts the review of an update of a pod.
func (d *daemon) review(t *testing.T, client *http.Client, name, app string) {
	t.Helper()
	const format = `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u1","resource":{"group":"","version":"v1","resource":"pods"},` +
		`"operation":"UPDATE","object":{"metadata":{"namespace":"shop","name":%q,"labels":{"app":%q}}}}}`
	resp, err := client.Post("https://"+d.hook.server.Address().String()+d.cfg.WebhookPath, "application/json", strings.NewReader(fmt.Sprintf(format, name, app)))
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

// TestWebhook has a change come by a review and then by the watch: it is sent
// once. Ready waits for no more than the certificate.
func TestWebhook(t *testing.T) {
	receiver := newFakeReceiver(t)
	cluster := newFakeCluster(t, "a", "b")
	cfg, client := webhookConfig(t, receiver)
	d := startDaemon(t, cfg, cluster)
	receiver.expect(t, "the backfill", "a a", "b b")
	d.review(t, client, "b", "b2")
	d.review(t, client, "a", "a")
	receiver.expect(t, "the review", "b b2")
	cluster.change(t, "MODIFIED", pod("b", "b2"))
	cluster.change(t, "MODIFIED", pod("a", "a2"))
	receiver.expect(t, "the events", "a a2")
	if code, body := d.get(t, "/readyz"); code != http.StatusOK {
		t.Errorf("GET /readyz: %d %q", code, body)
	}
	_, metrics := d.get(t, "/metrics")
	for _, want := range []string{
		`labelstream_webhook_reviews_total{kind="pods",operation="UPDATE",outcome="sent"} 1`,
		`labelstream_webhook_reviews_total{kind="pods",operation="UPDATE",outcome="known"} 1`,
		`labelstream_records_total{kind="pods",source="webhook"} 1`,
		`labelstream_webhook_phantoms_total{kind="pods"} 0`,
		`labelstream_webhook_certificate_days_left `,
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

// TestWebhookOfAFollower answers, and leaves what it is shown to the leader.
func TestWebhookOfAFollower(t *testing.T) {
	log, _ := logtest.NewNullLogger()
	target := reviewTarget{newDaemon(&config.Config{}, "", prometheus.NewRegistry(), log)}
	target.Heal(nil, []byte("pods"))
	change := &webhook.Change{Resource: []byte("pods"), Object: &record.Object{Name: []byte("a")}}
	if kind, got := target.Take(change); got != webhook.Standby || kind != "" || target.Kind(nil, []byte("pods")) != "" {
		t.Errorf("taken: %s %s", kind, got)
	}
}

// TestStandby sends what reviews show where there is no watch, and another
// replica leads; and nothing where there is one.
func TestStandby(t *testing.T) {
	receiver := newFakeReceiver(t)
	cluster := newFakeCluster(t, "a")
	cfg, _ := webhookConfig(t, receiver)
	u, err := url.Parse(cluster.URL)
	if err != nil {
		t.Fatal(err)
	}
	file := writeKubeconfig(t, filepath.Join(t.TempDir(), "kubeconfig"), u.Host)
	rest, err := restConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	log, _ := logtest.NewNullLogger()
	d := newDaemon(cfg, file, prometheus.NewRegistry(), log)
	s := standby{daemon: d, cluster: rest}
	begin := func() {
		t.Helper()
		if err := s.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	begin()
	if d.reviewed() != nil {
		t.Error("with a watch a follower takes reviews")
	}
	cfg.WatchEnabled = false
	target := reviewTarget{d}
	change := &webhook.Change{Resource: []byte("pods"), Object: &record.Object{Namespace: []byte("shop"), Name: []byte("b")}}
	for range 2 {
		begin()
		for target.Kind(nil, []byte("pods")) == "" {
			time.Sleep(time.Millisecond)
		}
		if kind, got := target.Take(change); kind != "pods" || got != webhook.Sent {
			t.Errorf("taken: %s %s, want %s", kind, got, webhook.Sent)
		}
		s.stop()
		receiver.expect(t, "the review", "b ")
		if _, got := target.Take(change); got != webhook.Standby {
			t.Errorf("taken: %s after the end", got)
		}
	}
	s.stop()
}

// TestWebhookStartErrors ends the start with one line.
func TestWebhookStartErrors(t *testing.T) {
	receiver := newFakeReceiver(t)
	start := func(change func(*config.Config)) string {
		t.Helper()
		cfg, _ := webhookConfig(t, receiver)
		cfg.PodNamespace = ""
		change(cfg)
		file := writeKubeconfig(t, filepath.Join(t.TempDir(), "kubeconfig"), "127.0.0.1:1")
		log, _ := logtest.NewNullLogger()
		err := newDaemon(cfg, file, prometheus.NewRegistry(), log).run(t.Context())
		if err == nil {
			t.Fatal("the daemon ended without an error")
		}
		return err.Error()
	}
	got := start(func(cfg *config.Config) { cfg.WebhookCertFile, cfg.WebhookKeyFile = "", "" })
	const want = "the webhook needs a certificate: set LABELSTREAM_WEBHOOK_CERT_FILE and LABELSTREAM_WEBHOOK_KEY_FILE, " +
		"or LABELSTREAM_WEBHOOK_SELF_SIGNED=true; or do without it by LABELSTREAM_WEBHOOK_ENABLED=false"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	got = start(func(cfg *config.Config) { cfg.WebhookCertFile = "/nowhere/tls.crt" })
	if want := "open /nowhere/tls.crt: no such file or directory"; !strings.HasPrefix(got, `LABELSTREAM_WEBHOOK_CERT_FILE="/nowhere/tls.crt", `) || !strings.HasSuffix(got, want) {
		t.Errorf("got %q, want the setting and %q", got, want)
	}
	got = start(func(cfg *config.Config) { cfg.WebhookAddress = "127.0.0.1:99999" })
	if want := "serve the webhook at 127.0.0.1:99999, as LABELSTREAM_WEBHOOK_ADDRESS says: "; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	got = start(func(cfg *config.Config) {
		cfg.WebhookCertFile, cfg.WebhookKeyFile, cfg.WebhookSelfSigned = "", "", true
	})
	if want := "find the namespace of the webhook's Secret: set POD_NAMESPACE from the downward API: "; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
