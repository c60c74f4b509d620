// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/santhosh-tekuri/jsonschema/v6"
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
	if err = errors.Join(err, json.Unmarshal(text, &d)); err != nil {
		t.Fatal(err)
	}
	return text, d
}

// TestDashboard holds the dashboard against the schema, and demands that the schema
// notices what is broken.
func TestDashboard(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("testdata/dashboard.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	text, d := readDashboard(t)
	for old, broken := range map[string]string{
		"":                     "",
		`"type": "timeseries"`: `"type": "graph"`,
		`"uid": "labelstream"`: `"uid": "not an id"`,
		`"gridPos"`:            `"position"`,
		`"expr"`:               `"expression"`,
		`"${datasource}"`:      `"prometheus"`,
		`"refId": "A"`:         `"refId": 1`,
	} {
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(bytes.Replace(text, []byte(old), []byte(broken), 1)))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(document); (err != nil) != (old != "") {
			t.Errorf("with %s in place of %q: %v", broken, old, err)
		}
	}
	ids := map[int]bool{}
	bottom := make([]int, 24)
	for _, panel := range d.Panels {
		at := panel.GridPos
		covered := bottom[at.X:min(at.X+at.W, len(bottom))]
		if ids[panel.ID] || slices.Max(covered) > at.Y {
			t.Errorf("the panel %q has another's id, or lies on another", panel.Title)
		}
		ids[panel.ID] = true
		for x := range covered {
			covered[x] = at.Y + at.H
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
