// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"labelstream/test/controlplane"
	"labelstream/test/receiver"
)

// preflight is what a check looks at. All is well until a row changes it.
type preflight struct {
	*testing.T
	invocation
	// receiver is the destination, and hook the webhook's registration.
	receiver *journal
	hook     *admissionregistrationv1.ValidatingWebhook
}

// serveCertificate puts a certificate, with its key, where the webhook serves it from.
func (c *preflight) serveCertificate(host string, end time.Time) {
	served := newCertificate(c.T, host)
	c.hook.ClientConfig.CABundle = served.issue(c.T, end)
	c.settings["WEBHOOK_CERT_DIR"] = served.dir
}

// useTLS makes the destination one with a certificate, which is trusted.
func (c *preflight) useTLS(host string, end time.Time) {
	served := newCertificate(c.T, host)
	served.issue(c.T, end)
	file := filepath.Join(served.dir, "tls.crt")
	pair, err := tls.LoadX509KeyPair(file, filepath.Join(served.dir, "tls.key"))
	created(c.T)(pair, err)
	server := httptest.NewUnstartedServer(receiver.New(receiver.Options{}))
	c.Cleanup(server.Close)
	server.TLS, server.Config.ErrorLog = &tls.Config{Certificates: []tls.Certificate{pair}}, log.New(io.Discard, "", 0)
	server.StartTLS()
	c.settings["DESTINATION"], c.settings["TLS_CA_FILE"] = server.URL, file
}

// TestCheck provokes what labelstream check finds, on a real API server and real
// receivers. It wants each line that is not ok, and of its hint the words that say
// what to do.
func TestCheck(t *testing.T) {
	t.Parallel()
	p, namespace := shared.plane, "check"
	p.namespace(t, namespace)
	for _, name := range []string{"ready", "empty"} {
		created(t)(p.client.CoreV1().Services(namespace).Create(t.Context(), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 443}}},
		}, metav1.CreateOptions{}))
	}
	created(t)(p.client.DiscoveryV1().EndpointSlices(namespace).Create(t.Context(), &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "ready", Labels: map[string]string{discoveryv1.LabelServiceName: "ready"}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.1"}}},
	}, metav1.CreateOptions{}))
	nobody, reader, follower := p.reader(t, namespace), p.reader(t, "", "pods"), p.follower(t, "", "pods", "namespaces")
	admin, err := p.Config(controlplane.Admin)
	created(t)(admin, err)
	later := func(days int) time.Time { return time.Now().AddDate(0, 0, days) }

	as := func(user string, own settings) func(*preflight) {
		return func(c *preflight) { c.user, c.settings = user, c.settings.and(own) }
	}
	set := func(name, value string) func(*preflight) { return as(controlplane.Admin, settings{name: value}) }
	reach := func(cluster clientcmdapi.Cluster, token string) func(*preflight) {
		return func(c *preflight) {
			c.kubeconfig = writeKubeconfig(c.T, &cluster, &clientcmdapi.AuthInfo{Token: token})
		}
	}
	answers := func(fault receiver.Fault) func(*preflight) {
		return func(c *preflight) { c.receiver.Always(fault) }
	}
	only := func(version, wanted string) func(*preflight) {
		return func(c *preflight) {
			c.settings["PROTOCOL"] = wanted
			c.receiver.Always(func(w http.ResponseWriter, hr *http.Request, req *receiver.Request) bool {
				return !strings.HasPrefix(hr.Header.Get("X-Prometheus-Remote-Write-Version"), version) &&
					receiver.Status(http.StatusUnsupportedMediaType, nil)(w, hr, req)
			})
		}
	}
	hook := func(change func(*preflight)) func(*preflight) {
		return func(c *preflight) {
			r := lenient(admissionregistrationv1.WebhookClientConfig{
				Service: &admissionregistrationv1.ServiceReference{Namespace: namespace, Name: "ready", Path: new("/validate")},
			}, "nowhere") // so that it is never called
			c.hook, c.settings["CHANGES"] = &r.Webhooks[0], "webhook"
			c.serveCertificate("*."+namespace+".svc", later(300))
			change(c)
			c.settings["WEBHOOK_NAME"] = p.register(c.T, r).Name
		}
	}
	for _, test := range []struct {
		name  string
		setUp func(*preflight)
		// want are the level, the check and the message of a line, and after => the hint.
		want []string
	}{
		{"all is well", set("LEADER_ELECTION", "true"), nil},

		{"no kubeconfig", func(c *preflight) { c.args = append(c.args, "--kubeconfig=/nowhere") },
			[]string{`fail API server: .*/nowhere.* => look at --kubeconfig, KUBECONFIG and --context`}},
		{"no such context", func(c *preflight) { c.args = append(c.args, "--context=nowhere") },
			[]string{`fail API server: .*context "nowhere" does not exist => look at --kubeconfig, KUBECONFIG and --context`}},
		{"API server is away", reach(clientcmdapi.Cluster{Server: "https://" + closedPort(t, "127.0.0.1")}, ""),
			[]string{`fail API server: .*connection refused => .*whether the server can be reached`}},
		{"API server is not trusted", reach(clientcmdapi.Cluster{Server: admin.Host}, admin.BearerToken),
			[]string{`fail API server: .*certificate signed by unknown authority => look at --kubeconfig`}},
		{"wrong token", reach(clientcmdapi.Cluster{Server: admin.Host, CertificateAuthorityData: admin.CAData}, "wrong"),
			[]string{`fail API server: .*provide credentials => renew the credentials`}},
		{"no token", reach(clientcmdapi.Cluster{Server: admin.Host, CertificateAuthorityData: admin.CAData}, ""),
			[]string{`fail resources: .*\(Forbidden\) => grant the verb get on the nonResourceURLs`}},

		{"a singular", set("LABELS_RESOURCES", "pods,deployment"),
			[]string{`fail resources: .*"deployment": no such resource; write "deployments.apps" => kubectl api-resources lists`}},
		{"not listed", set("LABELS_RESOURCES", "pods,bindings"), []string{`fail resources: .*"bindings": the server does not let this resource be listed => leave it out`}},
		{"not watched", set("LABELS_RESOURCES", "pods,componentstatuses"),
			[]string{`fail resources: the API server does not let componentstatuses be watched => .*CHANGES=none`}},

		{"no rights", as(nobody, nil), []string{
			`fail rights: list, watch namespaces is not allowed => labelstream rbac \| kubectl apply`, `fail rights: list, watch pods is not allowed => labelstream rbac`}},
		{"some rights", as(reader, settings{"CHANGES": "none"}), []string{`fail rights: list namespaces is not allowed => labelstream rbac`}},
		{"no right to the Lease", as(follower, settings{"LEADER_ELECTION": "true"}), []string{
			`fail rights: get, update leases.coordination.k8s.io labelstream in namespace check is not allowed => labelstream rbac`,
			`fail rights: create leases.coordination.k8s.io in namespace check is not allowed => labelstream rbac`}},
		{"no rights to the webhook", as(follower, settings{"CHANGES": "webhook", "WEBHOOK_NAME": "hook"}), []string{
			`fail rights: get, patch validatingwebhookconfigurations.* hook is not allowed => labelstream rbac`,
			`fail rights: .* secrets hook in namespace check is not allowed => labelstream rbac`,
			`warn webhook: .*forbidden.* => not checked: run the check with more rights$`}},

		{"destination is away", func(c *preflight) { c.receiver.Down() },
			[]string{`fail destination: send to .*connection refused => .*can be reached from here`}},
		{"401", answers(receiver.Status(http.StatusUnauthorized, nil)), []string{`fail destination: .*status 401 .* => check the credentials`}},
		{"403", answers(receiver.Status(http.StatusForbidden, nil)), []string{`fail destination: .*status 403 .* => check the credentials`}},
		{"404", answers(receiver.Status(http.StatusNotFound, nil)), []string{`fail destination: .*status 404 .* => check the path`}},
		{"400", answers(receiver.Status(http.StatusBadRequest, nil)), []string{`fail destination: .*status 400 .* => .*receiver of remote_write`}},
		{"1.0 only", only("0.", "2.0"), []string{`fail destination: remote_write 2.0: .*status 415 .* => set LABELSTREAM_PROTOCOL to auto or 1.0`}},
		{"2.0 only", only("2.", "1.0"), []string{`fail destination: remote_write 1.0: .*status 415 .* => set LABELSTREAM_PROTOCOL to auto or 2.0`}},
		{"clock", answers(func(w http.ResponseWriter, _ *http.Request, _ *receiver.Request) bool {
			w.Header().Set("Date", time.Now().Add(-2*time.Hour).UTC().Format(http.TimeFormat))
			return false
		}), []string{`warn destination: its clock and this one are 2h0m0s apart => let NTP`}},
		{"unknown authority", func(c *preflight) {
			c.useTLS("127.0.0.1", later(300))
			delete(c.settings, "TLS_CA_FILE")
		}, []string{`fail destination: .*unknown authority => check LABELSTREAM_TLS_CA_FILE`}},
		{"wrong name", func(c *preflight) { c.useTLS("127.0.0.2", later(300)) }, []string{`fail destination: .*valid for 127.0.0.2, not 127.0.0.1 => .*the destination's certificate`}},
		{"its certificate has ended", func(c *preflight) { c.useTLS("127.0.0.1", time.Now().Add(-time.Minute)) },
			[]string{`fail destination: .*expired.* => .*the destination's certificate`}},
		{"its certificate ends soon", func(c *preflight) { c.useTLS("127.0.0.1", later(5)) }, []string{`warn destination: its certificate ends on .* => let it be renewed`}},
		{"http for https", func(c *preflight) {
			c.useTLS("127.0.0.1", later(300))
			c.settings["DESTINATION"] = strings.Replace(c.settings["DESTINATION"], "https", "http", 1)
		}, []string{`fail destination: .*HTTP request to an HTTPS server.* => .*scheme`}},
		{"https for http", func(c *preflight) {
			c.settings["DESTINATION"] = strings.Replace(c.settings["DESTINATION"], "http", "https", 1)
		}, []string{`fail destination: .* => nobody speaks TLS there: check the scheme`}},

		{"all is well by reviews", hook(func(*preflight) {}), nil},
		{"no configuration", set("CHANGES", "webhook"), []string{`fail webhook: .*not found => .*component webhook`}},
		{"failure policy", hook(func(c *preflight) { c.hook.FailurePolicy = new(admissionregistrationv1.Fail) }),
			[]string{`warn webhook: writes fail .* => set failurePolicy: Ignore`}},
		{"URL", hook(func(c *preflight) {
			c.hook.ClientConfig.Service, c.hook.ClientConfig.URL = nil, new("https://192.0.2.1/validate")
		}), []string{`warn webhook: .*URL in place of a Service; not checked => see for yourself`}},
		{"path", hook(func(c *preflight) { c.hook.ClientConfig.Service.Path = new("/other") }),
			[]string{`fail webhook: .*another path .* => set clientConfig.service.path`}},
		{"no Service", hook(func(c *preflight) { c.hook.ClientConfig.Service.Name = "nowhere" }),
			[]string{`fail webhook: the Service check/nowhere: .*not found => .*set clientConfig.service`}},
		{"port", hook(func(c *preflight) { c.hook.ClientConfig.Service.Port = new(int32(8443)) }),
			[]string{`fail webhook: the Service check/ready has no port 8443 => set clientConfig.service.port`}},
		{"no endpoints", hook(func(c *preflight) { c.hook.ClientConfig.Service.Name = "empty" }),
			[]string{`fail webhook: the Service check/empty has no ready pod => compare its selector`}},
		{"no caBundle", hook(func(c *preflight) { c.hook.ClientConfig.CABundle = nil }),
			[]string{`fail webhook: the caBundle holds no certificate => labelstream writes it once it runs`}},
		{"caBundle of another", hook(func(c *preflight) {
			c.hook.ClientConfig.CABundle = newCertificate(c.T, "*.check.svc").issue(c.T, later(300))
		}), []string{`fail webhook: .*do not trust .*unknown authority.* => the log of labelstream`}},
		{"certificate of another name", hook(func(c *preflight) { c.serveCertificate("ready.other.svc", later(300)) }),
			[]string{`fail webhook: .*do not trust .* valid for ready.other.svc, not ready.check.svc => the log of labelstream`}},
		{"certificate has ended", hook(func(c *preflight) { c.serveCertificate("*.check.svc", time.Now().Add(-time.Minute)) }),
			[]string{`fail webhook: .*do not trust .*expired.* => the log of labelstream`}},
		{"certificate ends soon", hook(func(c *preflight) { c.serveCertificate("*.check.svc", later(5)) }),
			[]string{`warn webhook: the certificate ends on .* => it should have been renewed`}},
		{"no Secret", hook(func(c *preflight) { delete(c.settings, "WEBHOOK_CERT_DIR") }),
			[]string{`fail webhook: the webhook's certificate: secrets .*not found => labelstream writes it once it runs`}},
		{"a kind without a rule", hook(func(c *preflight) { c.settings["LABELS_RESOURCES"] = "pods,nodes" }),
			[]string{`fail webhook: no rule is for nodes => add a rule with apiGroups: \[""\], resources: \["nodes"\]`}},
		{"a singular in the rules", hook(func(c *preflight) { c.hook.Rules[1].Resources = []string{"namespace"} }),
			[]string{`fail webhook: the rules name "namespace", .*no reviews of namespaces => write .*resources: \["namespaces"\]`}},
		{"operations", hook(func(c *preflight) { c.hook.Rules[1].Operations = []admissionregistrationv1.OperationType{"CREATE"} }),
			[]string{`fail webhook: the rules for namespaces lack \[UPDATE DELETE\] => add it to operations`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := &preflight{T: t, receiver: newJournal(t), invocation: invocation{user: controlplane.Admin, args: []string{"check", "-o", "json"}}}
			c.settings = settings{"DESTINATION": c.receiver.URL(), "POD_NAMESPACE": namespace}
			test.setUp(c)
			r := launch(t, c.invocation).wait(t)
			var all []struct{ Level, Check, Message, Hint string }
			if err := json.Unmarshal([]byte(r.stdout), &all); err != nil {
				t.Fatalf("%v:\n%s", err, r.stdout)
			}
			want, code := test.want, 0
			for _, one := range all {
				if one.Level == "ok" {
					continue
				}
				if one.Level == "fail" {
					code = 1
				}
				line := one.Level + " " + one.Check + ": " + one.Message + " => " + one.Hint
				if len(want) == 0 || !regexp.MustCompile("^"+want[0]).MatchString(line) {
					t.Fatalf("%s\nwant %q", line, want)
				}
				want = want[1:]
			}
			if len(all) == 0 || len(want) > 0 {
				t.Errorf("%q is missing in\n%s", want, r.stdout)
			}
			r.mustEndWith(t, code)
		})
	}
	r := launch(t, invocation{args: []string{"check"}, user: nobody, settings: settings{"DESTINATION": "http://127.0.0.1:1", "BEARER_TOKEN_FILE": "/nowhere"}}).wait(t)
	r.mustEndWith(t, 2)
	if want := "/nowhere: no such file or directory; want the name of a readable file"; !strings.Contains(r.stderr, want) {
		t.Errorf("without the token's file, check says\n%s", r.stderr)
	}
}

// TestInspect counts the keys of pods that a real API server lists.
func TestInspect(t *testing.T) {
	t.Parallel()
	p := shared.plane
	namespace := "inspect"
	p.namespace(t, namespace)
	p.pods(t, 7, func(i int) metav1.ObjectMeta {
		meta := metav1.ObjectMeta{Namespace: namespace, Name: numberedPod(i), Labels: map[string]string{"app": "web", "team": "t" + string(rune('a'+i))}}
		if i < 2 {
			meta.Labels["Team"] = "xy"
			meta.Annotations = map[string]string{"secret": "c4nary"}
		}
		return meta
	})
	r := launch(t, invocation{plane: p, user: p.reader(t, namespace, "pods"), args: []string{"inspect", "-o", "json"}, settings: settings{
		"NAMESPACES": namespace, "LABELS_RESOURCES": "pods", "LABELS_FILTERS": "^team$\n^Team$",
	}}).wait(t)
	r.mustSucceed(t)
	type key struct {
		Key, Source, Pattern, Example string
		Objects, Distinct, Longest    int
		Sent                          bool
	}
	var report struct {
		Total     struct{ Objects int }
		Keys      []key
		Spellings []struct{ Meaning string }
	}
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatalf("%v:\n%s", err, r.stdout)
	}
	want := []key{
		{"app", "label", "", "web", 7, 1, 3, false},
		{"team", "label", "^team$", "ta", 7, 7, 2, true},
		{"Team", "label", "^Team$", "xy", 2, 1, 2, true},
		{"secret", "annotation", "", "", 2, 1, 6, false},
	}
	if diff := cmp.Diff(want, report.Keys); diff != "" || report.Total.Objects != 7 || len(report.Spellings) != 1 {
		t.Errorf("the report has (-want +got):\n%s\nof\n%s", diff, r.stdout)
	}
}
