// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"labelstream/config"
	"labelstream/informer"
)

// accountName names the service account, the roles, their bindings, and the
// namespace where no other is known. The manifests use the same name.
const accountName = "labelstream"

// printRoles writes the roles that a run with these settings needs, and their
// bindings to the service account, as YAML. It asks the API server only for what
// the names of the kinds do not say.
func printRoles(ctx context.Context, cfg *config.Config, opts *Options) error {
	kinds, err := namedKinds(ctx, cfg, opts)
	if err != nil {
		return err
	}
	namespace := namespaceOfRun(cfg)
	text, err := requiredRules(cfg, opts.once(), kinds, namespace).yaml(namespace)
	if err != nil {
		return err
	}
	if _, err := opts.Stdout.Write(text); err != nil {
		return fmt.Errorf("print the roles: %w", err)
	}
	return nil
}

// namespaceOfRun is the pod's, or that of the manifests where this is not a pod.
func namespaceOfRun(cfg *config.Config) string {
	namespace, err := podNamespace(cfg.PodNamespace, namespaceFile, "pod")
	if err != nil {
		return accountName
	}
	return namespace
}

func namedKinds(ctx context.Context, cfg *config.Config, opts *Options) ([]*informer.Kind, error) {
	catalog, unknown := informer.ByName(cfg)
	if unknown != nil {
		cluster, err := restConfig(opts)
		if err == nil {
			catalog, err = informer.Discover(ctx, cluster, discoveryPatience, opts.Log)
		}
		if err != nil {
			return nil, errors.Join(unknown, err)
		}
	}
	kinds, unresolved := catalog.Kinds(cfg)
	return kinds, errors.Join(unresolved...)
}

// rules are those of a role in each namespace, and of the cluster role under "".
type rules map[string][]rbacv1.PolicyRule

// requiredRules are what a run in the namespace needs, and nothing more.
func requiredRules(cfg *config.Config, once bool, kinds []*informer.Kind, namespace string) rules {
	all := make(rules)
	kinds = slices.SortedFunc(slices.Values(kinds), func(a, b *informer.Kind) int {
		return cmp.Or(strings.Compare(a.GVR.Group, b.GVR.Group), strings.Compare(a.GVR.Resource, b.GVR.Resource))
	})
	verbs := []string{"list"}
	if !once && cfg.Changes == config.ChangesWatch {
		verbs = append(verbs, "watch")
	}
	for _, kind := range kinds {
		for _, scope := range kind.Scopes(cfg.Namespaces) {
			all.add(scope.Namespace, kind.GVR.GroupResource(), scope.Name, verbs...)
		}
	}
	if once {
		return all
	}
	if cfg.LeaderElection {
		leases := schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}
		all.add(namespace, leases, cfg.LeaseName, "get", "update")
		// A rule cannot name what is to be created.
		all.add(namespace, leases, "", "create")
	}
	if cfg.Changes == config.ChangesWebhook && cfg.WebhookCertDir == "" {
		configurations := schema.GroupResource{Group: "admissionregistration.k8s.io", Resource: "validatingwebhookconfigurations"}
		all.add(namespace, schema.GroupResource{Resource: "secrets"}, cfg.WebhookName, "create", "get", "patch")
		all.add("", configurations, cfg.WebhookName, "get", "patch")
	}
	return all
}

// add allows verbs on resources of that name, or of any name where it is "". It
// extends a rule that allows the same on another resource of the group, or on
// another name, if there is one.
func (r rules) add(namespace string, resource schema.GroupResource, name string, verbs ...string) {
	for i := range r[namespace] {
		rule := &r[namespace][i]
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
	r[namespace] = append(r[namespace], rule)
}

// yaml returns the roles and their bindings to the service account of a namespace.
func (r rules) yaml(account string) ([]byte, error) {
	var documents [][]byte
	for _, namespace := range slices.Sorted(maps.Keys(r)) {
		for _, object := range boundRole(namespace, account, r[namespace]) {
			text, err := yaml.Marshal(object)
			if err != nil {
				return nil, fmt.Errorf("write a role as YAML: %w", err)
			}
			documents = append(documents, text)
		}
	}
	return bytes.Join(documents, []byte("---\n")), nil
}

// boundRole returns a role in a namespace, or a cluster role where that is "", and
// its binding to the service account, which is in the namespace account.
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
