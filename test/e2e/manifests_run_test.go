package e2e

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestManifestsRun applies an overlay with several replicas, and runs two of them
// as the overlay's own account and with its settings: they lead one after the
// other, send, and lack nothing.
func TestManifestsRun(t *testing.T) {
	t.Parallel()
	i := install(t, "overlays/cloudzero")
	first := i.start(t)
	first.awaitLog(t, `"Leading"`)
	first.awaitSynced(t, "pods", "namespaces")
	i.awaitSent(t, 1)
	second := i.start(t)
	second.awaitLog(t, `"Another replica leads"`)
	second.awaitReady(t)
	first.awaitReady(t)
	mustEndInSilence(t, first)
	second.awaitLog(t, `"Leading"`)
	i.awaitSent(t, 2)
	mustEndInSilence(t, second)
}

// TestManifestsRunWebhook does so with the webhook, whose certificate the API
// server is told to trust.
func TestManifestsRunWebhook(t *testing.T) {
	t.Parallel()
	i := install(t, "webhook")
	d := i.start(t)
	d.awaitReady(t)
	d.awaitSynced(t, "pods", "namespaces")
	i.awaitSent(t, 1)
	i.awaitCertificate(t)
	mustEndInSilence(t, d)
}

// install applies an installation to a control plane of its own, with a pod to
// send.
func install(t *testing.T, name string) *installed {
	t.Helper()
	p := ownPlane(t)
	p.namespace(t, "shop")
	p.create(t, "shop", "web", "1")
	i := &installed{plane: p, objects: installationOf(name).render(t), journal: newJournal(t)}
	newKubectl(t, p).apply(t, i.objects)
	for _, granted := range i.objects.permissions(t) {
		p.awaitPermission(t, accountUser("labelstream"), granted)
	}
	return i
}

// installed is what was applied of an overlay.
type installed struct {
	plane   *plane
	objects rendered
	journal *journal
}

// start starts a replica as its pod would: only the destination and the addresses
// are other ones, since it shares them with whatever else runs here, and the
// namespace is not in a file.
func (i *installed) start(t *testing.T) *daemon {
	t.Helper()
	template := i.objects.template(t)
	if template.Spec.ServiceAccountName != "labelstream" {
		t.Fatalf("the pods' account is %s", template.Spec.ServiceAccountName)
	}
	c := container(t, template)
	return startDaemon(t, invocation{
		kubeconfig: i.plane.accountKubeconfig(t, "labelstream"),
		args:       c.Args,
		settings: i.objects.settings(t, c).and(settings{"DESTINATION": i.journal.URL(), "POD_NAMESPACE": "labelstream",
			"WEBHOOK_ADDRESS": "127.0.0.1:0", "STATUS_ADDRESS": "127.0.0.1:0"}),
	})
}

// awaitSent waits until the pod and its namespace have been sent so many times.
func (i *installed) awaitSent(t *testing.T, times int) {
	t.Helper()
	for _, want := range []string{
		`cloudzero_pod_labels{label_step="1",namespace="shop",pod="web",resource_type="pod"}`,
		`cloudzero_namespace_labels{"label_kubernetes.io/metadata.name"="shop",namespace="shop",resource_type="namespace"}`,
	} {
		i.journal.await(t, want, func(samples []sample) bool {
			return len(slices.DeleteFunc(slices.Clone(samples), func(s sample) bool { return s.Series != want })) >= times
		})
	}
}

// awaitCertificate waits until there is a Secret, and API servers are told to
// trust what is in it.
func (i *installed) awaitCertificate(t *testing.T) {
	t.Helper()
	configuration := into[admissionregistrationv1.ValidatingWebhookConfiguration](t, i.objects.of("ValidatingWebhookConfiguration")[0].Object)
	i.plane.eventually(t, func(ctx context.Context) (bool, error) {
		now, err := i.plane.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, configuration.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		secrets, err := i.plane.client.CoreV1().Secrets("labelstream").List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		return slices.ContainsFunc(secrets.Items, func(secret corev1.Secret) bool {
			certificate := secret.Data["tls.crt"]
			return len(certificate) > 0 && bytes.Equal(certificate, now.Webhooks[0].ClientConfig.CABundle)
		}), nil
	})
}

// mustEndInSilence ends a daemon, and demands that it has complained of nothing
// else.
func mustEndInSilence(t *testing.T, d *daemon) {
	t.Helper()
	d.terminate(t)
	for _, e := range d.wait(t).log(t) {
		if e.Level != "info" && !strings.HasPrefix(e.Message, "Stopping") {
			t.Errorf("the log has %s: %s %s", e.Level, e.Message, e.Error)
		}
	}
}
