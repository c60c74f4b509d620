// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// reviewer is a webhook that keeps what it was asked.
type reviewer struct {
	*httptest.Server
	allows func(*admissionv1.AdmissionRequest) bool

	mu    sync.Mutex
	asked []string
}

func newReviewer(t *testing.T, allows func(*admissionv1.AdmissionRequest) bool) *reviewer {
	t.Helper()
	r := &reviewer{allows: allows}
	r.Server = httptest.NewTLSServer(r)
	t.Cleanup(r.Close)
	return r
}

// ServeHTTP answers a review.
func (r *reviewer) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(request.Body).Decode(&review); err != nil || review.Request == nil {
		http.Error(w, "no review", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	r.asked = append(r.asked, describeReview(request.URL.Path, review.Request))
	r.mu.Unlock()
	review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: r.allows(review.Request)}
	w.Header().Set("Content-Type", "application/json")
	// Who does not read the answer has gone on without it.
	_ = json.NewEncoder(w).Encode(&review)
}

// certificateOf is the certificate of a server, in PEM.
func certificateOf(server *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}

// describeReview is the path, and then all of a review that rules choose by.
func describeReview(path string, r *admissionv1.AdmissionRequest) string {
	resource := r.Resource.Resource
	if r.Resource.Group != "" {
		resource += "." + r.Resource.Group
	}
	if r.SubResource != "" {
		resource += "/" + r.SubResource
	}
	text := path + " " + string(r.Operation) + " " + resource + " " + r.Name
	if r.DryRun != nil && *r.DryRun {
		text += " dry"
	}
	return text
}

// reviews are those that came since the last call.
func (r *reviewer) reviews() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked := r.asked
	r.asked = nil
	return asked
}

// pointTo has the configuration's API servers call another server, at the same path.
func pointTo(t *testing.T, configuration *admissionregistrationv1.ValidatingWebhookConfiguration, server *httptest.Server) {
	t.Helper()
	if len(configuration.Webhooks) != 1 {
		t.Fatalf("%d webhooks, want 1", len(configuration.Webhooks))
	}
	client := &configuration.Webhooks[0].ClientConfig
	if client.CABundle != nil {
		t.Error("the manifest has a caBundle, which is for others to write")
	}
	if client.Service == nil || client.Service.Path == nil {
		t.Fatalf("the webhook's Service or its path is missing: %+v", client)
	}
	url := server.URL + *client.Service.Path
	*client = admissionregistrationv1.WebhookClientConfig{
		URL:      &url,
		CABundle: certificateOf(server),
	}
}

// TestManifestsWebhook makes a real API server call as the rendered configuration
// says: for exactly these kinds, operations and namespaces, and for no update that
// changes neither a label nor an annotation.
func TestManifestsWebhook(t *testing.T) {
	t.Parallel()
	p := ownPlane(t)
	for _, name := range []string{"labelstream", "shop"} {
		p.namespace(t, name)
	}
	objects := installationOf("webhook").render(t).of("ValidatingWebhookConfiguration")
	configuration := into[admissionregistrationv1.ValidatingWebhookConfiguration](t, objects[0].Object)
	r := newReviewer(t, func(*admissionv1.AdmissionRequest) bool { return true })
	pointTo(t, configuration, r.Server)
	hook := &configuration.Webhooks[0]
	if got := hook.TimeoutSeconds; got == nil || *got != 1 {
		t.Errorf("the API server waits for a webhook as %+v says, want one second", hook)
	}
	// Each call must come here, on a machine that is busy as well.
	hook.TimeoutSeconds = new(int32(30))
	p.register(t, configuration)
	p.awaitReviews(t, r)

	p.changePods(t)
	p.changeOthers(t)
	p.changeNamespaces(t)
	want := []string{
		"/validate CREATE pods web dry",
		"/validate CREATE pods web",
		"/validate UPDATE pods web",
		"/validate UPDATE pods web",
		"/validate UPDATE pods web dry",
		"/validate DELETE pods web",
		"/validate CREATE namespaces market",
		"/validate UPDATE namespaces market",
		"/validate DELETE namespaces market",
	}
	// A deletion is shown as often as the API server tries it.
	got := r.reviews()
	for i := len(got) - 1; i > 0; i-- {
		if got[i] == got[i-1] && strings.Contains(got[i], "DELETE") {
			got = slices.Delete(got, i, i+1)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reviews (-want +got):\n%s", diff)
	}

	// Nobody is there any more, and nobody is kept from anything.
	r.Close()
	if _, err := p.client.CoreV1().Pods("shop").Create(t.Context(), pod(metav1.ObjectMeta{Name: "late"}), metav1.CreateOptions{}); err != nil {
		t.Errorf("without a webhook: %v", err)
	}
}

// awaitReviews waits until the API server calls, and forgets what it called for.
func (p *plane) awaitReviews(t *testing.T, r *reviewer) {
	t.Helper()
	p.eventually(t, func(ctx context.Context) (bool, error) {
		_, err := p.client.CoreV1().Pods("shop").
			Create(ctx, pod(metav1.ObjectMeta{Name: "probe"}), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return len(r.reviews()) > 0, err
	})
}

// changePods changes what is chosen. A label or an annotation may be the first or
// the last.
func (p *plane) changePods(t *testing.T) {
	t.Helper()
	pods, dry, done := p.client.CoreV1().Pods("shop"), []string{metav1.DryRunAll}, created(t)
	web := pod(metav1.ObjectMeta{Name: "web"})
	done(pods.Create(t.Context(), web, metav1.CreateOptions{DryRun: dry}))
	done(pods.Create(t.Context(), web, metav1.CreateOptions{}))
	p.setStep(t, "shop", "web", "1")
	p.patch(t, "shop", "web", `{"metadata":{"labels":null}}`)
	done(pods.Patch(t.Context(), "web", types.MergePatchType, []byte(`{"metadata":{"annotations":{"note":"new"}}}`), metav1.PatchOptions{DryRun: dry}))
	// Neither a label nor an annotation.
	p.patch(t, "shop", "web", `{"metadata":{"finalizers":null},"spec":{"activeDeadlineSeconds":600}}`)
	p.updateStatus(t, "shop", "web", "running")
	p.remove(t, "shop", "web")
}

// changeOthers changes what is not chosen, and what is, in the namespaces that are
// not.
func (p *plane) changeOthers(t *testing.T) {
	t.Helper()
	p.deploy(t, "shop", "web")
	created(t)(p.client.CoreV1().ConfigMaps("shop").
		Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "web"}}, metav1.CreateOptions{}))
	created(t)(p.client.CoreV1().Nodes().
		Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "web"}}, metav1.CreateOptions{}))
	for _, namespace := range []string{"labelstream", metav1.NamespaceSystem} {
		p.create(t, namespace, "web", "1")
		p.setStep(t, namespace, "web", "2")
		p.remove(t, namespace, "web")
		p.patchNamespace(t, namespace, stepPatch("2"))
	}
}

func (p *plane) changeNamespaces(t *testing.T) {
	t.Helper()
	p.namespace(t, "market")
	p.patchNamespace(t, "market", stepPatch("2"))
	p.patchNamespace(t, "market", `{"status":{"phase":"Active"}}`, "status")
	if err := p.client.CoreV1().Namespaces().Delete(t.Context(), "market", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}
