package e2e

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// scenario is a way to run labelstream. The roles that it prints for it suffice, and
// where one permission of theirs is left out it says which: so none of them is
// superfluous.
type scenario struct {
	name     string
	once     bool
	settings settings
	// permissions are those that the printed roles must come to, as written by
	// [permission.String]. OWN stands for the namespace of the pod.
	permissions []string
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
	{
		name: "default", series: []string{shopPod, bankPod, shop, bank},
		permissions: []string{"list namespaces", "watch namespaces", "list pods", "watch pods"},
	},
	{
		name: "once", once: true, settings: settings{"LABELS_RESOURCES": "pods,nodes,deployments"}, series: []string{shopPod, bankPod, node},
		permissions: []string{"list nodes", "list pods", "list deployments.apps"},
	},
	{
		name: "no-changes", settings: settings{"CHANGES": "none", "LABELS_RESOURCES": "pods"}, series: []string{shopPod, bankPod},
		permissions: []string{"list pods"},
	},
	{
		name: "namespaces", settings: settings{"NAMESPACES": "shop,bank", "LABELS_RESOURCES": "pods,namespaces,nodes"},
		series: []string{shopPod, bankPod, shop, bank, node},
		permissions: []string{
			"list namespaces[shop]", "list namespaces[bank]", "watch namespaces[shop]", "watch namespaces[bank]", "list nodes", "watch nodes",
			"list pods in bank", "watch pods in bank", "list pods in shop", "watch pods in shop",
		},
	},
	{
		name: "election", settings: settings{"LEADER_ELECTION": "true", "NAMESPACES": "shop", "LABELS_RESOURCES": "pods"}, series: []string{shopPod},
		permissions: []string{
			"get leases.coordination.k8s.io[labelstream] in OWN", "update leases.coordination.k8s.io[labelstream] in OWN",
			"create leases.coordination.k8s.io in OWN", "list pods in shop", "watch pods in shop",
		},
	},
	{
		name: "certificate", series: []string{shopPod, shop},
		settings: settings{
			"NAMESPACES": "shop", "CHANGES": "webhook", "WEBHOOK_ADDRESS": "127.0.0.1:0", "WEBHOOK_NAME": "OWN",
		},
		permissions: []string{
			"get validatingwebhookconfigurations.admissionregistration.k8s.io[OWN]",
			"patch validatingwebhookconfigurations.admissionregistration.k8s.io[OWN]",
			"create secrets[OWN] in OWN", "get secrets[OWN] in OWN", "patch secrets[OWN] in OWN",
			"list namespaces[shop]", "list pods in shop",
		},
	},
}

// TestRoles runs labelstream as the service account to which the printed roles
// were bound.
func TestRoles(t *testing.T) {
	t.Parallel()
	p := ownPlane(t)
	for _, namespace := range []string{"shop", "bank"} {
		p.namespace(t, namespace)
		p.pods(t, 1, func(int) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: namespace, Name: "web"} })
	}
	created[*corev1.Node](t)(p.client.CoreV1().Nodes().
		Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a"}}, metav1.CreateOptions{}))
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.test(t, p)
		})
	}
}

// rolesLimit is after how long a run is killed. The first is looked at when all
// of its scenario have been started, beside those of the others, and some of them
// wait for the API server's answers before that.
const rolesLimit = 6 * patience

// nothing is left out of the permissions.
const nothing = -1

// test starts a run with all permissions, and one more without each of them, and
// then looks at how they do: some need a minute to notice.
func (s *scenario) test(t *testing.T, p *plane) {
	s.settings = settings{"LABELS_FILTERS": "^team$", "SEND_INTERVAL": "50ms"}.and(s.settings)
	whole := s.start(t, p, s.name+"-whole", nothing)
	var less []*restricted
	for i := range whole.permissions {
		less = append(less, s.start(t, p, fmt.Sprintf("%s-%d", s.name, i), i))
	}
	var want []string
	for _, text := range s.permissions {
		want = append(want, strings.ReplaceAll(text, "OWN", whole.account))
	}
	compare(t, want, slices.Collect(texts(whole.permissions)))
	whole.mustWork(t)
	for _, r := range less {
		t.Run("without "+strings.ReplaceAll(r.missing.String(), r.account, "OWN"), r.mustName)
	}
}

// restricted is a run as a service account of its own.
type restricted struct {
	*run
	*scenario
	plane *plane
	// account is the namespace of the service account.
	account string
	// permissions are what the printed roles come to, missing is what was not
	// granted of it.
	permissions []permission
	missing     permission
	receiver    *journal
}

// start starts a run as a service account to which the printed roles are bound:
// as they are, or without one of their permissions.
func (s *scenario) start(t *testing.T, p *plane, account string, without int) *restricted {
	t.Helper()
	p.namespace(t, account)
	r := &restricted{scenario: s, plane: p, account: account, receiver: newJournal(t)}
	own := s.settings.and(settings{"POD_NAMESPACE": account, "DESTINATION": r.receiver.URL()})
	var args []string
	if s.once {
		args = []string{"--once"}
	}
	if own["WEBHOOK_NAME"] != "" {
		own["WEBHOOK_NAME"] = account
		// It is never called.
		p.register(t, ownRegistration(account))
	}
	granted := printedRoles(t, account, own, args...)
	r.permissions = granted.permissions()
	if without != nothing {
		r.missing = r.permissions[without]
		granted = granted.without(r.missing)
	}
	p.bindAccount(t, account, granted)
	r.run = launch(t, invocation{kubeconfig: p.accountKubeconfig(t, account), args: args, settings: own, limit: rolesLimit})
	return r
}

// ownRegistration is of a webhook that is never called: there is no such address.
func ownRegistration(name string) *admissionregistrationv1.ValidatingWebhookConfiguration {
	url := "https://127.0.0.1:1/validate"
	r := lenient(admissionregistrationv1.WebhookClientConfig{URL: &url}, name)
	r.GenerateName, r.Name, r.Webhooks[0].Rules = "", name, nil
	return r
}

// mustWork demands that the run has sent everything, and lacks nothing.
func (r *restricted) mustWork(t *testing.T) {
	t.Helper()
	switch {
	case r.once:
		r.wait(t).mustSucceed(t)
	case r.settings["LEADER_ELECTION"] != "":
		r.awaitRenewed(t)
	case r.settings["WEBHOOK_NAME"] != "":
		r.awaitLog(t, "Told the API server to trust")
	}
	r.receiver.await(t, "all series", func(samples []sample) bool { return len(ofChosen(samples)) >= len(r.series) })
	compare(t, r.series, ofChosen(r.receiver.all()))
	if text := r.stderr.String(); strings.Contains(text, "forbidden") {
		t.Errorf("something is forbidden:\n%s", text)
	}
}

// awaitRenewed waits until the run has renewed the Lease that it has created.
func (r *restricted) awaitRenewed(t *testing.T) {
	t.Helper()
	r.awaitLog(t, `"Leading"`)
	r.plane.eventually(t, func(ctx context.Context) (bool, error) {
		lease, err := r.plane.client.CoordinationV1().Leases(r.account).Get(ctx, "labelstream", metav1.GetOptions{})
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
	slices.Sort(all)
	return slices.Compact(all)
}

// mustName demands that the run says what it lacks, and of nothing else that it
// lacks it.
func (r *restricted) mustName(t *testing.T) {
	lacking := r.missing
	said := fmt.Sprintf(`cannot %s resource \"%s\" in API group \"%s\"`, lacking.verb, lacking.resource, lacking.group)
	r.awaitLog(t, said)
	if r.once {
		ended := r.wait(t)
		ended.mustFail(t)
		// The other kinds are sent.
		if kinds := len(r.permissions); len(ofChosen(r.receiver.all())) == 0 || kinds != 3 {
			t.Errorf("of %d kinds, one of which may not be listed, nothing was sent", kinds)
		}
	}
	advice := regexp.MustCompile(fmt.Sprintf(`grant the verbs? [^:]*"%s"[^:]* on resource "%s" in API group "%s"|grant the rights that the command rbac prints`,
		lacking.verb, lacking.resource, lacking.group))
	for line := range strings.Lines(r.stderr.String()) {
		// A progress line says what it waits for, without advice.
		if !strings.Contains(line, "cannot ") || strings.Contains(line, `"level":"info"`) {
			continue
		}
		text := strings.ReplaceAll(line, `\"`, `"`)
		if !strings.Contains(line, said) || !advice.MatchString(text) || !strings.Contains(text, lacking.where()) {
			t.Errorf("this does not say to grant %s:\n%s", lacking, text)
		}
	}
}
