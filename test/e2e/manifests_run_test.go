package e2e

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestManifestsRun applies an overlay with all that a daemon has, and runs two
// replicas as the overlay's own account and with its settings: they lead one
// after the other, send, keep their certificate, and lack nothing.
func TestManifestsRun(t *testing.T) {
	t.Parallel()
	p := ownPlane(t)
	p.namespace(t, metav1.ObjectMeta{Name: "shop"})
	p.create(t, "shop", "web", "1")
	i := installed{plane: p, objects: installations[0].render(t), journal: newJournal(t)}
	newKubectl(t, p).apply(t, i.objects)
	for _, granted := range i.objects.permissions(t) {
		p.awaitPermission(t, "labelstream", granted)
	}

	first := i.start(t, "labelstream-0")
	first.awaitLog(t, `"Leading"`)
	first.awaitSynced(t, "pods", "namespaces")
	i.awaitSent(t, 1)
	i.awaitCertificate(t)
	i.mustHold(t, "labelstream-0")

	second := i.start(t, "labelstream-1")
	second.awaitReady(t)
	first.awaitReady(t)
	mustEndInSilence(t, first)
	second.awaitLog(t, `"Leading"`)
	i.awaitSent(t, 2)
	i.mustHold(t, "labelstream-1")
	mustEndInSilence(t, second)
}

// installed is what was applied of an overlay.
type installed struct {
	plane   *plane
	objects rendered
	journal *journal
}

// start starts a replica as its pod would: only the destination and the addresses
// are other ones, since it shares them with whatever else runs here.
func (i *installed) start(t *testing.T, pod string) *daemon {
	t.Helper()
	template := i.objects.template(t)
	if template.Spec.ServiceAccountName != "labelstream" {
		t.Fatalf("the pods' account is %s", template.Spec.ServiceAccountName)
	}
	c := container(t, template)
	own := settings{}
	for name, value := range i.objects.environment(t, c) {
		own[strings.TrimPrefix(name, "LABELSTREAM_")] = value
	}
	for _, variable := range c.Env {
		own[variable.Name] = map[string]string{"metadata.name": pod, "metadata.namespace": "labelstream"}[variable.ValueFrom.FieldRef.FieldPath]
	}
	return startDaemon(t, invocation{
		kubeconfig: i.plane.accountKubeconfig(t, "labelstream"),
		args:       c.Args,
		settings:   own.and(settings{"DESTINATION": i.journal.URL(), "WEBHOOK_ADDRESS": "127.0.0.1:0", "STATUS_ADDRESS": "127.0.0.1:0"}),
	})
}

// awaitReady waits until the replica is.
func (d *daemon) awaitReady(t *testing.T) {
	t.Helper()
	eventuallyTrue(t, "the daemon is ready", func() bool {
		code, _ := d.get(t, "/readyz")
		return code == http.StatusOK
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
			authority := secret.Data["ca.crt"]
			return len(authority) > 0 && bytes.Equal(authority, now.Webhooks[0].ClientConfig.CABundle)
		}), nil
	})
}

// mustHold demands that a pod has the one Lease.
func (i *installed) mustHold(t *testing.T, pod string) {
	t.Helper()
	leases, err := i.plane.client.CoordinationV1().Leases("labelstream").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(leases.Items) != 1 || *leases.Items[0].Spec.HolderIdentity != pod {
		t.Errorf("the Leases are %+v, want one of %s", leases.Items, pod)
	}
}

// mustEndInSilence ends a daemon, and demands that it has complained of nothing
// else.
func mustEndInSilence(t *testing.T, d *daemon) {
	t.Helper()
	d.terminate(t)
	for _, e := range d.wait(t).log(t) {
		if e.Level != "info" && e.Message != "Stopping; sending what is held" {
			t.Errorf("the log has %s: %s %s", e.Level, e.Message, e.Error)
		}
	}
}
