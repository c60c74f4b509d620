// SPDX-License-Identifier: Apache-2.0

// Package synthetic has two API servers for object metadata. A Cluster holds a few
// objects that clients write. A Server has as many as a real one cannot hold on one
// machine: it computes every object from its index when a page is written, so a
// million pods cost it nothing but the copying of bytes.
//
// A Server answers discovery, lists of pods and Deployments with limit and continue, and
// watches of pods, as metadata in the very bytes that apimachinery's serializers
// write. Lists are in protobuf or JSON, watches in protobuf.
package synthetic

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
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
	// Pods is the number of pods, at most a billion.
	Pods int
	// Profile is Alike unless it is said.
	Profile Profile
	// Deployments is the number of Deployments, which look like alike pods.
	Deployments int
	// AnnotationBytes is how many bytes of further annotations each pod has,
	// keys included.
	AnnotationBytes int
	// Keys is how many further keys of labels there are. Each pod has one of them.
	Keys int
	// JSONOnly makes the server one that does not speak protobuf.
	JSONOnly bool
}

// Server is the API server, an [http.Handler], for one client. What happens to its
// pods is asked for by POST, and waits until a watch of pods tells the client:
//
//   - /synthetic/await: nothing happens.
//   - /synthetic/expire: the watch ends with 410, as if its version was forgotten.
//   - /synthetic/replace: other pods take the place of all, and the watch expires.
//   - /synthetic/events?type=MODIFIED&count=n: the first n pods get another version.
//   - /synthetic/events?type=ADDED&count=n: n pods that no list knows of are told.
type Server struct {
	options Options
	mux     *http.ServeMux
	pods    *resourceKind
	history history
}

// shape makes the metadata of an object from what it does not share with others.
type shape func(v *values) metav1.ObjectMeta

type resourceKind struct {
	path      string
	objects   pods
	shapes    []shape
	templates map[encoding][]*template // by shape
}

// New builds a server. It computes the templates of all objects, some
// megabytes where annotations are large. It fails on numbers that the objects'
// versions have no digits for.
func New(options Options) (*Server, error) {
	options.Profile = cmp.Or(options.Profile, Alike)
	if n := max(options.Pods, options.Deployments); n > listVersion-firstVersion || min(options.Pods, options.Deployments) < 0 {
		return nil, fmt.Errorf("synthetic server of %d pods and %d Deployments: give 0 to %d", options.Pods, options.Deployments, listVersion-firstVersion)
	}
	if options.Profile != Alike && options.Profile != Mixed {
		return nil, fmt.Errorf("synthetic server with the profile %q: give %s or %s", options.Profile, Alike, Mixed)
	}
	kinds := newKinds(options)
	s := &Server{options: options, mux: http.NewServeMux(), pods: kinds[0]}
	s.history.version, s.history.oldest, s.history.events = listVersion, listVersion, make(chan events)
	s.addDiscovery()
	s.addEvents()
	for _, kind := range kinds {
		if err := kind.addTemplates(); err != nil {
			return nil, err
		}
		s.mux.HandleFunc("GET "+kind.path, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, kind) })
	}
	return s, nil
}

// newKinds lists what the server has: pods, and Deployments, so there is an API
// group besides the core.
func newKinds(options Options) []*resourceKind {
	var alike, mixed []shape
	for w := range workloads {
		alike = append(alike, func(v *values) metav1.ObjectMeta { return podMeta(w, v, options.AnnotationBytes) })
	}
	for number := range mixedShapes {
		set := newMixedShape(number)
		mixed = append(mixed, func(v *values) metav1.ObjectMeta { return set.meta(v, options.AnnotationBytes) })
	}
	ofPods := &resourceKind{path: "/api/v1/pods", shapes: alike, objects: pods{count: options.Pods}}
	if options.Profile == Mixed {
		ofPods.shapes, ofPods.objects.mixed = mixed, true
	}
	if options.Keys > 0 {
		ofPods.shapes, ofPods.objects.keys = withKey(ofPods.shapes), options.Keys
	}
	return []*resourceKind{ofPods, {path: "/apis/apps/v1/deployments", shapes: alike, objects: pods{count: options.Deployments}}}
}

// withKey adds the label whose key is one of many.
func withKey(shapes []shape) []shape {
	all := make([]shape, len(shapes))
	for i, shape := range shapes {
		all[i] = func(v *values) metav1.ObjectMeta {
			meta := shape(v)
			meta.Labels["key-"+v.keyNumber()] = v.text(fieldTeam)
			return meta
		}
	}
	return all
}

func (k *resourceKind) addTemplates() error {
	k.templates = map[encoding][]*template{}
	for _, form := range []encoding{inProtobuf, inJSON} {
		for _, shape := range k.shapes {
			t, err := newTemplate(partial(shape(markers())), form)
			if err != nil {
				return err
			}
			k.templates[form] = append(k.templates[form], t)
		}
	}
	return nil
}

const discoveryFormat = `{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","items":[{"metadata":{"name":%[1]q},` +
	`"versions":[{"version":"v1","freshness":"Current","resources":[{"resource":%[2]q,"scope":"Namespaced","verbs":[%[4]s],` +
	`"responseKind":{"group":%[1]q,"version":"v1","kind":%[3]q}}]}]}]}`

// addDiscovery registers what tells a client which resources there are: one
// document for the core, and one for the groups. No client of today asks for
// more.
func (s *Server) addDiscovery() {
	for path, document := range map[string]string{
		"/api":  fmt.Sprintf(discoveryFormat, "", "pods", "Pod", `"list","watch"`),
		"/apis": fmt.Sprintf(discoveryFormat, "apps", "deployments", "Deployment", `"list"`),
	} {
		s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
			_, _ = io.WriteString(w, document)
		})
	}
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

func (s *Server) serve(w http.ResponseWriter, r *http.Request, kind *resourceKind) {
	form, err := negotiate(r.Header.Get("Accept"), s.options.JSONOnly)
	if err != nil {
		fail(w, notAcceptable(r, err))
		return
	}
	query := r.URL.Query()
	if query.Has("watch") {
		if kind != s.pods || form != inProtobuf {
			fail(w, apierrors.NewMethodNotSupported(schema.GroupResource{Resource: kind.path}, "watch in "+string(form)))
			return
		}
		s.watch(w, r)
		return
	}
	objects := kind.objects
	var version, oldest int64
	objects.generation, version, oldest = s.history.now()
	p, refusal := newPage(query, objects.count, version, oldest)
	if refusal != nil {
		fail(w, refusal)
		return
	}
	w.Header().Set("Content-Type", string(form))
	items := itemWriter{objects, kind.templates[form], p}
	write := items.writeProtobuf
	if form == inJSON {
		write = items.writeJSON
	}
	out := bufio.NewWriterSize(w, 64<<10)
	if err := errors.Join(write(out), out.Flush()); err != nil {
		// Only cutting the connection tells the client that this is not all.
		panic(http.ErrAbortHandler)
	}
}

type encoding string

const (
	inProtobuf = encoding(runtime.ContentTypeProtobuf)
	inJSON     = encoding(runtime.ContentTypeJSON)
)

// negotiate picks the first of the accepted types that is served: metadata in
// protobuf or JSON. The order is the preference; client-go's clients send no
// weights.
func negotiate(accept string, jsonOnly bool) (encoding, error) {
	for one := range strings.SplitSeq(accept, ",") {
		mediaType, parameters, err := mime.ParseMediaType(one)
		if err != nil || parameters["g"] != "meta.k8s.io" || parameters["v"] != "v1" || !strings.HasPrefix(parameters["as"], "PartialObjectMetadata") {
			continue
		}
		if found := encoding(mediaType); found == inProtobuf && !jsonOnly || found == inJSON {
			return found, nil
		}
	}
	return inJSON, fmt.Errorf("only %s and %s are served, as PartialObjectMetadata of meta.k8s.io/v1, not %q", inProtobuf, inJSON, accept)
}

func notAcceptable(r *http.Request, err error) *apierrors.StatusError {
	return apierrors.NewGenericServerResponse(http.StatusNotAcceptable, r.Method, schema.GroupResource{}, "", err.Error(), 0, true)
}

func fail(w http.ResponseWriter, err *apierrors.StatusError) {
	w.Header().Set("Content-Type", string(inJSON))
	w.WriteHeader(int(err.ErrStatus.Code))
	// The status line has been sent: a failure now is the client's to notice.
	_ = json.NewEncoder(w).Encode(statusOf(err))
}

func statusOf(err *apierrors.StatusError) *metav1.Status {
	status := err.Status()
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	return &status
}

// WriteKubeconfig writes a kubeconfig with which clients reach the server at
// url, trusting the certificates in PEM if there are any.
func WriteKubeconfig(file, url string, trusted []byte) error {
	config := clientcmdapi.NewConfig()
	config.Clusters["synthetic"] = &clientcmdapi.Cluster{Server: url, CertificateAuthorityData: trusted}
	config.AuthInfos["synthetic"] = &clientcmdapi.AuthInfo{}
	config.Contexts["synthetic"] = &clientcmdapi.Context{Cluster: "synthetic", AuthInfo: "synthetic"}
	config.CurrentContext = "synthetic"
	return clientcmd.WriteToFile(*config, file)
}
