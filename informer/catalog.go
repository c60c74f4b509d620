// Package informer reads the metadata of a cluster's objects through shared
// informers whose lists are streamed, so that no list is ever held in memory.
package informer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes/scheme"

	"labelstream/config"
	"labelstream/record"
)

// Kind is a resource that is read, and how its objects appear in series.
type Kind struct {
	record.Kind
	GVR schema.GroupVersionResource
	// GVK is the kind that the server serves the resource as.
	GVK schema.GroupVersionKind
}

// wellKnown are the kinds that have a name without their group, as the
// backends know them.
var wellKnown = []struct{ group, plural, name, nameLabel string }{
	{"", "pods", "pod", "pod"},
	{"", "namespaces", "namespace", "namespace"},
	{"", "nodes", "node", "node"},
	{"", "persistentvolumes", "pv", workloadLabel},
	{"", "persistentvolumeclaims", "pvc", workloadLabel},
	{"apps", "deployments", "deployment", workloadLabel},
	{"apps", "statefulsets", "statefulset", workloadLabel},
	{"apps", "daemonsets", "daemonset", workloadLabel},
	{"apps", "replicasets", "replicaset", workloadLabel},
	{"batch", "jobs", "job", workloadLabel},
	{"batch", "cronjobs", "cronjob", workloadLabel},
	{"networking.k8s.io", "ingresses", "ingress", workloadLabel},
	{"storage.k8s.io", "storageclasses", "storageclass", workloadLabel},
	{"apiextensions.k8s.io", "customresourcedefinitions", "crd", workloadLabel},
}

const workloadLabel = "workload"

// namespaces is the one kind whose objects are the namespaces that NAMESPACES
// names.
var namespaces = schema.GroupResource{Resource: "namespaces"}

// Catalog is what a server serves, in each group's preferred version.
type Catalog struct {
	resources map[schema.GroupResource]served
	groups    []string
	failed    map[string]error
}

type served struct {
	metav1.APIResource
	version string
}

// NewCatalog takes what discovery answered. A group that could not be
// discovered matters only when one of its resources is asked for; any other
// error is returned.
func NewCatalog(lists []*metav1.APIResourceList, err error) (*Catalog, error) {
	c := &Catalog{resources: make(map[schema.GroupResource]served), failed: make(map[string]error)}
	var partial *discovery.ErrGroupDiscoveryFailed
	switch {
	case errors.As(err, &partial):
		for gv, err := range partial.Groups {
			c.failed[gv.Group] = err
		}
	case err != nil:
		return nil, err
	}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
		for _, resource := range list.APIResources {
			c.add(gv, resource)
		}
	}
	return c, nil
}

func (c *Catalog) add(gv schema.GroupVersion, resource metav1.APIResource) {
	if strings.Contains(resource.Name, "/") {
		return
	}
	gr := schema.GroupResource{Group: gv.Group, Resource: resource.Name}
	if _, known := c.resources[gr]; !known {
		c.resources[gr] = served{APIResource: resource, version: gv.Version}
	}
	if !slices.Contains(c.groups, gv.Group) {
		c.groups = append(c.groups, gv.Group)
	}
}

// Kinds resolves the resources that the settings name. What it cannot resolve
// is an error each, which names the variable; the kinds it can are returned
// all the same.
func (c *Catalog) Kinds(cfg *config.Config) ([]*Kind, []error) {
	var kinds []*Kind
	var errs []error
	resolve := func(tags *config.Tags, variable string, mark func(*record.Kind)) {
		if !tags.Enabled {
			return
		}
		for _, name := range tags.Resources {
			resources, err := c.resolve(name)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %q: %w", variable, name, err))
			}
			for _, gr := range resources {
				mark(&c.kind(gr, &kinds).Kind)
			}
		}
	}
	resolve(&cfg.Labels, "LABELSTREAM_LABELS_RESOURCES", func(k *record.Kind) { k.Labels = true })
	resolve(&cfg.Annotations, "LABELSTREAM_ANNOTATIONS_RESOURCES", func(k *record.Kind) { k.Annotations = true })
	return kinds, errs
}

// chosenNames are the resources as the settings name them, of what is enabled.
func chosenNames(cfg *config.Config) []string {
	var names []string
	for _, tags := range []*config.Tags{&cfg.Labels, &cfg.Annotations} {
		if tags.Enabled {
			names = append(names, tags.Resources...)
		}
	}
	return names
}

// isWholeGroup tells whether a name stands for all resources of a group.
func isWholeGroup(name string) bool { return strings.HasPrefix(name, "*.") }

// kind returns the kind of a served resource, from kinds or added to it.
func (c *Catalog) kind(gr schema.GroupResource, kinds *[]*Kind) *Kind {
	for _, k := range *kinds {
		if k.GVR.GroupResource() == gr {
			return k
		}
	}
	resource := c.resources[gr]
	k := &Kind{
		Kind: naming(gr, &resource.APIResource),
		GVR:  gr.WithVersion(resource.version),
		GVK:  schema.GroupVersionKind{Group: gr.Group, Version: resource.version, Kind: resource.Kind},
	}
	*kinds = append(*kinds, k)
	return k
}

// naming names a kind in series: the well-known and core ones by their
// singular, any other with its group too, since a Knative service is no core
// service.
func naming(gr schema.GroupResource, resource *metav1.APIResource) record.Kind {
	kind := record.Kind{Resource: gr.String(), Namespaced: resource.Namespaced, NameLabel: workloadLabel}
	for _, k := range wellKnown {
		if k.group == gr.Group && k.plural == gr.Resource {
			kind.Type, kind.Metric, kind.NameLabel = k.name, k.name, k.nameLabel
			return kind
		}
	}
	singular := resource.SingularName
	if singular == "" {
		singular = strings.ToLower(resource.Kind)
	}
	kind.Type, kind.Metric = singular, singular
	if gr.Group != "" {
		kind.Type, kind.Metric = singular+"."+gr.Group, singular+"_"+gr.Group
	}
	return kind
}

// resolve finds the resources that a name stands for: "pods", "deployments.apps"
// or "*.apps".
func (c *Catalog) resolve(name string) ([]schema.GroupResource, error) {
	plural, group, qualified := strings.Cut(name, ".")
	switch {
	case isWholeGroup(name):
		return c.wholeGroup(group)
	case qualified:
		return c.single(schema.GroupResource{Group: group, Resource: plural})
	default:
		return c.bare(plural)
	}
}

func (c *Catalog) single(gr schema.GroupResource) ([]schema.GroupResource, error) {
	resource, ok := c.resources[gr]
	switch {
	case !ok && c.failed[gr.Group] != nil:
		return nil, fmt.Errorf("the server could not say what the group %q serves: %w", gr.Group, c.failed[gr.Group])
	case !ok:
		return nil, errors.New("the server has no such resource; kubectl api-resources lists what it has")
	case !slices.Contains(resource.Verbs, "list"):
		return nil, errors.New("the server does not let this resource be listed")
	}
	return []schema.GroupResource{gr}, nil
}

// bare finds a plural without a group: in core, then in the groups that
// client-go has types for, those of wellKnown first. Any other group must be
// named: two of them may use the same plural.
func (c *Catalog) bare(plural string) ([]schema.GroupResource, error) {
	groups := []string{""}
	for _, k := range wellKnown {
		if k.plural == plural {
			groups = append(groups, k.group)
		}
	}
	groups = append(groups, c.groups...)
	for _, group := range groups {
		gr := schema.GroupResource{Group: group, Resource: plural}
		if _, ok := c.resources[gr]; ok && scheme.Scheme.IsGroupRegistered(group) {
			return c.single(gr)
		}
	}
	var others []string
	for gr := range c.resources {
		if gr.Resource == plural {
			others = append(others, gr.String())
		}
	}
	if len(others) > 0 {
		return nil, fmt.Errorf("a resource outside Kubernetes' own groups is named with its group, such as %q", slices.Min(others))
	}
	// Any of Kubernetes' own groups that is not known might have it.
	for _, group := range slices.Sorted(maps.Keys(c.failed)) {
		if scheme.Scheme.IsGroupRegistered(group) {
			return c.single(schema.GroupResource{Group: group, Resource: plural})
		}
	}
	return c.single(schema.GroupResource{Resource: plural})
}

func (c *Catalog) wholeGroup(group string) ([]schema.GroupResource, error) {
	var found []schema.GroupResource
	for gr, resource := range c.resources {
		if gr.Group == group && slices.Contains(resource.Verbs, "list") && slices.Contains(resource.Verbs, "watch") {
			found = append(found, gr)
		}
	}
	slices.SortFunc(found, func(a, b schema.GroupResource) int { return strings.Compare(a.Resource, b.Resource) })
	switch {
	case len(found) > 0:
		return found, nil
	case c.failed[group] != nil:
		return nil, fmt.Errorf("the server could not say what the group %q serves: %w", group, c.failed[group])
	default:
		return nil, errors.New("the server has no such group with resources to list; kubectl api-resources lists what it has")
	}
}
