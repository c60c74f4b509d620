package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/test/controlplane"
)

// TestCheck provokes what labelstream check is to find, on a real API server: each
// line that is not ok, by its level, its check and what its message says.
func TestCheck(t *testing.T) {
	t.Parallel()
	p := shared.plane
	namespace := "check"
	p.namespace(t, namespace)
	nobody, reader := p.reader(t, namespace), p.reader(t, "", "pods")
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(elsewhere.Close)
	for _, test := range []struct {
		name, user string
		settings   settings
		want       [][3]string
	}{
		{"all is well", controlplane.Admin, nil, nil},
		{"no rights", nobody, nil, [][3]string{
			{"fail", "rights", `^list, watch pods is not allowed$`}, {"fail", "rights", `^list, watch namespaces is not allowed$`},
		}},
		{"some rights", reader, settings{"CHANGES": "none"}, [][3]string{{"fail", "rights", `list namespaces is not allowed`}}},
		{"a singular", controlplane.Admin, settings{"LABELS_RESOURCES": "pods,deployment"},
			[][3]string{{"fail", "resources", `"deployment": no such resource; write "deployments.apps"`}}},
		{"not a receiver", controlplane.Admin, settings{"DESTINATION": elsewhere.URL},
			[][3]string{{"fail", "destination", `status 404`}}},
		{"no webhook", controlplane.Admin, settings{"CHANGES": "webhook", "POD_NAMESPACE": namespace, "WEBHOOK_NAME": "check-nowhere"},
			[][3]string{{"fail", "webhook", `check-nowhere`}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			own := settings{"DESTINATION": newJournal(t).URL()}.and(test.settings)
			r := launch(t, invocation{plane: p, user: test.user, args: []string{"check", "-o", "json"}, settings: own}).wait(t)
			r.mustEndWith(t, min(len(test.want), 1))
			var all []struct{ Level, Check, Message, Hint string }
			if err := json.Unmarshal([]byte(r.stdout), &all); err != nil {
				t.Fatalf("%v:\n%s", err, r.stdout)
			}
			left := slices.Clone(test.want)
			for _, one := range all {
				i := slices.IndexFunc(left, func(w [3]string) bool {
					return w[0] == one.Level && w[1] == one.Check && regexp.MustCompile(w[2]).MatchString(one.Message)
				})
				switch {
				case i >= 0:
					left = slices.Delete(left, i, i+1)
					if one.Hint == "" {
						t.Errorf("%+v does not say what to do", one)
					}
				case one.Level == "fail":
					t.Errorf("unexpected: %+v", one)
				}
			}
			if len(left) > 0 {
				t.Errorf("%v is missing in\n%s", left, r.stdout)
			}
		})
	}
}

// TestInspect counts the keys of pods that a real API server lists.
func TestInspect(t *testing.T) {
	t.Parallel()
	p := shared.plane
	namespace := "inspect"
	p.namespace(t, namespace)
	p.pods(t, 7, func(i int) metav1.ObjectMeta {
		meta := metav1.ObjectMeta{Namespace: namespace, Name: numberedPod(i), Labels: map[string]string{"app": "web", "team": "t" + string(rune('a'+i))}}
		if i < 2 {
			meta.Labels["Team"] = "xy"
			meta.Annotations = map[string]string{"secret": "c4nary"}
		}
		return meta
	})
	r := launch(t, invocation{plane: p, user: p.reader(t, namespace, "pods"), args: []string{"inspect", "-o", "json"}, settings: settings{
		"NAMESPACES": namespace, "LABELS_RESOURCES": "pods", "LABELS_FILTERS": "^team$\n^Team$",
	}}).wait(t)
	r.mustSucceed(t)
	type key struct {
		Key, Source, Pattern, Example string
		Objects, Distinct, Longest    int
		Sent                          bool
	}
	var report struct {
		Total     struct{ Objects int }
		Keys      []key
		Spellings []struct{ Meaning string }
	}
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatalf("%v:\n%s", err, r.stdout)
	}
	want := []key{
		{"app", "label", "", "web", 7, 1, 3, false},
		{"team", "label", "^team$", "ta", 7, 7, 2, true},
		{"Team", "label", "^Team$", "xy", 2, 1, 2, true},
		{"secret", "annotation", "", "", 2, 1, 6, false},
	}
	if diff := cmp.Diff(want, report.Keys); diff != "" || report.Total.Objects != 7 || len(report.Spellings) != 1 {
		t.Errorf("the report has (-want +got):\n%s\nof\n%s", diff, r.stdout)
	}
}
