package informer

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestByName(t *testing.T) {
	for _, tt := range []struct {
		name, labels, annotations string
		namespaces                []string
		want                      []string
		err                       string
	}{
		{name: "Kubernetes' own", labels: "pods,namespaces,deployments,events,ingresses", annotations: "events.events.k8s.io,deployments.apps,customresourcedefinitions.apiextensions.k8s.io",
			namespaces: []string{"a", "b"},
			want: []string{"pods a,b", "namespaces [a],[b]", "deployments.apps a,b", "events a,b", "ingresses.networking.k8s.io a,b", "events.events.k8s.io a,b",
				"customresourcedefinitions.apiextensions.k8s.io *"}},
		{name: "others", labels: "widgets.example.com,betas.apps,pods", want: []string{"widgets.example.com *", "betas.apps *", "pods *"}},
		{name: "others in namespaces", labels: "pods,betas.apps", namespaces: []string{"a"}, err: `"betas.apps": only an API server knows whether it is in namespaces`},
		{name: "without a group", annotations: "widgets", err: `"widgets": only an API server knows of which group it is`},
		{name: "a whole group", labels: "pods,*.apps", err: `"*.apps": only an API server knows what the group holds`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := chosen(tt.labels, tt.annotations)
			cfg.Namespaces = tt.namespaces
			catalog, err := ByName(cfg)
			if tt.err != "" {
				if catalog != nil || err == nil || err.Error() != tt.err {
					t.Errorf("catalog %v, error %v; want none and %s", catalog, err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			kinds, errs := catalog.Kinds(cfg)
			if len(errs) > 0 {
				t.Errorf("errors: %v", errs)
			}
			var got []string
			for _, kind := range kinds {
				got = append(got, kind.Resource+" "+scopesOf(kind, cfg.Namespaces))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("kinds (-want +got):\n%s", diff)
			}
		})
	}
}

// scopesOf writes a kind's scopes in short: namespaces, names in brackets, and *
// for all.
func scopesOf(kind *Kind, chosen []string) string {
	var all []string
	for _, scope := range kind.Scopes(chosen) {
		switch {
		case scope.Name != "":
			all = append(all, "["+scope.Name+"]")
		case scope.Namespace != "":
			all = append(all, scope.Namespace)
		default:
			all = append(all, "*")
		}
	}
	return strings.Join(all, ",")
}

// TestByNameKnowsTheWellKnown has the two tables agree.
func TestByNameKnowsTheWellKnown(t *testing.T) {
	catalog, err := ByName(chosen("pods", ""))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range wellKnown {
		resource, ok := catalog.resources[schema.GroupResource{Group: k.group, Resource: k.plural}]
		if !ok || !slices.Contains(resource.Verbs, "watch") {
			t.Errorf("%s of %q is not known by name", k.plural, k.group)
		}
	}
}
