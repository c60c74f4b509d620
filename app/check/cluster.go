// SPDX-License-Identifier: Apache-2.0

package check

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"labelstream/config"
	"labelstream/informer"
)

const noServer = "look at --kubeconfig, KUBECONFIG and --context, and whether the server can be reached from here"

// reach asks the API server for its version.
func (c *checker) reach(ctx context.Context, host string) bool {
	info, err := discovery.ToServerVersionInterfaceWithContext(c.client.Discovery()).ServerVersionWithContext(ctx)
	if err != nil {
		hint := noServer
		if apierrors.IsUnauthorized(err) {
			hint = "renew the credentials of the kubeconfig, or the service account's token"
		}
		c.fail(apiServer, fmt.Errorf("ask %s for its version: %w", host, err), hint)
		return false
	}
	c.ok(apiServer, "%s is Kubernetes %s", host, info.GitVersion)
	return true
}

// resources returns the kinds that the settings name.
func (c *checker) resources(ctx context.Context, cluster *rest.Config) []*informer.Kind {
	catalog, err := informer.Discover(ctx, cluster, 0, c.Log)
	if err != nil {
		// The error's own text is "unknown" where the server refuses.
		if reason := apierrors.ReasonForError(err); reason != metav1.StatusReasonUnknown {
			err = fmt.Errorf("%w (%s)", err, reason)
		}
		c.fail(resources, err, noServer)
		return nil
	}
	kinds, unresolved := catalog.Kinds(c.Config)
	for _, err := range unresolved {
		c.fail(resources, err, "leave it out of LABELSTREAM_LABELS_RESOURCES and of those for annotations")
	}
	var found []string
	for _, kind := range kinds {
		if kind.Watchable || c.Once || c.Config.Changes != config.ChangesWatch {
			found = append(found, kind.Resource)
		} else {
			c.fail(resources, fmt.Errorf("the API server does not let %s be watched", kind.Resource), "leave it out, or set LABELSTREAM_CHANGES=none")
		}
	}
	if found != nil {
		c.ok(resources, "%s", strings.Join(found, ", "))
	}
	return kinds
}

// rights asks for each verb whether it is allowed, and reports by resource.
func (c *checker) rights(ctx context.Context, kinds []*informer.Kind) {
	rules := c.Rules(kinds)
	for _, namespace := range slices.Sorted(maps.Keys(rules)) {
		for _, rule := range rules[namespace] {
			names := rule.ResourceNames
			if names == nil {
				names = []string{""} // any
			}
			for _, resource := range rule.Resources {
				for _, name := range names {
					c.right(ctx, rule.Verbs, authorizationv1.ResourceAttributes{
						Namespace: namespace, Group: rule.APIGroups[0], Resource: resource, Name: name,
					})
				}
			}
		}
	}
}

// right asks for verbs on one resource.
func (c *checker) right(ctx context.Context, verbs []string, on authorizationv1.ResourceAttributes) {
	var denied []string
	reason := ""
	for _, verb := range verbs {
		on.Verb = verb
		review, err := c.client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &on},
		}, metav1.CreateOptions{})
		if err != nil {
			c.fail(rights, fmt.Errorf("ask whether %s %s is allowed: %w", verb, target(&on), err), "the ClusterRole system:basic-user lets everyone ask who is authenticated")
			return
		}
		if !review.Status.Allowed {
			denied = append(denied, verb)
			reason = cmp.Or(review.Status.EvaluationError, reason)
		}
	}
	if denied == nil {
		c.ok(rights, "%s %s", strings.Join(verbs, ", "), target(&on))
		return
	}
	if reason != "" {
		reason = ": " + reason
	}
	c.fail(rights, fmt.Errorf("%s %s is not allowed%s", strings.Join(denied, ", "), target(&on), reason), "labelstream rbac | kubectl apply -f - grants it to the service account")
}

// target is what a right is on.
func target(on *authorizationv1.ResourceAttributes) string {
	text := on.Resource
	if on.Group != "" {
		text += "." + on.Group
	}
	if on.Name != "" {
		text += " " + on.Name
	}
	if on.Namespace != "" {
		text += " in namespace " + on.Namespace
	}
	return text
}
