// SPDX-License-Identifier: Apache-2.0

package synthetic

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// Cluster is an API server, an [http.Handler], for a few objects and any number of
// clients. It answers /version, discovery, server-side apply, delete, and lists and
// watches of metadata. It keeps metadata and everything that has happened, allows
// everyone everything, and ignores the limit of a list, as an API server may.
type Cluster struct {
	mux *http.ServeMux

	mu sync.Mutex
	// kinds are sorted by group.
	kinds []*kind
	// events are all since the start. So the version of the cluster is their number,
	// and what it has follows from them.
	events []event
	// changed is closed by the next event.
	changed chan struct{}
}

type kind struct {
	schema.GroupVersionKind
	plural     string
	namespaced bool
}

type event struct {
	of     watch.EventType
	kind   *kind
	object *metav1.PartialObjectMetadata
}

// clusterVersion is what an empty cluster's lists say: 0 would mean any version.
const clusterVersion = 1000

const customResources = "customresourcedefinitions"

// NewCluster returns a cluster without objects. It has the kinds that examples/
// uses; others come with their custom resource definitions.
func NewCluster() *Cluster {
	c := &Cluster{mux: http.NewServeMux(), changed: make(chan struct{})}
	for _, k := range []kind{
		{schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}, "namespaces", false},
		{schema.GroupVersionKind{Version: "v1", Kind: "Node"}, "nodes", false},
		{schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, "pods", true},
		{schema.GroupVersionKind{Version: "v1", Kind: "Service"}, "services", true},
		{schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}, customResources, false},
		{schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, "deployments", true},
		{schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "CronJob"}, "cronjobs", true},
		{schema.GroupVersionKind{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole"}, "clusterroles", false},
		{schema.GroupVersionKind{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRoleBinding"}, "clusterrolebindings", false},
	} {
		c.kinds = append(c.kinds, &k)
	}
	for pattern, body := range map[string]string{
		"GET /version": `{"major":"0","minor":"0","gitVersion":"v0.0.0-synthetic"}`,
		"POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews": `{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","status":{"allowed":true}}`,
	} {
		c.mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", string(inJSON))
			_, _ = io.WriteString(w, body)
		})
	}
	c.mux.HandleFunc("GET /api", func(w http.ResponseWriter, _ *http.Request) { c.discover(w, true) })
	c.mux.HandleFunc("GET /apis", func(w http.ResponseWriter, _ *http.Request) { c.discover(w, false) })
	c.mux.HandleFunc("/api/{version}/{path...}", c.serve)
	c.mux.HandleFunc("/apis/{group}/{version}/{path...}", c.serve)
	return c
}

// ServeHTTP answers one request.
func (c *Cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.mux.ServeHTTP(w, r) }

// discover tells which resources the core group has, or all others.
func (c *Cluster) discover(w http.ResponseWriter, core bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := apidiscoveryv2.APIGroupDiscoveryList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: "apidiscovery.k8s.io/v2"}}
	for _, k := range c.kinds {
		if (k.Group == "") != core {
			continue
		}
		resource := apidiscoveryv2.APIResourceDiscovery{
			Resource: k.plural, Scope: apidiscoveryv2.ScopeCluster, Verbs: []string{"delete", "list", "patch", "watch"},
			ResponseKind: &metav1.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: k.Kind},
		}
		if k.namespaced {
			resource.Scope = apidiscoveryv2.ScopeNamespace
		}
		version := apidiscoveryv2.APIVersionDiscovery{Version: k.Version, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent}
		if n := len(list.Items); n > 0 && list.Items[n-1].Name == k.Group {
			version.Resources = list.Items[n-1].Versions[0].Resources
			list.Items = list.Items[:n-1]
		}
		version.Resources = append(version.Resources, resource)
		list.Items = append(list.Items, apidiscoveryv2.APIGroupDiscovery{
			ObjectMeta: metav1.ObjectMeta{Name: k.Group}, Versions: []apidiscoveryv2.APIVersionDiscovery{version},
		})
	}
	answer(w, inJSON+";g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", list)
}

// answer writes an object as JSON. A client that has left is not told.
func answer(w http.ResponseWriter, contentType encoding, object any) {
	w.Header().Set("Content-Type", string(contentType))
	_ = json.NewEncoder(w).Encode(object)
}

// target is what the path of a request is about; the name is empty where it is all
// objects.
type target struct {
	*kind
	namespace, name string
}

func (c *Cluster) target(r *http.Request) (target, *apierrors.StatusError) {
	var t target
	segments := strings.Split(r.PathValue("path"), "/")
	if len(segments) > 2 && segments[0] == "namespaces" {
		t.namespace, segments = segments[1], segments[2:]
	}
	gvr := schema.GroupVersionResource{Group: r.PathValue("group"), Version: r.PathValue("version"), Resource: segments[0]}
	if len(segments) == 2 {
		t.name = segments[1]
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.kinds, func(k *kind) bool {
		return k.Group == gvr.Group && k.Version == gvr.Version && k.plural == gvr.Resource
	})
	if i < 0 || len(segments) > 2 {
		return t, apierrors.NewNotFound(gvr.GroupResource(), t.name)
	}
	t.kind = c.kinds[i]
	return t, nil
}

func (c *Cluster) serve(w http.ResponseWriter, r *http.Request) {
	t, refusal := c.target(r)
	if refusal == nil {
		switch {
		case r.Method == http.MethodPatch && t.name != "":
			refusal = c.apply(w, r, t)
		case r.Method == http.MethodDelete && t.name != "":
			refusal = c.delete(w, t)
		case r.Method == http.MethodGet && t.name == "":
			refusal = c.read(w, r, t)
		default:
			refusal = apierrors.NewMethodNotSupported(t.resource(), r.Method)
		}
	}
	if refusal != nil {
		fail(w, refusal)
	}
}

func (t *target) resource() schema.GroupResource {
	return schema.GroupResource{Group: t.Group, Resource: t.plural}
}

// apply creates an object or replaces it: all appliers count as one field manager.
func (c *Cluster) apply(w http.ResponseWriter, r *http.Request, t target) *apierrors.StatusError {
	object := partial(metav1.ObjectMeta{})
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, object)
	}
	if err == nil && (object.Name != t.name || object.Namespace != t.namespace) {
		err = fmt.Errorf("the path is of %s/%s, the object is %s/%s", t.namespace, t.name, object.Namespace, object.Name)
	}
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	object.TypeMeta = partial(metav1.ObjectMeta{}).TypeMeta
	c.mu.Lock()
	defer c.mu.Unlock()
	of := watch.Modified
	if before := c.present(t); len(before) > 0 {
		object.UID, object.CreationTimestamp = before[0].UID, before[0].CreationTimestamp
	} else {
		uid := make([]byte, widths[fieldUID])
		putUID(uid, uint64(c.version()))
		of, object.UID, object.CreationTimestamp = watch.Added, types.UID(uid), metav1.Now().Rfc3339Copy()
		if t.plural == customResources {
			if err := c.define(body); err != nil {
				return apierrors.NewBadRequest(err.Error())
			}
		}
	}
	c.record(of, t.kind, object)
	answer(w, inJSON, metav1.PartialObjectMetadata{
		TypeMeta: metav1.TypeMeta{APIVersion: t.GroupVersion().String(), Kind: t.Kind}, ObjectMeta: object.ObjectMeta,
	})
	return nil
}

// define serves the first version of a custom resource definition.
func (c *Cluster) define(body []byte) error {
	var crd struct {
		Spec struct {
			Group, Scope string
			Names        struct{ Plural, Kind string }
			Versions     []struct{ Name string }
		}
	}
	if err := json.Unmarshal(body, &crd); err != nil {
		return err
	}
	spec := &crd.Spec
	if len(spec.Versions) == 0 {
		return errors.New("the custom resource definition has no version")
	}
	c.kinds = append(c.kinds, &kind{
		GroupVersionKind: schema.GroupVersionKind{Group: spec.Group, Version: spec.Versions[0].Name, Kind: spec.Names.Kind},
		plural:           spec.Names.Plural, namespaced: spec.Scope == "Namespaced",
	})
	slices.SortStableFunc(c.kinds, func(a, b *kind) int { return cmp.Compare(a.Group, b.Group) })
	return nil
}

func (c *Cluster) delete(w http.ResponseWriter, t target) *apierrors.StatusError {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.present(t)
	if len(before) == 0 {
		return apierrors.NewNotFound(t.resource(), t.name)
	}
	c.record(watch.Deleted, t.kind, &before[0])
	answer(w, inJSON, metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusSuccess})
	return nil
}

// record adds an event. The mutex is held.
func (c *Cluster) record(of watch.EventType, k *kind, object *metav1.PartialObjectMetadata) {
	object.ResourceVersion = strconv.Itoa(c.version() + 1)
	c.events = append(c.events, event{of, k, object})
	close(c.changed)
	c.changed = make(chan struct{})
}

// version is that of the last event. The mutex is held.
func (c *Cluster) version() int { return clusterVersion + len(c.events) }

// present returns what there is of the target, by namespace and name. The mutex is
// held.
func (c *Cluster) present(t target) []metav1.PartialObjectMetadata {
	objects := map[types.NamespacedName]metav1.PartialObjectMetadata{}
	for _, e := range c.events {
		name := types.NamespacedName{Namespace: e.object.Namespace, Name: e.object.Name}
		switch {
		case !t.has(&e):
		case e.of == watch.Deleted:
			delete(objects, name)
		default:
			objects[name] = *e.object
		}
	}
	return slices.SortedFunc(maps.Values(objects), func(a, b metav1.PartialObjectMetadata) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
}

func (t *target) has(e *event) bool {
	return e.kind == t.kind && (t.namespace == "" || t.namespace == e.object.Namespace) && (t.name == "" || t.name == e.object.Name)
}

// read answers a list or a watch.
func (c *Cluster) read(w http.ResponseWriter, r *http.Request, t target) *apierrors.StatusError {
	form, err := negotiate(r.Header.Get("Accept"), false)
	if err != nil {
		return notAcceptable(r, err)
	}
	if r.URL.Query().Has("watch") {
		return c.watch(w, r, t, form)
	}
	list := &metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadataList"}}
	c.mu.Lock()
	list.ResourceVersion, list.Items = strconv.Itoa(c.version()), c.present(t)
	c.mu.Unlock()
	if form == inJSON {
		answer(w, inJSON, list)
		return nil
	}
	w.Header().Set("Content-Type", string(form))
	_ = protobuf.NewSerializer(nil, nil).Encode(list, w)
	return nil
}

// watch tells what happens to the target until the client leaves.
func (c *Cluster) watch(w http.ResponseWriter, r *http.Request, t target, form encoding) *apierrors.StatusError {
	from, err := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	c.mu.Lock()
	last := c.version()
	c.mu.Unlock()
	if err != nil || form != inProtobuf || from < clusterVersion || from > last {
		return apierrors.NewBadRequest(fmt.Sprintf("a watch begins at a list's resourceVersion here, and is in %s", inProtobuf))
	}
	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf+";stream=watch")
	for told := from - clusterVersion; ; {
		c.mu.Lock()
		events, changed := c.events[told:], c.changed
		c.mu.Unlock()
		for _, e := range events {
			if t.has(&e) && writeEvent(w, e.of, e.object) != nil {
				return nil
			}
		}
		told += len(events)
		if http.NewResponseController(w).Flush() != nil {
			return nil
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return nil
		}
	}
}
