package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// right is to do something with a resource, written as plural or plural.group.
type right struct {
	resource string
	verbs    []string
}

// toFollow is the right to list and to watch.
func toFollow(resource string) right { return right{resource, []string{"list", "watch"}} }

// follower returns a user who may follow resources, in a namespace, or
// everywhere where that is "".
func (p *plane) follower(t *testing.T, namespace string, resources ...string) string {
	t.Helper()
	name := user(p.users.Add(1) - 1)
	var rights []right
	for _, resource := range resources {
		rights = append(rights, toFollow(resource))
	}
	p.allow(t, name, namespace, rights...)
	return name
}

// allow gives further rights to a user, and returns once the API server knows of
// them.
func (p *plane) allow(t *testing.T, name, namespace string, rights ...right) {
	t.Helper()
	var rules []rbacv1.PolicyRule
	for _, r := range rights {
		plural, group, _ := strings.Cut(r.resource, ".")
		rules = append(rules, rbacv1.PolicyRule{Verbs: r.verbs, APIGroups: []string{group}, Resources: []string{plural}})
	}
	p.allowRules(t, name, namespace, rules...)
}

// allowRules is allow with rules as a role has them, of one resource each.
func (p *plane) allowRules(t *testing.T, name, namespace string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	meta := metav1.ObjectMeta{GenerateName: name + "-", Namespace: namespace}
	subjects := []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: name}}
	rbac, ctx := p.client.RbacV1(), t.Context()
	var roleErr, bindingErr error
	if namespace == "" {
		role, err := rbac.ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
		roleErr = err
		_, bindingErr = rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: meta, Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name}}, metav1.CreateOptions{})
	} else {
		role, err := rbac.Roles(namespace).Create(ctx, &rbacv1.Role{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
		roleErr = err
		_, bindingErr = rbac.RoleBindings(namespace).Create(ctx, &rbacv1.RoleBinding{ObjectMeta: meta, Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role.Name}}, metav1.CreateOptions{})
	}
	if err := errors.Join(roleErr, bindingErr); err != nil {
		t.Fatal(err)
	}
	for _, rule := range rules {
		for _, verb := range rule.Verbs {
			p.awaitRight(t, name, namespace, verb, rule)
		}
	}
}

func (p *plane) awaitRight(t *testing.T, name, namespace, verb string, rule rbacv1.PolicyRule) {
	t.Helper()
	object := ""
	if len(rule.ResourceNames) > 0 {
		object = rule.ResourceNames[0]
	}
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: namespace, Verb: verb, Group: rule.APIGroups[0], Resource: rule.Resources[0], Name: object,
		},
	}}
	client := p.clientOf(t, name)
	p.eventually(t, func(ctx context.Context) (bool, error) {
		answer, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		if err != nil {
			return false, err
		}
		return answer.Status.Allowed, nil
	})
}

// inStep is the metadata of a pod whose label "step" has this value.
func inStep(namespace, name, step string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"step": step}}
}

// create creates a pod that is in a step.
func (p *plane) create(t *testing.T, namespace, name, step string) {
	t.Helper()
	created[*corev1.Pod](t)(p.client.CoreV1().Pods(namespace).
		Create(t.Context(), pod(inStep(namespace, name, step)), metav1.CreateOptions{}))
}

// setStep brings a pod to a step.
func (p *plane) setStep(t *testing.T, namespace, name, step string) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{"step":%q}}}`, step)
	created[*corev1.Pod](t)(p.client.CoreV1().Pods(namespace).
		Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}))
}

// remove deletes a pod, which no node keeps from going at once.
func (p *plane) remove(t *testing.T, namespace, name string) {
	t.Helper()
	if err := p.client.CoreV1().Pods(namespace).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// updateStatus changes what a pod's status says, and nothing else.
func (p *plane) updateStatus(t *testing.T, namespace, name, message string) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"status":{"message":%q}}`, message)
	created[*corev1.Pod](t)(p.client.CoreV1().Pods(namespace).
		Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}, "status"))
}

// state is the step of each pod of a namespace.
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

// numbered creates pods pod-000, pod-001, … in step 1, and returns what is
// received of them, in the order of their names.
func (p *plane) numbered(t *testing.T, namespace string, n int) []string {
	t.Helper()
	p.namespace(t, metav1.ObjectMeta{Name: namespace})
	p.pods(t, n, func(i int) metav1.ObjectMeta { return inStep(namespace, numberedPod(i), "1") })
	samples := make([]string, n)
	for i := range n {
		samples[i] = numberedPod(i) + " 1"
	}
	return samples
}

func numberedPod(i int) string { return fmt.Sprintf("pod-%03d", i) }
