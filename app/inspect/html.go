// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	_ "embed"
	"html/template"
	"io"
	"math"
)

//go:embed report.html
var page string

// writeHTML writes one page that needs nothing else.
func (r *Report) writeHTML(w io.Writer) error {
	t, err := template.New("report").Funcs(template.FuncMap{"size": size}).Parse(page)
	if err != nil {
		return err
	}
	return t.Execute(w, r)
}

// ValuesBar is how long the bar of a key's distinct values is, in percent of the
// row: on a logarithmic scale, at whose end all objects have a value of their own.
func (k *Key) ValuesBar() float64 {
	if k.Objects < 2 {
		return 0
	}
	return math.Round(100 * min(1, math.Log(float64(max(k.Distinct, 1)))/math.Log(float64(k.Objects))))
}
