package synthetic

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
)

// Options say what a server holds and how it misbehaves.
type Options struct {
	// Pods is the number of pods, at most a billion less the namespaces.
	Pods int
	// Deployments is the number of Deployments, which look like the pods.
	Deployments int
	// Namespaces is the number of namespaces, at most 1,000; 0 means 300.
	Namespaces int
	// AnnotationBytes is how many bytes of further annotations each pod has,
	// keys included.
	AnnotationBytes int
	// JSONOnly makes the server one that does not speak protobuf.
	JSONOnly bool
	// ExpireEvery answers every so many-th list with a continue token 410, with
	// a token that never expires; 0 means none.
	ExpireEvery int
	// ThrottleEvery answers every so many-th list 429, with Retry-After of one
	// second; 0 means none.
	ThrottleEvery int
	// Forbidden are resources, such as "pods", whose list and watch are
	// answered 403.
	Forbidden []string
}

// Server is the API server, an [http.Handler]. What happens to its objects is
// asked for by POST: /synthetic/replace, /synthetic/expire and
// /synthetic/events, see [Server.Replace], [Server.Expire] and [Server.Tell].
type Server struct {
	options   Options
	mux       *http.ServeMux
	continued atomic.Int64 // lists with a token
	lists     atomic.Int64
	history   history
}

// resourceKind is a resource that the server has, and its objects.
type resourceKind struct {
	schema.GroupVersion
	metav1.APIResource
	collection collection
	templates  map[form][]*template
}

// New builds a server. It computes the templates of all objects, some
// megabytes where annotations are large. It fails on numbers that the objects'
// names and versions have no digits for.
func New(options Options) (*Server, error) {
	options.Namespaces = cmp.Or(options.Namespaces, 300)
	if options.Namespaces < 1 || options.Namespaces > 1000 {
		return nil, fmt.Errorf("synthetic server of %d namespaces: give 1 to 1000", options.Namespaces)
	}
	for _, n := range []int{options.Pods, options.Deployments} {
		if most := listVersion - firstVersion - options.Namespaces; n < 0 || n > most {
			return nil, fmt.Errorf("synthetic server of %d objects: give 0 to %d", n, most)
		}
	}
	kinds, err := newKinds(options)
	if err != nil {
		return nil, err
	}
	s := &Server{options: options, mux: http.NewServeMux(), history: newHistory()}
	s.addDiscovery(kinds)
	s.addEvents()
	for _, kind := range kinds {
		handler := func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, kind) }
		s.mux.HandleFunc("GET "+kind.path()+"/"+kind.Name, handler)
		if kind.Namespaced {
			s.mux.HandleFunc("GET "+kind.path()+"/namespaces/{namespace}/"+kind.Name, handler)
		}
	}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, apierrors.NewGenericServerResponse(http.StatusNotFound, r.Method, schema.GroupResource{}, "", "", 0, true))
	})
	return s, nil
}

// newKinds lists what the server has: pods, namespaces, and Deployments, so that
// there is an API group besides the core.
func newKinds(options Options) ([]*resourceKind, error) {
	verbs := metav1.Verbs{"get", "list", "watch"}
	all := namespaces(options.Namespaces)
	core, apps := schema.GroupVersion{Version: "v1"}, schema.GroupVersion{Group: "apps", Version: "v1"}
	kinds := []*resourceKind{
		{core, metav1.APIResource{Name: "namespaces", SingularName: "namespace", Kind: "Namespace", ShortNames: []string{"ns"}, Verbs: verbs}, all, map[form][]*template{}},
		{core, metav1.APIResource{Name: "pods", SingularName: "pod", Kind: "Pod", Namespaced: true, ShortNames: []string{"po"}, Verbs: verbs}, pods{count: options.Pods, namespaces: all}, map[form][]*template{}},
		{apps, metav1.APIResource{Name: "deployments", SingularName: "deployment", Kind: "Deployment", Namespaced: true, ShortNames: []string{"deploy"}, Verbs: verbs}, pods{count: options.Deployments, namespaces: all}, map[form][]*template{}},
	}
	for _, f := range []form{{}, {json: true}, {full: true}, {json: true, full: true}} {
		whole, meta := namespace(markers()), partial(namespaceMeta(markers()))
		if err := kinds[0].addTemplate(f, whole, meta); err != nil {
			return nil, err
		}
		for w := range workloads {
			whole, meta := pod(w, markers(), options.AnnotationBytes), partial(podMeta(w, markers(), options.AnnotationBytes))
			if err := kinds[1].addTemplate(f, whole, meta); err != nil {
				return nil, err
			}
			if options.Deployments == 0 {
				continue
			}
			if err := kinds[2].addTemplate(f, &appsv1.Deployment{ObjectMeta: meta.ObjectMeta}, meta); err != nil {
				return nil, err
			}
		}
	}
	return kinds, nil
}

func (k *resourceKind) addTemplate(f form, whole, meta runtime.Object) error {
	object := meta
	if f.full {
		object = whole
	}
	t, err := newTemplate(object, f.json)
	if err != nil {
		return err
	}
	k.templates[f] = append(k.templates[f], t)
	return nil
}

// path is where the resources of the kind's group and version are.
func (k *resourceKind) path() string {
	if k.GroupVersion.Group == "" {
		return "/api/" + k.GroupVersion.Version
	}
	return "/apis/" + k.GroupVersion.String()
}

// listType is what a list of the kind is called in a form.
func (k *resourceKind) listType(f form) metav1.TypeMeta {
	if f.full {
		return metav1.TypeMeta{APIVersion: k.GroupVersion.String(), Kind: k.Kind + "List"}
	}
	return metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadataList"}
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// serve answers a list or a watch of one kind.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, kind *resourceKind) {
	f, err := negotiate(r.Header.Get("Accept"), s.options.JSONOnly)
	if err != nil {
		s.fail(w, r, apierrors.NewGenericServerResponse(http.StatusNotAcceptable, r.Method, schema.GroupResource{}, "", err.Error(), 0, true))
		return
	}
	query := r.URL.Query()
	watch := query.Get("watch") == "true" || query.Get("watch") == "1"
	if slices.Contains(s.options.Forbidden, kind.Name) {
		resource := schema.GroupResource{Group: kind.GroupVersion.Group, Resource: kind.Name}
		s.fail(w, r, apierrors.NewForbidden(resource, "", fmt.Errorf("user \"synthetic\" cannot read resource %q in API group %q", kind.Name, resource.Group)))
		return
	}
	if watch {
		s.watch(w, r, f, kind)
		return
	}
	collection, version := s.history.at(kind.collection)
	p, err := s.page(r, collection, version)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", f.contentType())
	items := itemWriter{collection, kind.templates[f], p}
	write := items.writeProtobuf
	if f.json {
		write = items.writeJSON
	}
	if err := write(w, kind.listType(f)); err != nil {
		// Only cutting the connection tells the client that this is not all.
		panic(http.ErrAbortHandler)
	}
}

// page finds what a list is answered with, or the fault that it meets.
func (s *Server) page(r *http.Request, c collection, version int64) (page, error) {
	request, err := parseListRequest(r.URL.Query())
	if err != nil {
		return page{}, err
	}
	if n := int64(s.options.ThrottleEvery); n > 0 && s.lists.Add(1)%n == 0 {
		return page{}, apierrors.NewTooManyRequests("too many requests, please try again later", 1)
	}
	if n := int64(s.options.ExpireEvery); n > 0 && request.start >= 0 && !request.inconsistent && s.continued.Add(1)%n == 0 {
		return page{}, request.expiredError()
	}
	if request.start >= 0 && !request.inconsistent && s.history.forgot(request.version) {
		return page{}, request.expiredError()
	}
	from, to := c.within(r.PathValue("namespace"))
	return request.page(from, to, version)
}

// fail answers with a Status, in the form that the client accepts, in JSON if
// it accepts none.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: err.Error()}
	if api, ok := err.(apierrors.APIStatus); ok {
		status = api.Status()
	}
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	f, err := negotiate(r.Header.Get("Accept"), s.options.JSONOnly)
	if err != nil {
		f.json = true
	}
	if status.Details != nil && status.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(status.Details.RetryAfterSeconds))
	}
	w.Header().Set("Content-Type", f.contentType())
	w.WriteHeader(int(status.Code))
	// The status line has been sent: a failure now is the client's to notice.
	if f.json {
		_ = json.NewEncoder(w).Encode(&status)
		return
	}
	_ = protobuf.NewSerializer(nil, nil).Encode(&status, w)
}
