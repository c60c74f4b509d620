// Package synthetic is an API server for reading object metadata at sizes that
// a real one cannot hold on one machine. It computes every object from its
// index when a page is written, so a million pods cost it nothing but the
// copying of bytes.
//
// It answers discovery, lists of pods, Deployments and namespaces with limit,
// continue, resourceVersion and resourceVersionMatch, and watches, as metadata in
// protobuf or JSON, in the very bytes that apimachinery's serializers write.
package synthetic

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Profile is what the labels and annotations of the pods are like.
type Profile string

const (
	// Alike pods have the labels of a chart's Deployments: neighbours have the
	// same keys, and mostly the same values.
	Alike Profile = "alike"
	// Mixed pods come from operators, charts, workflows, Jobs and nobody:
	// neighbours have hardly a key in common, and half of the values are unique.
	Mixed Profile = "mixed"
)

// Options say what a server holds.
type Options struct {
	// Pods is the number of pods, at most a billion less the namespaces.
	Pods int
	// Profile is Alike unless it is said.
	Profile Profile
	// Deployments is the number of Deployments, which look like alike pods.
	Deployments int
	// Namespaces is the number of namespaces, at most 1,000; 0 means 300.
	Namespaces int
	// AnnotationBytes is how many bytes of further annotations each pod has,
	// keys included.
	AnnotationBytes int
	// JSONOnly makes the server one that does not speak protobuf.
	JSONOnly bool
}

// Server is the API server, an [http.Handler]. What happens to its objects is
// asked for by POST: /synthetic/await, /synthetic/replace, /synthetic/expire and
// /synthetic/events, see [Server.Await], [Server.Replace], [Server.Expire] and
// [Server.Tell].
type Server struct {
	options Options
	mux     *http.ServeMux
	pods    *resourceKind
	history history
}

// shape makes the metadata of an object from what it does not share with others.
type shape func(v *values) metav1.ObjectMeta

// resourceKind is a resource that the server has, and its objects.
type resourceKind struct {
	schema.GroupVersion
	metav1.APIResource
	collection collection
	shapes     []shape
	templates  map[encoding][]*template // by shape
}

// New builds a server. It computes the templates of all objects, some
// megabytes where annotations are large. It fails on numbers that the objects'
// names and versions have no digits for.
func New(options Options) (*Server, error) {
	options.Namespaces = cmp.Or(options.Namespaces, 300)
	options.Profile = cmp.Or(options.Profile, Alike)
	if options.Namespaces < 1 || options.Namespaces > 1000 {
		return nil, fmt.Errorf("synthetic server of %d namespaces: give 1 to 1000", options.Namespaces)
	}
	for _, n := range []int{options.Pods, options.Deployments} {
		if most := listVersion - firstVersion - options.Namespaces; n < 0 || n > most {
			return nil, fmt.Errorf("synthetic server of %d objects: give 0 to %d", n, most)
		}
	}
	if options.Profile != Alike && options.Profile != Mixed {
		return nil, fmt.Errorf("synthetic server with the profile %q: give %s or %s", options.Profile, Alike, Mixed)
	}
	kinds := newKinds(options)
	for _, kind := range kinds {
		if err := kind.addTemplates(); err != nil {
			return nil, err
		}
	}
	s := &Server{options: options, mux: http.NewServeMux(), pods: kinds[1], history: newHistory()}
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

// newKinds lists what the server has: namespaces, pods, and Deployments, so there
// is an API group besides the core.
func newKinds(options Options) []*resourceKind {
	all := namespaces(options.Namespaces)
	core, apps := schema.GroupVersion{Version: "v1"}, schema.GroupVersion{Group: "apps", Version: "v1"}
	resource := func(name, singular, kind string, namespaced bool) metav1.APIResource {
		return metav1.APIResource{Name: name, SingularName: singular, Kind: kind, Namespaced: namespaced, Verbs: metav1.Verbs{"get", "list", "watch"}}
	}
	alike := alikeShapes(options.AnnotationBytes)
	podShapes := alike
	if options.Profile == Mixed {
		podShapes = nil
		for number := range mixedShapes {
			set := newMixedShape(number)
			podShapes = append(podShapes, func(v *values) metav1.ObjectMeta { return set.meta(v, options.AnnotationBytes) })
		}
	}
	return []*resourceKind{
		{GroupVersion: core, APIResource: resource("namespaces", "namespace", "Namespace", false), collection: all, shapes: []shape{namespaceMeta}},
		{
			GroupVersion: core, APIResource: resource("pods", "pod", "Pod", true), shapes: podShapes,
			collection: pods{count: options.Pods, namespaces: all, mixed: options.Profile == Mixed},
		},
		{
			GroupVersion: apps, APIResource: resource("deployments", "deployment", "Deployment", true), shapes: alike,
			collection: pods{count: options.Deployments, namespaces: all},
		},
	}
}

func alikeShapes(annotationBytes int) []shape {
	var all []shape
	for w := range workloads {
		all = append(all, func(v *values) metav1.ObjectMeta { return podMeta(w, v, annotationBytes) })
	}
	return all
}

func (k *resourceKind) addTemplates() error {
	k.templates = map[encoding][]*template{}
	for _, form := range []encoding{inProtobuf, inJSON} {
		for _, shape := range k.shapes {
			t, err := newTemplate(partial(shape(markers())), form == inJSON)
			if err != nil {
				return err
			}
			k.templates[form] = append(k.templates[form], t)
		}
	}
	return nil
}

// path is where the resources of the kind's group and version are.
func (k *resourceKind) path() string {
	if k.GroupVersion.Group == "" {
		return "/api/" + k.GroupVersion.Version
	}
	return "/apis/" + k.GroupVersion.String()
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// serve answers a list or a watch of one kind.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, kind *resourceKind) {
	form, err := negotiate(r.Header.Get("Accept"), s.options.JSONOnly)
	if err != nil {
		s.fail(w, r, apierrors.NewGenericServerResponse(http.StatusNotAcceptable, r.Method, schema.GroupResource{}, "", err.Error(), 0, true))
		return
	}
	if watch := r.URL.Query().Get("watch"); watch == "true" || watch == "1" {
		s.watch(w, r, form, kind)
		return
	}
	collection, version := s.history.at(kind.collection)
	p, err := s.page(r, collection, version)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", string(form))
	items := itemWriter{collection, kind.templates[form], p}
	write := items.writeProtobuf
	if form == inJSON {
		write = items.writeJSON
	}
	if err := write(w); err != nil {
		// Only cutting the connection tells the client that this is not all.
		panic(http.ErrAbortHandler)
	}
}

// page finds what a list is answered with.
func (s *Server) page(r *http.Request, c collection, version int64) (page, error) {
	request, err := parseListRequest(r.URL.Query())
	if err != nil {
		return page{}, err
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
	form, _ := negotiate(r.Header.Get("Accept"), s.options.JSONOnly)
	w.Header().Set("Content-Type", string(form))
	w.WriteHeader(int(status.Code))
	// The status line has been sent: a failure now is the client's to notice.
	if form == inJSON {
		_ = json.NewEncoder(w).Encode(&status)
		return
	}
	_ = protobuf.NewSerializer(nil, nil).Encode(&status, w)
}

// WriteKubeconfig writes a kubeconfig with which clients reach the server at
// url, trusting the certificates in PEM if there are any.
func WriteKubeconfig(file, url string, trusted []byte) error {
	config := clientcmdapi.NewConfig()
	config.Clusters["synthetic"] = &clientcmdapi.Cluster{Server: url, CertificateAuthorityData: trusted}
	config.AuthInfos["synthetic"] = &clientcmdapi.AuthInfo{}
	config.Contexts["synthetic"] = &clientcmdapi.Context{Cluster: "synthetic", AuthInfo: "synthetic"}
	config.CurrentContext = "synthetic"
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		return fmt.Errorf("write the synthetic server's kubeconfig: %w", err)
	}
	return nil
}
