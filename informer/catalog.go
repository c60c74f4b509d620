// SPDX-License-Identifier: Apache-2.0

// Package informer reads the metadata of a cluster's objects through shared
// informers whose lists are streamed, so that no list is ever held in memory.
package informer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes/scheme"

	"labelstream/config"
	"labelstream/record"
	"labelstream/status/outage"
)

// Kind is a resource that is read, and how its objects appear in series.
type Kind struct {
	record.Kind
	GVR schema.GroupVersionResource
	// GVK is the kind that the server serves the resource as.
	GVK schema.GroupVersionKind
	// Watchable says that the server lets the resource be watched.
	Watchable bool
	// Selector is a label selector that is valid; where it is "", all objects are read.
	Selector string
}

// Scope limits a list to a namespace or to one object; empty fields mean all.
type Scope struct{ Namespace, Name string }

// String is the namespace that the scope is about.
func (s Scope) String() string { return s.Namespace + s.Name }

// maxScopes is how many namespaces are read one by one. Each takes about 100 KiB
// of memory for a kind; more of them are read by one list of all namespaces.
const maxScopes = 100

// Scopes are where objects of the kind are read if these namespaces are chosen,
// each by a request of its own; none chosen means all, and so do more than 100.
func (k *Kind) Scopes(chosen []string) []Scope {
	if len(chosen) == 0 || len(chosen) > maxScopes || !k.Namespaced && k.NameLabel != namespaceLabel {
		return []Scope{{}}
	}
	scopes := make([]Scope, len(chosen))
	for i, namespace := range chosen {
		if k.Namespaced {
			scopes[i].Namespace = namespace
		} else {
			scopes[i].Name = namespace
		}
	}
	return scopes
}

// Catalog is what a server serves, in each group's preferred version.
type Catalog struct {
	resources map[schema.GroupResource]resourceInfo
	// failed are the groups that could not be discovered.
	failed map[string]error
	// mustWatch says that a resource that is named must be watchable.
	mustWatch bool
}

type resourceInfo struct {
	metav1.APIResource
	version string
}

func (r *resourceInfo) can(verb string) bool { return slices.Contains(r.Verbs, verb) }

// canFollow reports whether the resource can be read in every way. Only then is it
// part of a group, or proposed.
func (r *resourceInfo) canFollow() bool { return r.can("list") && r.can("watch") }

// isCalled reports whether a name means the resource: its plural, singular, kind or
// a short name, in any case. The singular is guessed where only the plural is known.
func (r *resourceInfo) isCalled(name string) bool {
	plural, _ := meta.UnsafeGuessKindToResource(schema.GroupVersionKind{Kind: name})
	names := slices.Concat([]string{r.Name, r.SingularName, r.Kind}, r.ShortNames)
	return plural.Resource == r.Name || slices.ContainsFunc(names, func(own string) bool { return strings.EqualFold(own, name) })
}

// errNotWatchable is final: no server changes what it lets be watched.
var errNotWatchable = outage.WithHint(errors.New("the server does not let this resource be watched"),
	"LABELSTREAM_CHANGES=none lists it at each resync instead; or leave it out")

// NewCatalog makes a catalog of what discovery answered. A group that could not be
// discovered matters only when one of its resources is asked for; any other
// error is returned.
func NewCatalog(lists []*metav1.APIResourceList, err error) (*Catalog, error) {
	c := &Catalog{resources: make(map[schema.GroupResource]resourceInfo), failed: make(map[string]error)}
	if partial, ok := errors.AsType[*discovery.ErrGroupDiscoveryFailed](err); ok {
		for gv, err := range partial.Groups {
			c.failed[gv.Group] = hintForbidden(err)
		}
	} else if err != nil {
		return nil, hintForbidden(err)
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

// hintForbidden says what to grant where discovery itself is not allowed.
func hintForbidden(err error) error {
	if !apierrors.IsForbidden(err) {
		return err
	}
	return outage.WithHint(err, "grant the verb get on the nonResourceURLs /api, /api/*, /apis and /apis/*, as the ClusterRole system:discovery does")
}

func (c *Catalog) add(gv schema.GroupVersion, resource metav1.APIResource) {
	if strings.Contains(resource.Name, "/") {
		return
	}
	gr := schema.GroupResource{Group: gv.Group, Resource: resource.Name}
	if _, known := c.resources[gr]; !known {
		c.resources[gr] = resourceInfo{APIResource: resource, version: gv.Version}
	}
}

// Kinds resolves the resources that the settings name. Each that cannot be resolved
// is an error that names the variable. The other kinds are returned all the same.
func (c *Catalog) Kinds(cfg *config.Config) ([]*Kind, []error) {
	var kinds []*Kind
	var errs []error
	resolve := func(source *config.LabelSource, variable string, mark func(*record.Kind)) {
		if !source.Enabled {
			return
		}
		for _, item := range source.Resources {
			name, selector := config.SplitResource(item)
			resources, err := c.resolve(name)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %q: %w", variable, name, err))
			}
			for _, gr := range resources {
				k := c.kind(gr, &kinds, cfg.Series)
				if k.HasSeries() && k.Selector != selector {
					errs = append(errs, fmt.Errorf("%s: %q: %s is selected in another way, too; want one selector for it, also in the other setting of resources", variable, item, gr))
				}
				k.Selector = selector
				mark(&k.Kind)
			}
		}
	}
	resolve(&cfg.Labels, "LABELSTREAM_LABELS_RESOURCES", func(k *record.Kind) {
		k.Labels = true
		k.Owners = cfg.OwnerLabels && cfg.Series == config.FormKubeStateMetrics && slices.Contains(withOwners, k.Resource)
	})
	resolve(&cfg.Annotations, "LABELSTREAM_ANNOTATIONS_RESOURCES", func(k *record.Kind) { k.Annotations = true })
	if _, ok := c.resources[namespacesResource]; ok && cfg.ReadsNamespaces() {
		c.kind(namespacesResource, &kinds, cfg.Series)
	}
	return kinds, errs
}

// chosenNames are the resources as the settings name them.
func chosenNames(cfg *config.Config) []string {
	var names []string
	for _, source := range []*config.LabelSource{&cfg.Labels, &cfg.Annotations} {
		if source.Enabled {
			for _, item := range source.Resources {
				name, _ := config.SplitResource(item)
				names = append(names, name)
			}
		}
	}
	return names
}

// isWholeGroup reports whether a name stands for all resources of a group.
func isWholeGroup(name string) bool { return strings.HasPrefix(name, "*.") }

// kind returns the kind of a served resource, from kinds or added to it.
func (c *Catalog) kind(gr schema.GroupResource, kinds *[]*Kind, form config.Form) *Kind {
	for _, k := range *kinds {
		if k.GVR.GroupResource() == gr {
			return k
		}
	}
	resource := c.resources[gr]
	k := &Kind{
		Kind:      naming(gr, &resource.APIResource, form),
		GVR:       gr.WithVersion(resource.version),
		GVK:       schema.GroupVersionKind{Group: gr.Group, Version: resource.version, Kind: resource.Kind},
		Watchable: resource.can("watch"),
	}
	*kinds = append(*kinds, k)
	return k
}

// resolve finds the resources that a name stands for: "pods", "deployments.apps"
// or "*.apps".
func (c *Catalog) resolve(name string) ([]schema.GroupResource, error) {
	plural, group, hasGroup := strings.Cut(name, ".")
	switch {
	case isWholeGroup(name):
		return c.wholeGroup(group)
	case hasGroup:
		return c.qualified(schema.GroupResource{Group: group, Resource: plural})
	default:
		return c.unqualified(plural)
	}
}

func (c *Catalog) qualified(gr schema.GroupResource) ([]schema.GroupResource, error) {
	resource, ok := c.resources[gr]
	switch {
	case !ok:
		text := "the server has no such resource"
		if meant := c.meant(gr); len(meant) > 0 {
			text = "no such resource; write " + strings.Join(meant, " or ")
		}
		return nil, c.absent(gr.Group, text)
	case !resource.can("list"):
		return nil, errors.New("the server does not let this resource be listed")
	case c.mustWatch && !resource.can("watch"):
		return nil, errNotWatchable
	}
	return []schema.GroupResource{gr}, nil
}

// meant returns the full names, in quotes, of the resources that a name may mean.
func (c *Catalog) meant(name schema.GroupResource) []string {
	var full []string
	for gr, resource := range c.resources {
		if (name.Group == "" || name.Group == gr.Group) && resource.isCalled(name.Resource) && resource.canFollow() {
			full = append(full, strconv.Quote(gr.String()))
		}
	}
	slices.Sort(full)
	return full
}

// unqualified finds a plural without a group in one of the groups that client-go
// has types for: that of wellKnown, or else the first, which is core. Any other
// group must be named: two of them may use the same plural.
func (c *Catalog) unqualified(plural string) ([]schema.GroupResource, error) {
	var own []string
	for gr := range c.resources {
		if gr.Resource == plural && scheme.Scheme.IsGroupRegistered(gr.Group) {
			own = append(own, gr.Group)
		}
	}
	for _, k := range wellKnown {
		if k.plural == plural && slices.Contains(own, k.group) {
			return c.qualified(schema.GroupResource{Group: k.group, Resource: plural})
		}
	}
	if len(own) > 0 {
		return c.qualified(schema.GroupResource{Group: slices.Min(own), Resource: plural})
	}
	// Any of Kubernetes' own groups that is not known might have it.
	for _, group := range slices.Sorted(maps.Keys(c.failed)) {
		if scheme.Scheme.IsGroupRegistered(group) {
			return c.qualified(schema.GroupResource{Group: group, Resource: plural})
		}
	}
	return c.qualified(schema.GroupResource{Resource: plural})
}

func (c *Catalog) wholeGroup(group string) ([]schema.GroupResource, error) {
	var found []schema.GroupResource
	for gr, resource := range c.resources {
		if gr.Group == group && resource.canFollow() {
			found = append(found, gr)
		}
	}
	slices.SortFunc(found, func(a, b schema.GroupResource) int { return strings.Compare(a.Resource, b.Resource) })
	if len(found) == 0 {
		return nil, c.absent(group, "the server has no such group with resources to list and watch")
	}
	return found, nil
}

// absent is the error for what of a group is not in the catalog.
func (c *Catalog) absent(group, text string) error {
	if err := c.failed[group]; err != nil {
		return fmt.Errorf("the server could not say what the group %q serves: %w", group, err)
	}
	return outage.WithHint(errors.New(text), "kubectl api-resources lists what the server has; "+
		"keys of labels go to LABELSTREAM_LABELS_FILTERS, those of annotations to LABELSTREAM_ANNOTATIONS_FILTERS")
}
