// SPDX-License-Identifier: Apache-2.0

// Package monitoring reads the manifests by which labelstream is monitored, and
// holds them against what reads them: promtool, PromQL's parser, and what
// Grafana needs.
package monitoring

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Dir is where the manifests are, seen from any package two levels deep.
const Dir = "../../manifests/components/monitoring"

// Rules are what a file of rules has.
type Rules struct {
	Groups []Group `json:"groups"`
}

// Group is some rules that are evaluated one after the other.
type Group struct {
	Name  string `json:"name"`
	Rules []Rule `json:"rules"`
}

// Rule is an alert.
type Rule struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         model.Duration    `json:"for,omitempty"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// ReadRules reads the spec of a PrometheusRule. A field that is not known here
// is an error.
func ReadRules(path string) (*Rules, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the rules: %w", err)
	}
	text, err = yaml.ToJSON(text)
	if err != nil {
		return nil, fmt.Errorf("read the rules of %s: %w", path, err)
	}
	var object struct {
		APIVersion string          `json:"apiVersion"`
		Kind       string          `json:"kind"`
		Metadata   json.RawMessage `json:"metadata"`
		Spec       Rules           `json:"spec"`
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&object); err != nil {
		return nil, fmt.Errorf("read the rules of %s: %w", path, err)
	}
	if object.Kind != "PrometheusRule" || object.APIVersion != "monitoring.coreos.com/v1" {
		return nil, fmt.Errorf("read the rules of %s: it holds a %s of %s, not a PrometheusRule", path, object.Kind, object.APIVersion)
	}
	return &object.Spec, nil
}

// Alerts are the rules of all groups.
func (r *Rules) Alerts() []Rule {
	var all []Rule
	for _, group := range r.Groups {
		all = append(all, group.Rules...)
	}
	return all
}

// Write writes a file of rules for Prometheus and promtool.
func (r *Rules) Write(path string) error {
	// JSON is YAML.
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the rules: %w", err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return fmt.Errorf("write the rules: %w", err)
	}
	return nil
}

// Shorten divides by so much every time of a minute or more: how long an alert is
// pending, the windows and offsets of its expression, and the numbers in it, which
// are seconds where they are 60 or more. A day stays one: certificates are of days.
func (r *Rules) Shorten(by int) error {
	promql := parser.NewParser(parser.Options{})
	for _, group := range r.Groups {
		for i := range group.Rules {
			rule := &group.Rules[i]
			expr, err := promql.ParseExpr(rule.Expr)
			if err != nil {
				return fmt.Errorf("parse the expression of %s: %w", rule.Alert, err)
			}
			parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
				shorten(node, by)
				return nil
			})
			rule.Expr = expr.String()
			rule.For /= model.Duration(by)
		}
	}
	return nil
}

func shorten(node parser.Node, by int) {
	switch n := node.(type) {
	case *parser.MatrixSelector:
		n.Range /= time.Duration(by)
	case *parser.VectorSelector:
		n.OriginalOffset /= time.Duration(by)
	case *parser.NumberLiteral:
		if n.Val >= time.Minute.Seconds() && n.Val < 24*time.Hour.Seconds() {
			n.Val /= float64(by)
		}
	}
}
