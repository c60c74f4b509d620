package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// namespace creates a namespace.
func (p *plane) namespace(t *testing.T, meta metav1.ObjectMeta) {
	t.Helper()
	_, err := p.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: meta}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// pod is the smallest pod that an API server takes.
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
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	for worker := range min(n, workers) {
		wg.Go(func() {
			for i := worker; i < n; i += workers {
				m := meta(i)
				_, err := p.client.CoreV1().Pods(m.Namespace).Create(t.Context(), pod(m), metav1.CreateOptions{})
				if err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// fat are annotations of so many times 2,000 bytes, all of which are sent.
func fat(keys int) map[string]string {
	annotations := make(map[string]string, keys)
	for i := range keys {
		annotations[fmt.Sprintf("note-%03d", i)] = strings.Repeat("x", 2000)
	}
	return annotations
}

// grant allows a user that has no rights yet to list resources, written as
// plural or plural.group: in a namespace, or everywhere where that is "". It
// returns the user once the API server knows of it. No other verb is granted.
func (p *plane) grant(t *testing.T, namespace string, resources ...string) string {
	t.Helper()
	name := user(p.users.Add(1) - 1)
	p.grantTo(t, name, namespace, resources...)
	return name
}

func (p *plane) grantTo(t *testing.T, name, namespace string, resources ...string) {
	t.Helper()
	meta := metav1.ObjectMeta{Name: name, Namespace: namespace}
	subjects := []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: name}}
	var rules []rbacv1.PolicyRule
	for _, resource := range resources {
		plural, group, _ := strings.Cut(resource, ".")
		rules = append(rules, rbacv1.PolicyRule{Verbs: []string{"list"}, APIGroups: []string{group}, Resources: []string{plural}})
	}
	rbac := p.client.RbacV1()
	var roleErr, bindingErr error
	if namespace == "" {
		_, roleErr = rbac.ClusterRoles().Create(t.Context(),
			&rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
		_, bindingErr = rbac.ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: meta, Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name}}, metav1.CreateOptions{})
	} else {
		_, roleErr = rbac.Roles(namespace).Create(t.Context(),
			&rbacv1.Role{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
		_, bindingErr = rbac.RoleBindings(namespace).Create(t.Context(), &rbacv1.RoleBinding{ObjectMeta: meta, Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name}}, metav1.CreateOptions{})
	}
	if err := errors.Join(roleErr, bindingErr); err != nil {
		t.Fatal(err)
	}
	p.awaitGrant(t, name, namespace, rules)
}

// awaitGrant waits until the API server's authorizer has heard of the rules.
func (p *plane) awaitGrant(t *testing.T, name, namespace string, rules []rbacv1.PolicyRule) {
	t.Helper()
	for _, rule := range rules {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: namespace, Verb: "list", Group: rule.APIGroups[0], Resource: rule.Resources[0],
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
}

func (p *plane) clientOf(t *testing.T, name string) *kubernetes.Clientset {
	t.Helper()
	config, err := p.Config(name)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(rest.CopyConfig(config))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// eventually asks until the answer is true; an error ends the test.
func (p *plane) eventually(t *testing.T, ask func(context.Context) (bool, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		yes, err := ask(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if yes {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal(context.Cause(ctx))
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

// awaitExpired waits until the API server cannot continue a list that was
// begun at a certain time.
func (p *plane) awaitExpired(t *testing.T, namespace, token string) {
	t.Helper()
	p.eventually(t, func(ctx context.Context) (bool, error) {
		_, err := p.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{Limit: 1, Continue: token})
		if apierrors.IsResourceExpired(err) {
			return true, nil
		}
		return false, err
	})
}
