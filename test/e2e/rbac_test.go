// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"

	"labelstream/test/controlplane"
)

// scenario is a way to run labelstream, for which the roles that it prints suffice.
type scenario struct {
	name     string
	once     bool
	settings settings
	// series are those that must come.
	series []string
}

// The series of what the test has created.
const (
	shopPod = `cloudzero_pod_labels{namespace="shop",pod="web",resource_type="pod"}`
	bankPod = `cloudzero_pod_labels{namespace="bank",pod="web",resource_type="pod"}`
	shop    = `cloudzero_namespace_labels{namespace="shop",resource_type="namespace"}`
	bank    = `cloudzero_namespace_labels{namespace="bank",resource_type="namespace"}`
	node    = `cloudzero_node_labels{node="node-a",resource_type="node"}`
)

var scenarios = []scenario{
	{name: "daemon", series: []string{shopPod, bankPod, shop, bank}},
	// There is no deployment.
	{name: "once", once: true, settings: settings{"LABELS_RESOURCES": "pods,nodes,deployments"}, series: []string{shopPod, bankPod, node}},
	{name: "no-changes", settings: settings{"CHANGES": "none", "LABELS_RESOURCES": "pods"}, series: []string{shopPod, bankPod}},
	{name: "namespaces", settings: settings{"NAMESPACES": "shop,bank", "LABELS_RESOURCES": "pods,namespaces,nodes"},
		series: []string{shopPod, bankPod, shop, bank, node}},
	{name: "election", settings: settings{"LEADER_ELECTION": "true", "NAMESPACES": "shop", "LABELS_RESOURCES": "pods"}, series: []string{shopPod}},
	{name: "certificate", settings: settings{
		"NAMESPACES": "shop", "CHANGES": "webhook", "WEBHOOK_ADDRESS": "127.0.0.1:0", "WEBHOOK_NAME": "certificate",
	}, series: []string{shopPod, shop}},
}

// TestRoles runs labelstream as service accounts to which the printed roles, and
// no others, are bound.
func TestRoles(t *testing.T) {
	t.Parallel()
	p := ownPlane(t)
	for _, namespace := range []string{"shop", "bank"} {
		p.namespace(t, namespace)
		p.pods(t, 1, func(int) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: namespace, Name: "web"} })
	}
	created(t)(p.client.CoreV1().Nodes().
		Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a"}}, metav1.CreateOptions{}))
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.test(t, p)
		})
	}
}

// test demands that a run sends everything, and lacks nothing.
func (s *scenario) test(t *testing.T, p *plane) {
	p.namespace(t, s.name)
	j := newJournal(t)
	own := settings{"LABELS_FILTERS": "^team$", "SEND_INTERVAL": "50ms", "POD_NAMESPACE": s.name, "DESTINATION": j.URL()}.and(s.settings)
	var args []string
	if s.once {
		args = []string{"--once"}
	}
	if name := own["WEBHOOK_NAME"]; name != "" {
		p.register(t, uncalled(name))
	}
	p.bindAccount(t, s.name, printedRoles(t, own, args...))
	r := launch(t, invocation{kubeconfig: p.accountKubeconfig(t, s.name), args: args, settings: own})
	switch {
	case s.once:
		r.wait(t).mustSucceed(t)
	case own["LEADER_ELECTION"] != "":
		p.awaitRenewed(t, r, s.name)
	case own["WEBHOOK_NAME"] != "":
		r.awaitLog(t, "Told the API server to trust")
	}
	j.await(t, "all series", func(samples []sample) bool { return len(ofChosen(samples)) >= len(s.series) })
	compare(t, s.series, ofChosen(j.all()))
	if text := r.stderr.String(); strings.Contains(text, "forbidden") {
		t.Errorf("something is forbidden:\n%s", text)
	}
}

// uncalled is the registration of a webhook that is never called: there is no such
// address.
func uncalled(name string) *admissionregistrationv1.ValidatingWebhookConfiguration {
	r := lenient(admissionregistrationv1.WebhookClientConfig{URL: new("https://127.0.0.1:1/validate")}, name)
	r.GenerateName, r.Name, r.Webhooks[0].Rules = "", name, nil
	return r
}

// awaitRenewed waits until a run has renewed the Lease that it has created.
func (p *plane) awaitRenewed(t *testing.T, r *run, namespace string) {
	t.Helper()
	r.awaitLog(t, `"Leading"`)
	p.eventually(t, func(ctx context.Context) (bool, error) {
		lease, err := p.client.CoordinationV1().Leases(namespace).Get(ctx, "labelstream", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		return lease.Spec.RenewTime.After(lease.Spec.AcquireTime.Time), nil
	})
}

// ofChosen are the series of samples, each once, but for those of other
// namespaces than the two that the test has made first.
func ofChosen(samples []sample) []string {
	var all []string
	for _, s := range samples {
		if s.Namespace == "" || s.Namespace == "shop" || s.Namespace == "bank" {
			all = append(all, s.Series)
		}
	}
	return unique(all)
}

// permission is to do one thing with one resource: in a namespace, or everywhere
// where that is "", and with one object, or any where name is "".
type permission struct{ verb, group, resource, name, namespace string }

// texts are permissions as text.
func texts(permissions []permission) []string {
	all := make([]string, len(permissions))
	for i, p := range permissions {
		all[i] = fmt.Sprintf("%+v", p)
	}
	return all
}

// roles are the rules of what labelstream rbac has printed: of the role in each
// namespace, and of the cluster role under "".
type roles map[string][]rbacv1.PolicyRule

// printedRoles prints the roles for settings, without a cluster.
func printedRoles(t *testing.T, own settings, args ...string) roles {
	t.Helper()
	r := launch(t, invocation{kubeconfig: "/nonexistent", args: append(args, "rbac"), settings: own}).wait(t)
	r.mustSucceed(t)
	all := make(roles)
	for document := range strings.SplitSeq(r.stdout, "---\n") {
		// Both kinds of roles look the same. The test binds them itself.
		var object rbacv1.Role
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatalf("%v:\n%s", err, document)
		}
		if !strings.HasSuffix(object.Kind, "Binding") {
			all[object.Namespace] = object.Rules
		}
	}
	return all
}

func (r roles) permissions() []permission {
	var all []permission
	for _, namespace := range slices.Sorted(maps.Keys(r)) {
		all = append(all, expand(namespace, r[namespace])...)
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

// accountUser is the name of the user that is the service account of a namespace.
func accountUser(namespace string) string {
	return "system:serviceaccount:" + namespace + ":labelstream"
}

// bindAccount makes the service account of a namespace, with the roles and no
// others, and returns once the API server knows of all they grant.
func (p *plane) bindAccount(t *testing.T, account string, r roles) {
	t.Helper()
	created(t)(p.client.CoreV1().ServiceAccounts(account).
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
	config, err := p.Config(controlplane.Admin)
	if err != nil {
		t.Fatal(err)
	}
	return writeKubeconfig(t, &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData},
		&clientcmdapi.AuthInfo{Token: p.accountToken(t, account)})
}

// writeKubeconfig writes a kubeconfig for one cluster and one user.
func writeKubeconfig(t *testing.T, cluster *clientcmdapi.Cluster, user *clientcmdapi.AuthInfo) string {
	t.Helper()
	const name = "test"
	config := clientcmdapi.NewConfig()
	config.Clusters[name], config.AuthInfos[name] = cluster, user
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestManifestsGrantWhatIsPrinted demands that each installation grants what
// labelstream prints for its settings.
func TestManifestsGrantWhatIsPrinted(t *testing.T) {
	t.Parallel()
	for _, i := range installations {
		t.Run(filepath.Base(i.name), func(t *testing.T) {
			t.Parallel()
			objects := i.render(t)
			c := container(t, objects.template(t))
			namespace := objects.of("ConfigMap")[0].GetNamespace()
			own := objects.settings(t, c).and(settings{"POD_NAMESPACE": namespace, "DESTINATION": "http://collector"})
			compare(t, texts(printedRoles(t, own, c.Args...).permissions()), texts(objects.permissions(t)))
		})
	}
}

// permissions are what all roles grant.
func (r rendered) permissions(t *testing.T) []permission {
	t.Helper()
	var all []permission
	for _, kind := range []string{"ClusterRole", "Role"} {
		for _, object := range r.of(kind) {
			all = append(all, expand(object.GetNamespace(), into[rbacv1.Role](t, object.Object).Rules)...)
		}
	}
	return all
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
