package monitoring

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// dashboard is what the tests look at of Grafana's.
type dashboard struct {
	Panels []struct {
		ID      int
		Title   string
		GridPos struct{ X, Y, W, H int }
		Targets []struct{ Expr string }
	}
}

func readDashboard(t *testing.T) (text []byte, d dashboard) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Dir, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return text, d
}

// validate holds a dashboard against the schema.
func validate(t *testing.T, text string) error {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile("testdata/dashboard.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(document)
}

func TestDashboard(t *testing.T) {
	text, d := readDashboard(t)
	if err := validate(t, string(text)); err != nil {
		t.Error(err)
	}
	var ids []int
	bottom := make([]int, 24)
	for _, panel := range d.Panels {
		if slices.Contains(ids, panel.ID) {
			t.Errorf("two panels have the id %d", panel.ID)
		}
		ids = append(ids, panel.ID)
		at := panel.GridPos
		for x := at.X; x < min(at.X+at.W, len(bottom)); x++ {
			if at.Y < bottom[x] {
				t.Errorf("the panel %q lies on another", panel.Title)
			}
			bottom[x] = at.Y + at.H
		}
	}
}

// TestSchema breaks the dashboard, and demands that the schema notices.
func TestSchema(t *testing.T) {
	text, _ := readDashboard(t)
	for old, broken := range map[string]string{
		`"type": "timeseries"`: `"type": "graph"`,
		`"uid": "labelstream"`: `"uid": "not an id"`,
		`"gridPos"`:            `"position"`,
		`"expr"`:               `"expression"`,
		`"${datasource}"`:      `"prometheus"`,
		`"refId": "A"`:         `"refId": 1`,
	} {
		changed := strings.Replace(string(text), old, broken, 1)
		if changed == string(text) {
			t.Fatalf("the dashboard has no %s", old)
		}
		if err := validate(t, changed); err == nil {
			t.Errorf("%s in place of %s is taken for a dashboard", broken, old)
		}
	}
}

// TestExpressions parses what the dashboard asks Prometheus, with Grafana's
// variables filled in, and demands that each asks for one job: several
// installations would be added up.
func TestExpressions(t *testing.T) {
	_, d := readDashboard(t)
	variables := strings.NewReplacer("$__rate_interval", "5m", "$namespace", "n", "$job", "j")
	promql := parser.NewParser(parser.Options{})
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			expr, err := promql.ParseExpr(variables.Replace(target.Expr))
			if err != nil {
				t.Errorf("%s: %s: %v", panel.Title, target.Expr, err)
				continue
			}
			for _, selectors := range parser.ExtractSelectors(expr) {
				matched := make(map[string]string)
				for _, m := range selectors {
					matched[m.Name] = m.Value
				}
				if matched["namespace"] != "n" || matched["job"] != "j" {
					t.Errorf("%s: %s does not ask for one namespace and job", panel.Title, target.Expr)
				}
			}
		}
	}
}

// TestComponent renders the component, and finds in it what is tested here.
func TestComponent(t *testing.T) {
	files := filesys.MakeFsOnDisk()
	dir := t.TempDir()
	component, err := filepath.Abs(Dir)
	if err != nil {
		t.Fatal(err)
	}
	// A path to a component is relative to the file that names it.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	if component, err = filepath.Rel(dir, component); err != nil {
		t.Fatal(err)
	}
	// No namespace: kubectl's present one would be that of what names none.
	text := "components: [" + component + "]\n"
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range resources.Resources() {
		names = append(names, r.GetKind()+" "+r.GetNamespace()+"/"+r.GetName())
		if r.GetKind() != "ConfigMap" {
			continue
		}
		if want := map[string]string{"app.kubernetes.io/name": "labelstream", "grafana_dashboard": "1"}; !cmp.Equal(want, r.GetLabels()) {
			t.Errorf("the dashboard's labels are %v, want %v", r.GetLabels(), want)
		}
		text, _ := readDashboard(t)
		if diff := cmp.Diff(map[string]string{"labelstream.json": string(text)}, r.GetDataMap()); diff != "" {
			t.Errorf("the dashboard (-want +got):\n%s", diff)
		}
	}
	slices.Sort(names)
	want := []string{"ConfigMap labelstream/labelstream-dashboard", "PrometheusRule labelstream/labelstream", "ServiceMonitor labelstream/labelstream"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
}
