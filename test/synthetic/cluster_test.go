// SPDX-License-Identifier: Apache-2.0

package synthetic

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// TestCluster defines a resource, and applies and deletes objects of it as client-go
// does. Lists and a watch must show what has happened.
func TestCluster(t *testing.T) {
	server := httptest.NewServer(NewCluster())
	t.Cleanup(server.Close)
	config := &rest.Config{Host: server.URL, QPS: -1}
	writer, err := dynamic.NewForConfigAndClient(config, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	crd := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	gvr := schema.GroupVersionResource{Group: "example.com", Version: "v2", Resource: "things"}
	apply := func(resource dynamic.ResourceInterface, name string, object map[string]any) error {
		_, err := resource.Apply(t.Context(), name, &unstructured.Unstructured{Object: object}, metav1.ApplyOptions{FieldManager: "test"})
		return err
	}
	thing := func(namespace, name, team string) {
		t.Helper()
		if err := apply(writer.Resource(gvr).Namespace(namespace), name, map[string]any{
			"apiVersion": "example.com/v2", "kind": "Thing",
			"metadata": map[string]any{"namespace": namespace, "name": name, "labels": map[string]any{"team": team}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := apply(writer.Resource(crd), "things.example.com", map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": "things.example.com"},
		"spec": map[string]any{
			"group": "example.com", "scope": "Namespaced", "names": map[string]any{"plural": "things", "kind": "Thing"},
			"versions": []any{map[string]any{"name": "v2"}},
		},
	}); err != nil {
		t.Fatal(err)
	}
	thing("b", "one", "x")
	thing("a", "two", "x")
	// Of another kind, and called like one of these.
	services := schema.GroupVersionResource{Version: "v1", Resource: "services"}
	if err := apply(writer.Resource(services).Namespace("b"), "one", map[string]any{
		"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"namespace": "b", "name": "one"},
	}); err != nil {
		t.Fatal(err)
	}

	asked, err := discovery.NewDiscoveryClientForConfigAndClient(config, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	served, err := asked.ServerPreferredNamespacedResources()
	if err != nil {
		t.Fatal(err)
	}
	var namespaced []string
	for _, group := range served {
		for _, resource := range group.APIResources {
			namespaced = append(namespaced, group.GroupVersion+" "+resource.Name)
		}
	}
	slices.Sort(namespaced)
	if diff := cmp.Diff([]string{"apps/v1 deployments", "batch/v1 cronjobs", "example.com/v2 things", "v1 pods", "v1 services"}, namespaced); diff != "" {
		t.Errorf("namespaced resources (-want +got):\n%s", diff)
	}
	reader, err := metadata.NewForConfigAndClient(config, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	text := func(o metav1.Object) string {
		return fmt.Sprintf("%s/%s %s %s", o.GetNamespace(), o.GetName(), o.GetResourceVersion(), o.GetLabels()["team"])
	}
	list := func(namespace string) (all []string, version string) {
		t.Helper()
		objects, err := reader.Resource(gvr).Namespace(namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range objects.Items {
			all = append(all, text(&object))
		}
		return all, objects.ResourceVersion
	}
	before, version := list("")
	watching, err := reader.Resource(gvr).Namespace("a").Watch(t.Context(), metav1.ListOptions{ResourceVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	defer watching.Stop()
	thing("b", "one", "y") // of another namespace than that which is watched
	thing("a", "two", "y")
	thing("a", "six", "z")
	two := writer.Resource(gvr).Namespace("a")
	if err := two.Delete(t.Context(), "two", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	var events []string
	for range 3 {
		e := <-watching.ResultChan()
		events = append(events, string(e.Type)+" "+text(e.Object.(metav1.Object)))
	}
	after, _ := list("")
	inA, _ := list("a")
	want := [][]string{
		{"a/two 1003 x", "b/one 1002 x"},
		{"MODIFIED a/two 1006 y", "ADDED a/six 1007 z", "DELETED a/two 1008 y"},
		{"a/six 1007 z", "b/one 1005 y"},
		{"a/six 1007 z"},
	}
	if diff := cmp.Diff(want, [][]string{before, events, after, inA}); diff != "" {
		t.Errorf("before, events, after, and in a (-want +got):\n%s", diff)
	}
	if err := two.Delete(t.Context(), "two", metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the second delete: %v, want 404", err)
	}
	gvr.Resource = "others"
	if _, err := reader.Resource(gvr).List(t.Context(), metav1.ListOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a list of what is not served: %v, want 404", err)
	}
}
