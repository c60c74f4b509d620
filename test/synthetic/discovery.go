package synthetic

import (
	"encoding/json"
	"mime"
	"net/http"
	"strings"

	discoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
)

// aggregatedType is the content type of discovery in one document.
const aggregatedType = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

// addDiscovery registers what tells a client which resources there are, in one
// document for a client that asks for that, else by group and version.
func (s *Server) addDiscovery(kinds []*resourceKind) {
	byVersion := map[schema.GroupVersion][]*resourceKind{}
	for _, kind := range kinds {
		byVersion[kind.GroupVersion] = append(byVersion[kind.GroupVersion], kind)
	}
	groups := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIGroupList"}, Groups: []metav1.APIGroup{}}
	core, others := newAggregated(), newAggregated()
	for gv, kinds := range byVersion {
		s.mux.HandleFunc("GET "+kinds[0].path(), serveJSON(resourceList(gv, kinds)))
		if gv.Group == "" {
			core.Items = append(core.Items, groupDiscovery(gv, kinds))
			continue
		}
		others.Items = append(others.Items, groupDiscovery(gv, kinds))
		group := apiGroup(gv)
		groups.Groups = append(groups.Groups, group)
		s.mux.HandleFunc("GET /apis/"+gv.Group, serveJSON(group))
	}
	s.mux.HandleFunc("GET /api", serveEither(core, metav1.APIVersions{
		TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"},
		ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{},
	}))
	s.mux.HandleFunc("GET /apis", serveEither(others, groups))
	s.mux.HandleFunc("GET /version", serveJSON(version.Info{
		Major: "1", Minor: "37", GitVersion: "v1.37.0+synthetic", Platform: "linux/amd64",
	}))
}

func newAggregated() *discoveryv2.APIGroupDiscoveryList {
	return &discoveryv2.APIGroupDiscoveryList{
		TypeMeta: metav1.TypeMeta{APIVersion: "apidiscovery.k8s.io/v2", Kind: "APIGroupDiscoveryList"},
		Items:    []discoveryv2.APIGroupDiscovery{},
	}
}

func resourceList(gv schema.GroupVersion, kinds []*resourceKind) metav1.APIResourceList {
	list := metav1.APIResourceList{
		TypeMeta:     metav1.TypeMeta{APIVersion: "v1", Kind: "APIResourceList"},
		GroupVersion: gv.String(),
	}
	for _, kind := range kinds {
		list.APIResources = append(list.APIResources, kind.APIResource)
	}
	return list
}

func apiGroup(gv schema.GroupVersion) metav1.APIGroup {
	served := metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version}
	return metav1.APIGroup{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIGroup"},
		Name:     gv.Group, Versions: []metav1.GroupVersionForDiscovery{served}, PreferredVersion: served,
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
			Resource: kind.Name, SingularResource: kind.SingularName, Scope: scope, ShortNames: kind.ShortNames, Verbs: kind.Verbs,
			ResponseKind: &metav1.GroupVersionKind{Group: gv.Group, Version: gv.Version, Kind: kind.Kind},
		})
	}
	return discoveryv2.APIGroupDiscovery{
		ObjectMeta: metav1.ObjectMeta{Name: gv.Group}, Versions: []discoveryv2.APIVersionDiscovery{served},
	}
}

// serveEither answers with the aggregated document where it is accepted.
func serveEither(aggregated, legacy any) http.HandlerFunc {
	plain := serveJSON(legacy)
	return func(w http.ResponseWriter, r *http.Request) {
		if !acceptsAggregated(r.Header.Get("Accept")) {
			plain(w, r)
			return
		}
		w.Header().Set("Content-Type", aggregatedType)
		_ = json.NewEncoder(w).Encode(aggregated)
	}
}

func acceptsAggregated(accept string) bool {
	for one := range strings.SplitSeq(accept, ",") {
		_, parameters, err := mime.ParseMediaType(one)
		if err == nil && parameters["g"] == "apidiscovery.k8s.io" && parameters["v"] == "v2" && parameters["as"] == "APIGroupDiscoveryList" {
			return true
		}
	}
	return false
}

// serveJSON answers with a document, always in JSON: discovery clients read
// nothing else.
func serveJSON(document any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(document)
	}
}
