package e2e

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestManyPods is not parallel: it counts the API server's requests.
func TestManyPods(t *testing.T) {
	const (
		count = 5000
		// minPages is how many pages of the default PAGE_SIZE hold them all,
		// and one for the small first ones.
		minPages = 11
	)
	p := shared.plane
	p.namespace(t, metav1.ObjectMeta{Name: "many"})
	p.pods(t, count, func(i int) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "many", Name: fmt.Sprintf("pod-%04d", i), Labels: map[string]string{"team": fmt.Sprintf("t%d", i%7)}}
	})
	var want []string
	for i := range count {
		want = append(want, fmt.Sprintf(
			`cloudzero_pod_labels{label_team="t%d",namespace="many",pod="pod-%04d",resource_type="pod"}`, i%7, i))
	}
	reader := p.grant(t, "", "pods")
	s := newReceiver(t)
	before := p.lists(t, "200")
	r := once(t, invocation{user: reader, settings: settings{
		"DESTINATION": s.URL(), "LABELS_RESOURCES": "pods",
	}})
	r.mustSucceed(t)
	pages := p.lists(t, "200") - before
	compareSeries(t, ofNamespaces(s, "many"), want)
	if pages < minPages {
		t.Errorf("%d pods came in %d pages, want at least %d", count, pages, minPages)
	}
	if sent := r.summary(t, "pods").Sent; sent != len(s.Series()) {
		t.Errorf("the summary says that %d pods were sent, %d were received", sent, len(s.Series()))
	}
}
