package e2e

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
)

// TestManifestsGrantWhatIsPrinted demands that each installation grants what
// labelstream prints for its settings.
func TestManifestsGrantWhatIsPrinted(t *testing.T) {
	t.Parallel()
	for _, i := range installations {
		t.Run(filepath.Base(i.name), func(t *testing.T) {
			t.Parallel()
			objects := i.render(t)
			c := container(t, objects.template(t))
			namespace := objects.of("ConfigMap")[0].GetNamespace()
			own := objects.settings(t, c).and(settings{"POD_NAMESPACE": namespace})
			want := slices.Sorted(texts(printedRoles(t, namespace, own, c.Args...).permissions()))
			if diff := cmp.Diff(want, slices.Sorted(texts(objects.permissions(t)))); diff != "" {
				t.Errorf("permissions (-printed +rendered):\n%s", diff)
			}
		})
	}
}

// permissions are what all roles grant.
func (r rendered) permissions(t *testing.T) []permission {
	t.Helper()
	var all []permission
	for _, kind := range []string{"ClusterRole", "Role"} {
		for _, object := range r.of(kind) {
			all = append(all, expand(object.GetNamespace(), into[rbacv1.Role](t, object.Object).Rules)...)
		}
	}
	return all
}
