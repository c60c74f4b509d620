// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// created fails the test where something could not be created or changed.
func created(t *testing.T) func(any, error) {
	return func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// namespace creates a namespace.
func (p *plane) namespace(t *testing.T, name string) {
	t.Helper()
	created(t)(p.client.CoreV1().Namespaces().
		Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}))
}

// pod is the smallest pod that an API server accepts.
func pod(meta metav1.ObjectMeta) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: meta, Spec: podSpec()}
}

func podSpec() corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "registry.example.com/app"}}}
}

func podTemplate(labels map[string]string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: podSpec()}
}

// pods creates pods, many at a time.
func (p *plane) pods(t *testing.T, n int, meta func(i int) metav1.ObjectMeta) {
	t.Helper()
	const workers = 50
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for i := worker; i < n && errs[worker] == nil; i += workers {
				m := meta(i)
				_, errs[worker] = p.client.CoreV1().Pods(m.Namespace).Create(t.Context(), pod(m), metav1.CreateOptions{})
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// fat returns annotations of 2,000 bytes each, all of which are sent.
func fat(keys int) map[string]string {
	annotations := make(map[string]string, keys)
	for i := range keys {
		annotations[fmt.Sprintf("note-%03d", i)] = strings.Repeat("x", 2000)
	}
	return annotations
}

// inStep is the metadata of a pod whose label "step" has this value.
func inStep(namespace, name, step string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"step": step}}
}

func numberedPod(i int) string { return fmt.Sprintf("pod-%03d", i) }

// numbered creates a namespace with the pods pod-000, pod-001, … in step 1, and
// returns what is received of them, in the order of their names.
func (p *plane) numbered(t *testing.T, namespace string, n int) []string {
	t.Helper()
	p.namespace(t, namespace)
	p.pods(t, n, func(i int) metav1.ObjectMeta { return inStep(namespace, numberedPod(i), "1") })
	samples := make([]string, n)
	for i := range n {
		samples[i] = numberedPod(i) + " 1"
	}
	return samples
}

// create creates a pod that is in a step.
func (p *plane) create(t *testing.T, namespace, name, step string) {
	t.Helper()
	created(t)(p.client.CoreV1().Pods(namespace).
		Create(t.Context(), pod(inStep(namespace, name, step)), metav1.CreateOptions{}))
}

// patch merges JSON into a pod, or into a subresource of it.
func (p *plane) patch(t *testing.T, namespace, name, text string, subresources ...string) {
	t.Helper()
	created(t)(p.client.CoreV1().Pods(namespace).
		Patch(t.Context(), name, types.MergePatchType, []byte(text), metav1.PatchOptions{}, subresources...))
}

// patchNamespace does so with a namespace.
func (p *plane) patchNamespace(t *testing.T, name, text string, subresources ...string) {
	t.Helper()
	created(t)(p.client.CoreV1().Namespaces().
		Patch(t.Context(), name, types.MergePatchType, []byte(text), metav1.PatchOptions{}, subresources...))
}

// stepPatch is a patch to a step.
func stepPatch(step string) string { return fmt.Sprintf(`{"metadata":{"labels":{"step":%q}}}`, step) }

// setStep changes the label "step" of a pod.
func (p *plane) setStep(t *testing.T, namespace, name, step string) {
	t.Helper()
	p.patch(t, namespace, name, stepPatch(step))
}

// updateStatus changes the status of a pod and nothing else.
func (p *plane) updateStatus(t *testing.T, namespace, name, message string) {
	t.Helper()
	p.patch(t, namespace, name, fmt.Sprintf(`{"status":{"message":%q}}`, message), "status")
}

// remove deletes a pod, which ends at once since it runs on no node.
func (p *plane) remove(t *testing.T, namespace, name string) {
	t.Helper()
	if err := p.client.CoreV1().Pods(namespace).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// state returns the step of each pod of a namespace.
func (p *plane) state(t *testing.T, namespace string) map[string]string {
	t.Helper()
	pods, err := p.client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	state := make(map[string]string)
	for i := range pods.Items {
		state[pods.Items[i].Name] = pods.Items[i].Labels["step"]
	}
	return state
}

// deploy creates a deployment. No controller makes pods of it.
func (p *plane) deploy(t *testing.T, namespace, name string) {
	t.Helper()
	app := map[string]string{"app": name}
	created(t)(p.client.AppsV1().Deployments(namespace).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: inStep(namespace, name, "deployed"),
		Spec:       appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: app}, Template: podTemplate(app)},
	}, metav1.CreateOptions{}))
}

var crds = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// install defines a kind, such as "Widget", which is served some moments later.
func (p *plane) install(t *testing.T, group, kind, scope, version string) {
	t.Helper()
	singular := strings.ToLower(kind)
	versions := []any{map[string]any{"name": version, "served": true, "storage": true, "schema": map[string]any{
		"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true},
	}}}
	crd := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1",
		"kind":       "CustomResourceDefinition",
		"metadata":   map[string]any{"name": singular + "s." + group},
		"spec": map[string]any{
			"group": group, "scope": scope, "versions": versions,
			"names": map[string]any{"plural": singular + "s", "singular": singular, "kind": kind},
		},
	}}
	created(t)(p.dynamic.Resource(crds).Create(t.Context(), crd, metav1.CreateOptions{}))
}

// custom creates an object of a kind, in the step of the kind's name, as soon as
// the kind is served.
func (p *plane) custom(t *testing.T, namespace, group, version, kind, name string) {
	t.Helper()
	object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": group + "/" + version, "kind": kind}}
	object.SetName(name)
	object.SetLabels(map[string]string{"step": kind})
	p.createServed(t, schema.GroupVersionResource{Group: group, Version: version, Resource: strings.ToLower(kind) + "s"}, namespace, object)
}

func (p *plane) createServed(t *testing.T, resource schema.GroupVersionResource, namespace string, object *unstructured.Unstructured) {
	t.Helper()
	p.eventually(t, func(ctx context.Context) (bool, error) {
		_, err := p.dynamic.Resource(resource).Namespace(namespace).Create(ctx, object, metav1.CreateOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("create %s %s: %w", resource, object.GetName(), err)
		}
		return true, nil
	})
}

// reader returns a user that may list resources, written as plural or
// plural.group: in a namespace, or everywhere where that is "".
func (p *plane) reader(t *testing.T, namespace string, resources ...string) string {
	t.Helper()
	name := user(p.users.Add(1) - 1)
	p.allow(t, name, namespace, "list", resources...)
	return name
}

// follower returns a reader that may watch them, too.
func (p *plane) follower(t *testing.T, namespace string, resources ...string) string {
	t.Helper()
	name := p.reader(t, namespace, resources...)
	p.allow(t, name, namespace, "watch", resources...)
	return name
}

// allow gives a user the right to do something with resources, and returns once
// the API server knows of it.
func (p *plane) allow(t *testing.T, user, namespace, verbs string, resources ...string) {
	t.Helper()
	var rules []rbacv1.PolicyRule
	for _, resource := range resources {
		plural, group, _ := strings.Cut(resource, ".")
		rules = append(rules, rbacv1.PolicyRule{Verbs: strings.Fields(verbs), APIGroups: []string{group}, Resources: []string{plural}})
	}
	p.bind(t, user, namespace, rules)
}

// bind binds a role of these rules to a user: in a namespace, or in the cluster
// where that is "".
func (p *plane) bind(t *testing.T, user, namespace string, rules []rbacv1.PolicyRule) {
	t.Helper()
	rbac, ctx, opts, meta := p.client.RbacV1(), t.Context(), metav1.CreateOptions{}, metav1.ObjectMeta{GenerateName: "test-"}
	role, err := rbac.ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}, opts)
	created(t)(role, err)
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name}
	subjects := []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}}
	if namespace == "" {
		created(t)(rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: meta, Subjects: subjects, RoleRef: ref}, opts))
	} else {
		created(t)(rbac.RoleBindings(namespace).Create(ctx, &rbacv1.RoleBinding{ObjectMeta: meta, Subjects: subjects, RoleRef: ref}, opts))
	}
	for _, granted := range expand(namespace, rules) {
		p.awaitPermission(t, user, granted)
	}
}

// awaitPermission waits until the API server's authorizer knows of a permission.
func (p *plane) awaitPermission(t *testing.T, user string, granted permission) {
	t.Helper()
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: granted.namespace, Verb: granted.verb, Group: granted.group, Resource: granted.resource, Name: granted.name,
		},
	}}
	p.eventually(t, func(ctx context.Context) (bool, error) {
		answer, err := p.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		if err != nil {
			return false, err
		}
		return answer.Status.Allowed, nil
	})
}

// eventually asks until the answer is true; an error ends the test.
func (p *plane) eventually(t *testing.T, ask func(context.Context) (bool, error)) {
	t.Helper()
	eventuallyTrue(t, "the API server's answer", func() bool {
		yes, err := ask(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return yes
	})
}

// eventuallyTrue asks until the answer is yes.
func eventuallyTrue(t *testing.T, what string, ask func() bool) {
	t.Helper()
	end := time.After(patience)
	for !ask() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-end:
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// lists is how many requests for lists of pods the API server has answered.
func (p *plane) lists(t *testing.T, code string) int {
	t.Helper()
	n, err := p.Requests(t.Context(), map[string]string{"verb": "LIST", "resource": "pods", "code": code})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
