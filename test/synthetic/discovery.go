package synthetic

import (
	"encoding/json"
	"net/http"

	discoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
)

// aggregatedType is the content type of discovery in one document.
const aggregatedType = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

// addDiscovery registers what tells a client which resources there are: one
// document for the core, and one for the groups. No client of today asks for
// more.
func (s *Server) addDiscovery() {
	s.mux.HandleFunc("GET /api", serveJSON(aggregatedType, discovery("", "pods", "Pod", "list", "watch")))
	s.mux.HandleFunc("GET /apis", serveJSON(aggregatedType, discovery("apps", "deployments", "Deployment", "list")))
	s.mux.HandleFunc("GET /version", serveJSON("application/json", version.Info{
		Major: "1", Minor: "37", GitVersion: "v1.37.0+synthetic", Platform: "linux/amd64",
	}))
}

// discovery is a document with one resource.
func discovery(group, resource, kind string, verbs ...string) *discoveryv2.APIGroupDiscoveryList {
	served := discoveryv2.APIVersionDiscovery{
		Version: "v1", Freshness: discoveryv2.DiscoveryFreshnessCurrent,
		Resources: []discoveryv2.APIResourceDiscovery{{
			Resource: resource, Scope: discoveryv2.ScopeNamespace, Verbs: verbs,
			ResponseKind: &metav1.GroupVersionKind{Group: group, Version: "v1", Kind: kind},
		}},
	}
	return &discoveryv2.APIGroupDiscoveryList{
		TypeMeta: metav1.TypeMeta{APIVersion: "apidiscovery.k8s.io/v2", Kind: "APIGroupDiscoveryList"},
		Items: []discoveryv2.APIGroupDiscovery{{
			ObjectMeta: metav1.ObjectMeta{Name: group}, Versions: []discoveryv2.APIVersionDiscovery{served},
		}},
	}
}

func serveJSON(contentType string, document any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_ = json.NewEncoder(w).Encode(document)
	}
}
