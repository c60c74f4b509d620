// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/informer"
)

// webhook checks that the API server would send reviews of the kinds, and could.
func (c *checker) webhook(ctx context.Context, kinds []*informer.Kind) {
	name := c.Config.WebhookName
	configuration, err := c.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, name, metav1.GetOptions{})
	if err == nil && len(configuration.Webhooks) == 0 {
		err = errors.New("it has no webhooks")
	}
	if err != nil {
		c.unread(fmt.Errorf("the ValidatingWebhookConfiguration %s: %w", name, err), "apply the manifests' component webhook, or set LABELSTREAM_WEBHOOK_NAME")
		return
	}
	for i := range configuration.Webhooks {
		c.hook(ctx, &configuration.Webhooks[i])
	}
	c.rules(configuration.Webhooks, kinds)
}

// unread reports what could not be read. The service account need not be allowed to
// read all of it.
func (c *checker) unread(err error, hint string) {
	switch {
	case apierrors.IsForbidden(err):
		c.warn(webhooks, "not checked: run the check with more rights", "%v", err)
	case errors.Is(err, fs.ErrNotExist):
		c.warn(webhooks, "not checked: run the check in the pod, which has the files", "%v", err)
	default:
		c.fail(webhooks, err, hint)
	}
}

func (c *checker) hook(ctx context.Context, hook *admissionv1.ValidatingWebhook) {
	if hook.FailurePolicy == nil || *hook.FailurePolicy != admissionv1.Ignore {
		c.warn(webhooks, "set failurePolicy: Ignore", "writes fail in the cluster while %s is away", hook.Name)
	}
	service := hook.ClientConfig.Service
	if service == nil {
		c.warn(webhooks, "see for yourself that it leads to labelstream", "%s has a URL in place of a Service; not checked", hook.Name)
		return
	}
	if path := service.Path; path == nil || *path != c.Config.WebhookPath {
		c.fail(webhooks, fmt.Errorf("%s has another path than the one that is served", hook.Name), "set clientConfig.service.path to LABELSTREAM_WEBHOOK_PATH")
	}
	c.service(ctx, service)
	c.certificate(ctx, service, hook.ClientConfig.CABundle)
}

// service checks that the Service has the port, and a pod behind it.
func (c *checker) service(ctx context.Context, of *admissionv1.ServiceReference) {
	name, port := of.Namespace+"/"+of.Name, int32(443)
	if of.Port != nil {
		port = *of.Port
	}
	service, err := c.client.CoreV1().Services(of.Namespace).Get(ctx, of.Name, metav1.GetOptions{})
	if err != nil {
		c.unread(fmt.Errorf("the Service %s: %w", name, err), "the ValidatingWebhookConfiguration names it: set clientConfig.service, or make it")
		return
	}
	if !slices.ContainsFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == port }) {
		c.fail(webhooks, fmt.Errorf("the Service %s has no port %d", name, port), "set clientConfig.service.port to one of the Service's")
	}
	endpoints, err := c.client.DiscoveryV1().EndpointSlices(of.Namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + of.Name})
	if err != nil {
		c.unread(fmt.Errorf("the EndpointSlices of the Service %s: %w", name, err), "")
		return
	}
	for _, slice := range endpoints.Items {
		for _, endpoint := range slice.Endpoints {
			if ready := endpoint.Conditions.Ready; ready == nil || *ready {
				c.ok(webhooks, "the Service %s has a ready pod", name)
				return
			}
		}
	}
	c.fail(webhooks, fmt.Errorf("the Service %s has no ready pod", name), "compare its selector with the pods' labels, and look at the pods' readiness")
}

// certificate checks that the caBundle trusts what is served.
func (c *checker) certificate(ctx context.Context, of *admissionv1.ServiceReference, bundle []byte) {
	host, roots := of.Name+"."+of.Namespace+".svc", x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		c.fail(webhooks, errors.New("the caBundle holds no certificate"), notWritten)
		return
	}
	pair, err := c.served(ctx)
	if err != nil {
		c.unread(fmt.Errorf("the webhook's certificate: %w", err), notWritten)
		return
	}
	intermediates := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		if above, err := x509.ParseCertificate(der); err == nil {
			intermediates.AddCert(above)
		}
	}
	ends := pair.Leaf.NotAfter.Format(time.DateOnly)
	_, err = pair.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: intermediates})
	switch {
	case err != nil:
		c.fail(webhooks, fmt.Errorf("API servers do not trust the webhook's certificate for %s, which ends on %s: %w", host, ends, err),
			"the log of labelstream, or of cert-manager's cainjector, says what keeps it from being trusted")
	case time.Until(pair.Leaf.NotAfter) < endsSoon:
		c.warn(webhooks, "it should have been renewed: the log of labelstream, or of cert-manager, says why not", "the certificate ends on %s", ends)
	default:
		c.ok(webhooks, "the caBundle trusts the certificate for %s, which ends on %s", host, ends)
	}
}

// served is the certificate of the Secret, or of the directory.
func (c *checker) served(ctx context.Context) (tls.Certificate, error) {
	if dir := c.Config.WebhookCertDir; dir != "" {
		return tls.LoadX509KeyPair(filepath.Join(dir, corev1.TLSCertKey), filepath.Join(dir, corev1.TLSPrivateKeyKey))
	}
	secret, err := c.client.CoreV1().Secrets(c.Namespace).Get(ctx, c.Config.WebhookName, metav1.GetOptions{})
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
}

const notWritten = "labelstream writes it once it runs; with LABELSTREAM_WEBHOOK_CERT_DIR cert-manager does"

// operations are those that labelstream must hear of.
var operations = []admissionv1.OperationType{admissionv1.Create, admissionv1.Update, admissionv1.Delete}

// rules checks that there is a review of each write to each kind.
func (c *checker) rules(hooks []admissionv1.ValidatingWebhook, kinds []*informer.Kind) {
	var covered []string
	for _, kind := range kinds {
		missing, singular := uncovered(hooks, kind)
		resource := fmt.Sprintf("apiGroups: [%q], resources: [%q]", kind.GVR.Group, kind.GVR.Resource)
		switch {
		case len(missing) == 0:
			covered = append(covered, kind.Resource)
		case len(missing) == len(operations) && singular != "":
			c.fail(webhooks, fmt.Errorf("the rules name %q, and resources have names in the plural: there are no reviews of %s", singular, kind.Resource), "write "+resource)
		case len(missing) == len(operations):
			c.fail(webhooks, fmt.Errorf("no rule is for %s", kind.Resource), "add a rule with "+resource)
		default:
			c.fail(webhooks, fmt.Errorf("the rules for %s lack %s", kind.Resource, missing), "add it to operations")
		}
	}
	if covered != nil {
		c.ok(webhooks, "the rules are for %s", strings.Join(covered, ", "))
	}
}

// uncovered returns the operations that no rule names for the kind, and the singular
// where a rule has that.
func uncovered(hooks []admissionv1.ValidatingWebhook, kind *informer.Kind) (missing []admissionv1.OperationType, singular string) {
	missing = slices.Clone(operations)
	for _, hook := range hooks {
		for _, rule := range hook.Rules {
			if !has(rule.APIGroups, kind.GVR.Group) {
				continue
			}
			for _, resource := range rule.Resources {
				if resource != kind.GVR.Resource && strings.EqualFold(resource, kind.GVK.Kind) {
					singular = resource
				}
			}
			exact := hook.MatchPolicy != nil && *hook.MatchPolicy == admissionv1.Exact
			if covers(&rule.Rule, kind, exact) {
				missing = slices.DeleteFunc(missing, func(operation admissionv1.OperationType) bool { return has(rule.Operations, operation) })
			}
		}
	}
	return missing, singular
}

// covers reports whether a rule of the kind's group is for the kind.
func covers(rule *admissionv1.Rule, kind *informer.Kind, exact bool) bool {
	scope := admissionv1.ClusterScope
	if kind.Namespaced {
		scope = admissionv1.NamespacedScope
	}
	return (has(rule.Resources, kind.GVR.Resource) || slices.Contains(rule.Resources, "*/*")) &&
		(!exact || has(rule.APIVersions, kind.GVR.Version)) &&
		(rule.Scope == nil || *rule.Scope == admissionv1.AllScopes || *rule.Scope == scope)
}

// has reports whether a list of a rule has the text, or *.
func has[T ~string](list []T, text T) bool {
	return slices.Contains(list, text) || slices.Contains(list, "*")
}
