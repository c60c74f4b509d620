package e2e

import (
	"context"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
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

// roles are what labelstream rbac has printed.
type roles struct {
	cluster *rbacv1.ClusterRole
	others  []*rbacv1.Role
}

// printedRoles has the roles printed for settings, without a cluster, and demands
// that each is bound to the service account of a namespace, and nothing else is.
func printedRoles(t *testing.T, account string, own settings, args ...string) *roles {
	t.Helper()
	own = settings{"WEBHOOK_ENABLED": "false"}.and(own)
	r := launch(t, invocation{kubeconfig: "/nonexistent", args: append(args, "rbac"), settings: own}).wait(t)
	r.mustSucceed(t)
	return parseRoles(t, account, r.stdout)
}

func parseRoles(t *testing.T, account, text string) *roles {
	t.Helper()
	var (
		all    roles
		bound  []string
		wanted []string
	)
	for document := range strings.SplitSeq(text, "---\n") {
		var typ metav1.TypeMeta
		parse(t, document, &typ, yaml.Unmarshal)
		switch typ.Kind {
		case "ClusterRole":
			all.cluster = new(rbacv1.ClusterRole)
			parse(t, document, all.cluster, yaml.UnmarshalStrict)
			wanted = append(wanted, "ClusterRole /"+all.cluster.Name)
		case "Role":
			role := new(rbacv1.Role)
			parse(t, document, role, yaml.UnmarshalStrict)
			all.others = append(all.others, role)
			wanted = append(wanted, "Role "+role.Namespace+"/"+role.Name)
		default:
			// Both kinds of bindings look the same.
			var binding rbacv1.RoleBinding
			parse(t, document, &binding, yaml.UnmarshalStrict)
			bound = append(bound, binding.RoleRef.Kind+" "+binding.Namespace+"/"+binding.RoleRef.Name)
			want := []rbacv1.Subject{{Kind: "ServiceAccount", Name: "labelstream", Namespace: account}}
			if !slices.Equal(binding.Subjects, want) {
				t.Errorf("%s is bound to %v, want %v", binding.Name, binding.Subjects, want)
			}
		}
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(wanted)), slices.Sorted(slices.Values(bound))); diff != "" {
		t.Errorf("roles that are bound (-want +got):\n%s", diff)
	}
	return &all
}

func parse(t *testing.T, document string, into any, decode func([]byte, any, ...yaml.JSONOpt) error) {
	t.Helper()
	if err := decode([]byte(document), into); err != nil {
		t.Fatalf("%v:\n%s", err, document)
	}
}

func (r *roles) permissions() []permission {
	var all []permission
	if r.cluster != nil {
		all = expand("", r.cluster.Rules)
	}
	for _, role := range r.others {
		all = append(all, expand(role.Namespace, role.Rules)...)
	}
	return all
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

// restrict leaves nothing but these permissions.
func (r *roles) restrict(left []permission) {
	in := func(namespace string) []rbacv1.PolicyRule {
		var rules []rbacv1.PolicyRule
		for _, p := range left {
			if p.namespace != namespace {
				continue
			}
			rule := rbacv1.PolicyRule{Verbs: []string{p.verb}, APIGroups: []string{p.group}, Resources: []string{p.resource}}
			if p.name != "" {
				rule.ResourceNames = []string{p.name}
			}
			rules = append(rules, rule)
		}
		return rules
	}
	if r.cluster != nil {
		r.cluster.Rules = in("")
	}
	for _, role := range r.others {
		role.Rules = in(role.Namespace)
	}
}

// bind makes the service account of a namespace, with the roles and no others,
// and returns once the API server knows of all they grant. A name that others
// have, too, gets the account's to it.
func (p *plane) bind(t *testing.T, account string, r *roles) {
	t.Helper()
	created[*corev1.ServiceAccount](t)(p.client.CoreV1().ServiceAccounts(account).
		Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "labelstream"}}, metav1.CreateOptions{}))
	rbac, ctx, opts := p.client.RbacV1(), t.Context(), metav1.CreateOptions{}
	subjects := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: "labelstream", Namespace: account}}
	if r.cluster != nil {
		r.cluster.Name += "-" + account
		created[*rbacv1.ClusterRole](t)(rbac.ClusterRoles().Create(ctx, r.cluster, opts))
		created[*rbacv1.ClusterRoleBinding](t)(rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: r.cluster.Name}, Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: r.cluster.Name},
		}, opts))
	}
	for _, role := range r.others {
		role.Name += "-" + account
		created[*rbacv1.Role](t)(rbac.Roles(role.Namespace).Create(ctx, role, opts))
		created[*rbacv1.RoleBinding](t)(rbac.RoleBindings(role.Namespace).Create(ctx, &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: role.Name}, Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role.Name},
		}, opts))
	}
	for _, granted := range r.permissions() {
		p.awaitPermission(t, account, granted)
	}
}

func (p *plane) awaitPermission(t *testing.T, account string, granted permission) {
	t.Helper()
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: "system:serviceaccount:" + account + ":labelstream",
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

// TestRolesByName has what labelstream knows of Kubernetes' own kinds without a
// server be what the server says.
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
