package synthetic

import (
	"encoding/json"
	"net/http"

	discoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
)

// aggregatedType is the content type of discovery in one document.
const aggregatedType = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

// addDiscovery registers what tells a client which resources there are: one
// document for the core, and one for the groups. No client of today asks for
// more.
func (s *Server) addDiscovery(kinds []*resourceKind) {
	byVersion := map[schema.GroupVersion][]*resourceKind{}
	for _, kind := range kinds {
		byVersion[kind.GroupVersion] = append(byVersion[kind.GroupVersion], kind)
	}
	core, others := newAggregated(), newAggregated()
	for gv, kinds := range byVersion {
		document := others
		if gv.Group == "" {
			document = core
		}
		document.Items = append(document.Items, groupDiscovery(gv, kinds))
	}
	s.mux.HandleFunc("GET /api", serveJSON(aggregatedType, core))
	s.mux.HandleFunc("GET /apis", serveJSON(aggregatedType, others))
	s.mux.HandleFunc("GET /version", serveJSON("application/json", version.Info{
		Major: "1", Minor: "37", GitVersion: "v1.37.0+synthetic", Platform: "linux/amd64",
	}))
}

func newAggregated() *discoveryv2.APIGroupDiscoveryList {
	return &discoveryv2.APIGroupDiscoveryList{
		TypeMeta: metav1.TypeMeta{APIVersion: "apidiscovery.k8s.io/v2", Kind: "APIGroupDiscoveryList"},
		Items:    []discoveryv2.APIGroupDiscovery{},
	}
}

func groupDiscovery(gv schema.GroupVersion, kinds []*resourceKind) discoveryv2.APIGroupDiscovery {
	served := discoveryv2.APIVersionDiscovery{Version: gv.Version, Freshness: discoveryv2.DiscoveryFreshnessCurrent}
	for _, kind := range kinds {
		scope := discoveryv2.ScopeCluster
		if kind.Namespaced {
			scope = discoveryv2.ScopeNamespace
		}
		served.Resources = append(served.Resources, discoveryv2.APIResourceDiscovery{
			Resource: kind.Name, SingularResource: kind.SingularName, Scope: scope, Verbs: kind.Verbs,
			ResponseKind: &metav1.GroupVersionKind{Group: gv.Group, Version: gv.Version, Kind: kind.Kind},
		})
	}
	return discoveryv2.APIGroupDiscovery{
		ObjectMeta: metav1.ObjectMeta{Name: gv.Group}, Versions: []discoveryv2.APIVersionDiscovery{served},
	}
}

func serveJSON(contentType string, document any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_ = json.NewEncoder(w).Encode(document)
	}
}
