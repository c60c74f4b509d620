package e2e

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
)

// TestManifestsGrantWhatIsPrinted has what each installation grants be what
// labelstream prints for its settings.
func TestManifestsGrantWhatIsPrinted(t *testing.T) {
	t.Parallel()
	for _, i := range installations {
		t.Run(filepath.Base(i.name), func(t *testing.T) {
			t.Parallel()
			objects := i.render(t)
			c := container(t, objects.template(t))
			namespace := objects.of("ConfigMap")[0].GetNamespace()
			own := settings{"POD_NAMESPACE": namespace}
			for name, value := range objects.environment(t, c) {
				own[strings.TrimPrefix(name, "LABELSTREAM_")] = value
			}
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
