package e2e

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestNamespaceRestricted runs with nothing but a Role in each namespace.
func TestNamespaceRestricted(t *testing.T) {
	t.Parallel()
	p := shared.plane
	var want []string
	for _, namespace := range []string{"tenant-a", "tenant-b", "tenant-c"} {
		p.namespace(t, metav1.ObjectMeta{Name: namespace})
		p.pods(t, 3, func(i int) metav1.ObjectMeta {
			return metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("pod-%d", i), Labels: map[string]string{"team": namespace}}
		})
		if namespace == "tenant-c" {
			continue
		}
		for i := range 3 {
			want = append(want, fmt.Sprintf(
				`cloudzero_pod_labels{label_team="%s",namespace="%s",pod="pod-%d",resource_type="pod"}`, namespace, namespace, i))
		}
	}
	reader := p.grant(t, "tenant-a", "pods")
	p.grantTo(t, reader, "tenant-b", "pods")
	s := newReceiver(t)
	once(t, invocation{user: reader, settings: settings{
		"DESTINATION": s.URL(), "LABELS_RESOURCES": "pods", "NAMESPACES": "tenant-a,tenant-b",
	}}).mustSucceed(t)
	compareSeries(t, s.All(), want)
}

func TestForbiddenKind(t *testing.T) {
	t.Parallel()
	p := shared.plane
	const namespace = "half-open"
	p.namespace(t, metav1.ObjectMeta{Name: namespace})
	p.pods(t, 1, func(int) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: namespace, Name: "web-1"} })
	reader := p.grant(t, namespace, "pods")
	s := newReceiver(t)
	r := once(t, invocation{user: reader, settings: settings{
		"DESTINATION": s.URL(), "LABELS_RESOURCES": "deployments,pods", "NAMESPACES": namespace,
	}})
	r.mustFail(t)
	compareSeries(t, s.All(), []string{`cloudzero_pod_labels{namespace="half-open",pod="web-1",resource_type="pod"}`})
	messages := r.errors(t)
	var about []string
	for _, message := range messages {
		if strings.HasPrefix(message, "list ") {
			about = append(about, message)
		}
	}
	if len(about) != 1 {
		t.Fatalf("%d errors about lists, want 1:\n%s", len(about), r.stderr)
	}
	for _, want := range []string{`list deployments.apps`, `grant the verb "list" on resource "deployments" in API group "apps"`} {
		if !strings.Contains(about[0], want) {
			t.Errorf("the error does not say %q: %s", want, about[0])
		}
	}
	if sent := r.summary(t, "pods").Sent; sent != 1 {
		t.Errorf("the summary says that %d pods were sent, want 1", sent)
	}
}
