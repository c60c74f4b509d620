package informer

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestByName(t *testing.T) {
	for name, test := range map[string]struct {
		labels, annotations, namespaces string
		// want is a kind a line, with its scopes: namespaces, names after an =,
		// and nothing for all.
		want []string
		err  string
	}{
		"Kubernetes' own": {
			labels: "pods,namespaces,deployments,events,ingresses", annotations: "events.events.k8s.io,deployments.apps,customresourcedefinitions.apiextensions.k8s.io", namespaces: "a,b",
			want: []string{
				"pods a b", "namespaces =a =b", "deployments.apps a b", "events a b", "ingresses.networking.k8s.io a b", "events.events.k8s.io a b",
				"customresourcedefinitions.apiextensions.k8s.io ",
			},
		},
		"others":               {labels: "widgets.example.com,betas.apps,pods", want: []string{"widgets.example.com ", "betas.apps ", "pods "}},
		"others in namespaces": {labels: "pods,betas.apps", namespaces: "a", err: `"betas.apps": only an API server knows whether it is in namespaces`},
		"without a group":      {annotations: "widgets", err: `"widgets": only an API server knows of which group it is`},
		"a whole group":        {labels: "pods,*.apps", err: `"*.apps": only an API server knows what the group holds`},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := chosen(test.labels, test.annotations)
			cfg.Namespaces = strings.FieldsFunc(test.namespaces, func(r rune) bool { return r == ',' })
			catalog, err := ByName(cfg)
			if test.err != "" || err != nil {
				if catalog != nil || err == nil || err.Error() != test.err {
					t.Errorf("catalog %v, error %v; want none and %s", catalog, err, test.err)
				}
				return
			}
			var got []string
			kinds, errs := catalog.Kinds(cfg)
			for _, kind := range kinds {
				var scopes []string
				for _, scope := range kind.Scopes(cfg.Namespaces) {
					scopes = append(scopes, strings.TrimSuffix(scope.Namespace+"="+scope.Name, "="))
				}
				got = append(got, kind.Resource+" "+strings.Join(scopes, " "))
			}
			expect(t, "kinds", test.want, got)
			if len(errs) > 0 {
				t.Errorf("errors %v", errs)
			}
		})
	}
}

// TestByNameKnowsTheWellKnown has the two tables agree.
func TestByNameKnowsTheWellKnown(t *testing.T) {
	catalog, err := ByName(chosen("pods", ""))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range wellKnown {
		resource := catalog.resources[schema.GroupResource{Group: k.group, Resource: k.plural}]
		if !resource.can("watch") {
			t.Errorf("%s of %q is not known by name", k.plural, k.group)
		}
	}
}
