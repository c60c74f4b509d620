package e2e

import (
	"fmt"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"labelstream/test/controlplane"
)

// permission is to do one thing with one resource: in a namespace, or everywhere
// where that is "", and with one object, or any where name is "".
type permission struct{ verb, group, resource, name, namespace string }

// String writes it as "get secrets[kept] in shop".
func (p permission) String() string {
	text := p.verb + " " + p.resource
	if p.group != "" {
		text += "." + p.group
	}
	if p.name != "" {
		text += "[" + p.name + "]"
	}
	if p.namespace != "" {
		text += " in " + p.namespace
	}
	return text
}

// where is how an error says of which of several permissions it is that differ
// in nothing else.
func (p permission) where() string {
	switch {
	case p.namespace != "":
		return fmt.Sprintf(`in the namespace "%s"`, p.namespace)
	case p.name != "" && p.resource == "namespaces":
		return "namespaces in namespace " + p.name
	}
	return p.name
}

func texts(permissions []permission) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, p := range permissions {
			if !yield(p.String()) {
				return
			}
		}
	}
}

// roles are the rules of what labelstream rbac has printed: of the role in each
// namespace, and of the cluster role under "".
type roles map[string][]rbacv1.PolicyRule

// printedRoles prints the roles for settings, without a cluster, and demands that
// each is bound to the service account of a namespace, and nothing else is.
func printedRoles(t *testing.T, account string, own settings, args ...string) roles {
	t.Helper()
	r := launch(t, invocation{kubeconfig: "/nonexistent", args: append(args, "rbac"), settings: own}).wait(t)
	r.mustSucceed(t)
	all, bound, wanted := make(roles), []string(nil), []string(nil)
	for document := range strings.SplitSeq(r.stdout, "---\n") {
		// The kinds of roles look the same, and those of bindings do.
		var object struct {
			metav1.TypeMeta   `json:",inline"`
			metav1.ObjectMeta `json:"metadata"`
			Rules             []rbacv1.PolicyRule `json:"rules"`
			Subjects          []rbacv1.Subject    `json:"subjects"`
			RoleRef           rbacv1.RoleRef      `json:"roleRef"`
		}
		if err := yaml.UnmarshalStrict([]byte(document), &object); err != nil {
			t.Fatalf("%v:\n%s", err, document)
		}
		if !strings.HasSuffix(object.Kind, "Binding") {
			all[object.Namespace] = object.Rules
			wanted = append(wanted, object.Kind+" "+object.Namespace+"/"+object.Name)
			continue
		}
		bound = append(bound, object.RoleRef.Kind+" "+object.Namespace+"/"+object.RoleRef.Name)
		want := []rbacv1.Subject{{Kind: "ServiceAccount", Name: "labelstream", Namespace: account}}
		if !slices.Equal(object.Subjects, want) {
			t.Errorf("%s is bound to %v, want %v", object.Name, object.Subjects, want)
		}
	}
	compare(t, wanted, bound)
	return all
}

func (r roles) permissions() []permission {
	var all []permission
	for _, namespace := range slices.Sorted(maps.Keys(r)) {
		all = append(all, expand(namespace, r[namespace])...)
	}
	return all
}

// without returns roles without one of the permissions.
func (r roles) without(missing permission) roles {
	left := make(roles)
	for _, p := range r.permissions() {
		if p == missing {
			continue
		}
		rule := rbacv1.PolicyRule{Verbs: []string{p.verb}, APIGroups: []string{p.group}, Resources: []string{p.resource}}
		if p.name != "" {
			rule.ResourceNames = []string{p.name}
		}
		left[p.namespace] = append(left[p.namespace], rule)
	}
	return left
}

// expand takes rules apart.
func expand(namespace string, rules []rbacv1.PolicyRule) []permission {
	var all []permission
	for _, rule := range rules {
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, name := range names {
					for _, verb := range rule.Verbs {
						all = append(all, permission{verb, group, resource, name, namespace})
					}
				}
			}
		}
	}
	return all
}

// accountUser is the name of the user that is the service account of a namespace.
func accountUser(namespace string) string {
	return "system:serviceaccount:" + namespace + ":labelstream"
}

// bindAccount makes the service account of a namespace, with the roles and no
// others, and returns once the API server knows of all they grant.
func (p *plane) bindAccount(t *testing.T, account string, r roles) {
	t.Helper()
	created[*corev1.ServiceAccount](t)(p.client.CoreV1().ServiceAccounts(account).
		Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "labelstream"}}, metav1.CreateOptions{}))
	for namespace, rules := range r {
		p.bind(t, accountUser(account), namespace, rules)
	}
}

// accountToken is a token of the service account of a namespace.
func (p *plane) accountToken(t *testing.T, account string) string {
	t.Helper()
	answer, err := p.client.CoreV1().ServiceAccounts(account).
		CreateToken(t.Context(), "labelstream", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Status.Token
}

// accountKubeconfig writes a kubeconfig with a token of the service account of a
// namespace.
func (p *plane) accountKubeconfig(t *testing.T, account string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := p.WriteKubeconfig(path, controlplane.Admin); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	config.AuthInfos[controlplane.Admin].Token = p.accountToken(t, account)
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRolesByName demands that labelstream knows of Kubernetes' own kinds without a
// server what the server says.
func TestRolesByName(t *testing.T) {
	t.Parallel()
	p := shared.plane
	lists, err := p.client.Discovery().ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, list := range lists {
		group, _, found := strings.Cut(list.GroupVersion, "/")
		switch {
		case !found:
			group = ""
		case strings.Contains(group, ".") && !strings.HasSuffix(group, ".k8s.io"):
			continue
		}
		for _, resource := range list.APIResources {
			if slices.Contains(resource.Verbs, "list") && slices.Contains(resource.Verbs, "watch") {
				names = append(names, strings.TrimSuffix(resource.Name+"."+group, "."))
			}
		}
	}
	own := settings{"NAMESPACES": "shop", "LABELS_RESOURCES": strings.Join(names, ",")}
	offline := launch(t, invocation{kubeconfig: "/nonexistent", args: []string{"rbac"}, settings: own}).wait(t)
	offline.mustSucceed(t)
	// The server is asked for the whole group only, and then for all.
	own["LABELS_RESOURCES"] += ",*.apps"
	online := launch(t, invocation{user: controlplane.Admin, args: []string{"rbac"}, settings: own}).wait(t)
	online.mustSucceed(t)
	if len(names) < 40 || offline.stdout != online.stdout {
		t.Errorf("%d kinds, without a server\n%swith one\n%s", len(names), offline.stdout, online.stdout)
	}
}
