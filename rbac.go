package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"labelstream/config"
	"labelstream/informer"
)

// accountName is the name of the service account, of the roles and of their
// bindings, and of the namespace where no other is known. The manifests have the
// same.
const accountName = "labelstream"

// printRoles writes the roles that a run with these settings needs, and their
// bindings to the service account, as YAML. The API server is asked only for
// what the names of the kinds do not say.
func printRoles(ctx context.Context, cfg *config.Config, kubeconfig string, w io.Writer, log logrus.FieldLogger) error {
	kinds, err := namedKinds(ctx, cfg, kubeconfig, log)
	if err != nil {
		return err
	}
	namespace, err := podNamespace(cfg.PodNamespace, namespaceFile)
	if err != nil {
		// No pod.
		namespace = accountName
	}
	text, err := needs(cfg, kinds, namespace).yaml(namespace)
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return fmt.Errorf("print the roles: %w", err)
	}
	return nil
}

func namedKinds(ctx context.Context, cfg *config.Config, kubeconfig string, log logrus.FieldLogger) ([]*informer.Kind, error) {
	catalog, unknown := informer.ByName(cfg)
	if unknown != nil {
		cluster, err := restConfig(kubeconfig)
		if err == nil {
			catalog, err = informer.Discover(ctx, cluster, discoveryPatience, log)
		}
		if err != nil {
			return nil, errors.Join(unknown, err)
		}
	}
	kinds, unresolved := catalog.Kinds(cfg)
	return kinds, errors.Join(unresolved...)
}

// grants are the rules of a role in each namespace, and of the cluster role
// under "".
type grants map[string][]rbacv1.PolicyRule

// needs is what a run needs, and nothing more, if it is in the namespace.
func needs(cfg *config.Config, kinds []*informer.Kind, namespace string) grants {
	g := make(grants)
	kinds = slices.SortedFunc(slices.Values(kinds), func(a, b *informer.Kind) int {
		return cmp.Or(strings.Compare(a.GVR.Group, b.GVR.Group), strings.Compare(a.GVR.Resource, b.GVR.Resource))
	})
	verbs := readVerbs(cfg)
	for _, kind := range kinds {
		for _, scope := range kind.Scopes(cfg.Namespaces) {
			g.allow(scope.Namespace, kind.GVR.GroupResource(), scope.Name, verbs...)
		}
	}
	if cfg.Once {
		return g
	}
	if cfg.LeaderElection {
		leases := schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}
		leaseNamespace := cmp.Or(cfg.LeaseNamespace, namespace)
		g.allow(leaseNamespace, leases, cfg.LeaseName, "get", "update")
		// What is to be created has no name yet that could be looked at.
		g.allow(leaseNamespace, leases, "", "create")
	}
	if cfg.WebhookEnabled && cfg.WebhookSelfSigned {
		configurations := schema.GroupResource{Group: "admissionregistration.k8s.io", Resource: "validatingwebhookconfigurations"}
		g.allow(namespace, schema.GroupResource{Resource: "secrets"}, cfg.WebhookSecret, "create", "get", "patch")
		g.allow("", configurations, cfg.WebhookConfiguration, "get", "patch")
	}
	return g
}

// readVerbs are what is done with the chosen kinds.
func readVerbs(cfg *config.Config) []string {
	switch {
	case cfg.Once || !cfg.WatchEnabled:
		return []string{"list"}
	case cfg.WebhookEnabled:
		// What a review has shown and no event has confirmed is asked for.
		return []string{"get", "list", "watch"}
	}
	return []string{"list", "watch"}
}

// allow adds a right to resources of that name, of any name where that is "".
// It goes into a rule that there is already, where that says the same of
// another resource of the group, or of another name.
func (g grants) allow(namespace string, resource schema.GroupResource, name string, verbs ...string) {
	for i := range g[namespace] {
		rule := &g[namespace][i]
		if rule.APIGroups[0] != resource.Group || !slices.Equal(rule.Verbs, verbs) || len(rule.ResourceNames) > 0 != (name != "") {
			continue
		}
		if name == "" {
			rule.Resources = append(rule.Resources, resource.Resource)
			return
		}
		if rule.Resources[0] == resource.Resource {
			rule.ResourceNames = append(rule.ResourceNames, name)
			return
		}
	}
	rule := rbacv1.PolicyRule{APIGroups: []string{resource.Group}, Resources: []string{resource.Resource}, Verbs: verbs}
	if name != "" {
		rule.ResourceNames = []string{name}
	}
	g[namespace] = append(g[namespace], rule)
}

// yaml is the roles and their bindings to the service account of a namespace.
func (g grants) yaml(account string) ([]byte, error) {
	var documents [][]byte
	for _, namespace := range slices.Sorted(maps.Keys(g)) {
		for _, object := range boundRole(namespace, account, g[namespace]) {
			text, err := yaml.Marshal(object)
			if err != nil {
				return nil, fmt.Errorf("write a role as YAML: %w", err)
			}
			documents = append(documents, text)
		}
	}
	return bytes.Join(documents, []byte("---\n")), nil
}

// boundRole is a role in a namespace, a cluster role where that is "", and its
// binding to the service account of another.
func boundRole(namespace, account string, rules []rbacv1.PolicyRule) []any {
	meta := metav1.ObjectMeta{Name: accountName, Namespace: namespace}
	typed := func(kind string) metav1.TypeMeta {
		return metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: kind}
	}
	subjects := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: accountName, Namespace: account}}
	ref := func(kind string) rbacv1.RoleRef {
		return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: accountName}
	}
	if namespace == "" {
		return []any{
			rbacv1.ClusterRole{TypeMeta: typed("ClusterRole"), ObjectMeta: meta, Rules: rules},
			rbacv1.ClusterRoleBinding{TypeMeta: typed("ClusterRoleBinding"), ObjectMeta: meta, Subjects: subjects, RoleRef: ref("ClusterRole")},
		}
	}
	return []any{
		rbacv1.Role{TypeMeta: typed("Role"), ObjectMeta: meta, Rules: rules},
		rbacv1.RoleBinding{TypeMeta: typed("RoleBinding"), ObjectMeta: meta, Subjects: subjects, RoleRef: ref("Role")},
	}
}
