package informer

import (
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const wantAcceptObject = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"

// serveObject answers the request for one object: by the script of its path,
// from the list that it stands in, or that there is none.
func (f *fakeAPI) serveObject(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.requests = append(f.requests, "GET "+r.URL.Path)
	next := status("json", metav1.Status{Code: 404, Reason: metav1.StatusReasonNotFound, Message: "not found"})
	for path, objects := range f.objects {
		for _, o := range objects {
			if path == podsPath && r.URL.Path == "/api/v1/namespaces/"+o.Namespace+"/pods/"+o.Name || r.URL.Path == path+"/"+o.Name {
				body := encode(f.t, "json", partial(o))
				next = func(w http.ResponseWriter, r *http.Request, _ []byte) { serve(w, r, body) }
			}
		}
	}
	if script := f.script[r.URL.Path]; len(script) > 0 {
		next, f.script[r.URL.Path] = script[0], script[1:]
	}
	f.mu.Unlock()
	next(w, r, nil)
}
