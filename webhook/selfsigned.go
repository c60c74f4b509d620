package webhook

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

const (
	// lookInterval is how often the Secret and the webhook's configuration are
	// looked at.
	lookInterval = 30 * time.Second
	// retryInterval is how soon that is done again after a failure, and
	// conflictInterval after another replica was faster.
	retryInterval    = 5 * time.Second
	conflictInterval = 100 * time.Millisecond
	// requestTimeout bounds each request.
	requestTimeout = 10 * time.Second
	// fieldManager owns what is written. The one who makes an empty Secret is
	// another, since whoever applies without a field gives it up.
	fieldManager = "labelstream"
	makerManager = "labelstream-maker"
)

// SelfSignedOptions say where a certificate of our own is kept and used.
type SelfSignedOptions struct {
	// Namespace is that of the Secret and of the Service.
	Namespace, Secret, Service string
	// Configuration names the ValidatingWebhookConfiguration.
	Configuration string
	// ClientCAFile is as for [NewFiles].
	ClientCAFile string
}

// SelfSigned serves with a certificate of an authority of our own. Both are
// kept in a Secret that all replicas share. Whoever of them comes first makes
// and renews them, and has the API server trust the authority.
type SelfSigned struct {
	serving
	client  rest.Interface
	options SelfSignedOptions
	names   []string
	log     logrus.FieldLogger
	now     func() time.Time
	clients clientFile

	// current is what is served.
	current *authority
	// known is since when the configuration has had what current trusts.
	known time.Time
	// failure is what went wrong last, "" where nothing does.
	failure string
}

// JSONClient returns a client for [NewSelfSigned].
func JSONClient(cluster *rest.Config) (rest.Interface, error) {
	cfg := rest.CopyConfig(cluster)
	cfg.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	cfg.QPS = -1
	client, err := rest.UnversionedRESTClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("make a client of the API server at %s: %w", cfg.Host, err)
	}
	return client, nil
}

// NewSelfSigned returns certificates that are there once Run has got them. The
// error names a setting that cannot be used.
func NewSelfSigned(client rest.Interface, options SelfSignedOptions, registerer prometheus.Registerer, log logrus.FieldLogger) (*SelfSigned, error) {
	host := options.Service + "." + options.Namespace + ".svc"
	s := &SelfSigned{
		client: client, options: options, log: log, now: time.Now,
		names:   []string{host, host + ".cluster.local"},
		clients: clientFile{name: options.ClientCAFile},
	}
	if err := s.clients.load(&s.serving); err != nil {
		return nil, err
	}
	s.registerDays(registerer)
	return s, nil
}

// Run keeps the certificate until ctx ends.
func (s *SelfSigned) Run(ctx context.Context) {
	for ctx.Err() == nil {
		err := errors.Join(s.clients.load(&s.serving), s.step(ctx))
		if ctx.Err() != nil {
			return
		}
		pause := lookInterval
		switch {
		case apierrors.IsConflict(err):
			pause = conflictInterval
		case err != nil:
			pause = retryInterval
			fallthrough
		default:
			s.note(err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// note logs a failure when it begins, changes and ends.
func (s *SelfSigned) note(err error) {
	switch {
	case err == nil && s.failure != "":
		s.failure = ""
		s.log.Info("The webhook's certificate can be kept again")
	case err != nil && err.Error() != s.failure:
		s.failure = err.Error()
		s.log.WithError(err).Warn("Cannot keep the webhook's certificate; trying again")
	}
}

// step brings the Secret, what is served and the configuration up to date. Of
// two replicas that write the Secret the second gets a conflict.
func (s *SelfSigned) step(ctx context.Context) error {
	kept, version, err := s.read(ctx)
	if err != nil {
		return err
	}
	if kept == nil {
		// Somebody has deleted it. API servers trust what we have.
		s.replace(s.current)
	} else {
		s.replace(kept)
	}
	next, err := s.next(ctx)
	if err != nil {
		return err
	}
	if !next.same(kept) {
		if err := s.keep(ctx, next, version); err != nil {
			return err
		}
		s.replace(next)
	}
	return s.publish(ctx)
}

// next is the authority that should follow the current one.
func (s *SelfSigned) next(ctx context.Context) (*authority, error) {
	now := s.now()
	next, err := s.current.renewed(s.names, now, s.known)
	if err != nil || !s.current.ended(now) {
		return next, err
	}
	// All is made anew. Replicas that run may have another authority, such as
	// that of a Secret that was deleted: it stays trusted.
	c, err := s.configuration(ctx)
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		// What is to be done about it is said where it is written.
		return next, nil
	}
	if err != nil {
		return nil, err
	}
	var others []*x509.Certificate
	for _, hook := range c.Webhooks {
		// What makes no sense is no authority of ours.
		bundle, _ := parseBundle(hook.ClientConfig.CABundle)
		others = append(others, bundle...)
	}
	return next.beside(others, now)
}

// replace serves with another authority's certificate, unless it is the same.
func (s *SelfSigned) replace(a *authority) {
	if a.same(s.current) {
		return
	}
	if s.current == nil || !bytes.Equal(a.bundle(), s.current.bundle()) {
		s.known = time.Time{}
	}
	if s.current == nil || !bytes.Equal(a.data[secretLeaf], s.current.data[secretLeaf]) {
		s.setCertificate(a.leaf)
		s.log.WithField("expires", a.leaf.Leaf.NotAfter).Info("Serving the webhook with this certificate")
	}
	s.current = a
}

func (s *SelfSigned) secretPath() string {
	return "/api/v1/namespaces/" + s.options.Namespace + "/secrets/" + s.options.Secret
}

// secret is a Secret, as far as it matters here.
type secret struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   metadata          `json:"metadata"`
	Type       string            `json:"type,omitempty"`
	Data       map[string][]byte `json:"data,omitempty"`
}

type metadata struct {
	Name            string `json:"name"`
	ResourceVersion string `json:"resourceVersion,omitempty"`
}

func (s *SelfSigned) newSecret(version string, data map[string][]byte) *secret {
	return &secret{
		APIVersion: "v1", Kind: "Secret", Type: "Opaque", Data: data,
		Metadata: metadata{Name: s.options.Secret, ResourceVersion: version},
	}
}

// read returns what the Secret holds and its version; nil where it holds
// nothing, or nothing that can be used. A Secret that is missing is made.
func (s *SelfSigned) read(ctx context.Context) (*authority, string, error) {
	var kept secret
	err := s.get(ctx, s.secretPath(), &kept)
	if apierrors.IsNotFound(err) {
		// It is made empty first: then the version tells two who make it apart.
		err = s.apply(ctx, s.secretPath(), makerManager, s.newSecret("", nil), &kept)
	}
	if err != nil {
		return nil, "", s.explain(err, "secrets", "", s.options.Secret)
	}
	if len(kept.Data) == 0 && isOpaque(kept.Type) {
		return nil, kept.Metadata.ResourceVersion, nil
	}
	if !isOpaque(kept.Type) || !isOurs(kept.Data) {
		return nil, "", fmt.Errorf("keep the webhook's certificate: Secret %q in namespace %q holds something of somebody else's: "+
			"delete it, or name another by LABELSTREAM_WEBHOOK_SECRET", s.options.Secret, s.options.Namespace)
	}
	a, err := parseAuthority(kept.Data)
	if err != nil {
		s.log.WithError(err).WithField("secret", s.options.Namespace+"/"+s.options.Secret).
			Warn("The Secret of the webhook's certificate makes no sense; writing it anew")
		return nil, kept.Metadata.ResourceVersion, nil
	}
	return a, kept.Metadata.ResourceVersion, nil
}

// isOpaque tells whether a Secret's type is that of ours.
func isOpaque(kind string) bool { return kind == "" || kind == "Opaque" }

// keep writes the Secret, if it still has the version.
func (s *SelfSigned) keep(ctx context.Context, a *authority, version string) error {
	err := s.apply(ctx, s.secretPath(), fieldManager, s.newSecret(version, a.data), nil)
	return s.explain(err, "secrets", "", s.options.Secret)
}

// configuration is a ValidatingWebhookConfiguration, as far as it matters here:
// what is not in it is left alone by an apply.
type configuration struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   metadata `json:"metadata"`
	Webhooks   []hook   `json:"webhooks"`
}

type hook struct {
	Name         string       `json:"name"`
	ClientConfig clientConfig `json:"clientConfig"`
}

type clientConfig struct {
	CABundle []byte `json:"caBundle"`
}

func (s *SelfSigned) configurationPath() string {
	return "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/" + s.options.Configuration
}

// configuration is that of the webhook as the API server has it.
func (s *SelfSigned) configuration(ctx context.Context) (*configuration, error) {
	var c configuration
	err := s.get(ctx, s.configurationPath(), &c)
	return &c, s.explain(err, "validatingwebhookconfigurations", "admissionregistration.k8s.io", s.options.Configuration)
}

// publish has the API server trust what the current authority says.
func (s *SelfSigned) publish(ctx context.Context) error {
	c, err := s.configuration(ctx)
	if err != nil {
		return err
	}
	if len(c.Webhooks) == 0 {
		return fmt.Errorf("keep the webhook's certificate: ValidatingWebhookConfiguration %q has no webhooks", s.options.Configuration)
	}
	bundle, changed := s.current.bundle(), false
	for i := range c.Webhooks {
		hook := &c.Webhooks[i]
		changed = changed || !bytes.Equal(hook.ClientConfig.CABundle, bundle)
		hook.ClientConfig.CABundle = bundle
	}
	if !changed {
		if s.known.IsZero() {
			s.known = s.now()
		}
		return nil
	}
	s.known = time.Time{}
	c.APIVersion, c.Kind = "admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"
	if err := s.apply(ctx, s.configurationPath(), fieldManager, c, nil); err != nil {
		return s.explain(err, "validatingwebhookconfigurations", "admissionregistration.k8s.io", s.options.Configuration)
	}
	s.known = s.now()
	s.log.WithField("configuration", s.options.Configuration).Info("The API server has been told to trust the webhook's certificate")
	return nil
}

func (s *SelfSigned) get(ctx context.Context, path string, into any) error {
	return decode(s.client.Get().AbsPath(path).Timeout(requestTimeout).Do(ctx), into)
}

// apply writes by server-side apply; into may be nil.
func (s *SelfSigned) apply(ctx context.Context, path, manager string, object, into any) error {
	text, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return decode(s.client.Patch(types.ApplyPatchType).AbsPath(path).Timeout(requestTimeout).
		Param("fieldManager", manager).Param("force", "true").Body(text).Do(ctx), into)
}

func decode(result rest.Result, into any) error {
	// Only this error has what the server says.
	if err := result.Error(); err != nil || into == nil {
		return err
	}
	body, err := result.Raw()
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// explain says what to do about an error.
func (s *SelfSigned) explain(err error, resource, group, name string) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsForbidden(err):
		verbs := `"get" and "patch"`
		if resource == "secrets" {
			verbs = `"get", "create" and "patch"`
		}
		return fmt.Errorf("keep the webhook's certificate: grant the verbs %s on resource %q in API group %q, resource name %q: %w",
			verbs, resource, group, name, err)
	}
	return fmt.Errorf("keep the webhook's certificate: %s %q: %w", resource, name, err)
}
