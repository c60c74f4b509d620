// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"sigs.k8s.io/yaml"
)

// Write writes the report in one of Outputs, key after key: with 20,000 keys none
// of the forms is small. The error is w's.
func (r *Report) Write(w io.Writer, output string) error {
	out := bufio.NewWriter(w)
	var err error
	switch output {
	case "json":
		err = r.writeJSON(out)
	case "yaml":
		err = r.writeYAML(out)
	case "csv":
		err = r.writeCSV(out)
	case "html":
		err = r.writeHTML(out)
	default:
		err = r.writeText(out, output == "wide")
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// head is the report without its keys.
func (r *Report) head() *Report {
	head := *r
	head.Keys = nil
	return &head
}

func (r *Report) writeJSON(w *bufio.Writer) error {
	head, err := json.MarshalIndent(r.head(), "", "  ")
	if err != nil {
		return err
	}
	w.Write(bytes.TrimSuffix(head, []byte("\n}")))
	w.WriteString(",\n  \"keys\": [")
	for i := range r.Keys {
		row, err := json.Marshal(&r.Keys[i])
		if err != nil {
			return err
		}
		if i > 0 {
			w.WriteByte(',')
		}
		w.WriteString("\n    ")
		w.Write(row)
	}
	_, err = w.WriteString("\n  ]\n}\n")
	return err
}

func (r *Report) writeYAML(w *bufio.Writer) error {
	head, err := yaml.Marshal(r.head())
	if err != nil {
		return err
	}
	w.Write(head)
	if len(r.Keys) == 0 {
		_, err = w.WriteString("keys: []\n")
		return err
	}
	w.WriteString("keys:\n")
	for i := range r.Keys {
		row, err := yaml.Marshal(r.Keys[i : i+1])
		if err != nil {
			return err
		}
		if _, err := w.Write(row); err != nil {
			return err
		}
	}
	return nil
}

func (r *Report) writeCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	out.Write([]string{"key", "kind", "source", "objects", "coverage", "distinct", "exactness", "longest", "example",
		"sent", "reason", "pattern", "nameTooLong", "empty", "unsafe", "truncated"})
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	for i := range r.Keys {
		k := &r.Keys[i]
		out.Write([]string{k.Key, k.Kind, k.Source, number(k.Objects), percent(k.Coverage), number(k.Distinct), string(k.Exactness),
			strconv.Itoa(k.Longest), k.Example, strconv.FormatBool(k.Sent), string(k.Reason), k.Pattern,
			strconv.FormatBool(k.NameTooLong), number(k.Empty), number(k.Unsafe), number(k.Truncated)})
	}
	out.Flush()
	return out.Error()
}

func percent(share float64) string { return strconv.FormatFloat(share, 'f', -1, 64) }

// writeText writes tables for a terminal.
func (r *Report) writeText(w *bufio.Writer, isWide bool) error {
	columns := func(first string, more ...string) string { return first + "\t" + strings.Join(more, "\t") + "\n" }
	table := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	header := []string{"KIND", "SOURCE", "COVERAGE", "VALUES", "LONGEST", "SENT", "PROBLEMS", "EXAMPLE"}
	if isWide {
		header = append([]string{"OBJECTS"}, header...)
	}
	io.WriteString(table, columns("KEY", header...))
	for i := range r.Keys {
		k := &r.Keys[i]
		row := []string{k.Kind, k.Source, percent(k.Coverage) + "%", k.Values(), strconv.Itoa(k.Longest), k.Fate(), dash(k.Problems()), dash(printable(k.Example, isWide))}
		if isWide {
			row = append([]string{strconv.FormatInt(k.Objects, 10)}, row...)
		}
		io.WriteString(table, columns(printable(k.Key, true), row...))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	io.WriteString(table, columns("\nKIND", "OBJECTS", "SERIES", "BYTES", "SAMPLES A DAY", "BYTES A DAY"))
	for _, k := range append(r.Kinds, r.Total) {
		io.WriteString(table, columns(k.Kind, strconv.FormatInt(k.Objects, 10), strconv.FormatInt(k.Series, 10), size(k.Bytes),
			strconv.FormatInt(k.SamplesPerDay, 10), size(k.BytesPerDay)))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nKeys sent: %d, with the limits of PRESET=%s\n", r.KeysSent, r.Preset)
	for _, note := range r.Notes {
		fmt.Fprintf(w, "Note: %s.\n", note)
	}
	if r.SuggestedFilters != "" {
		fmt.Fprintf(w, "\nSuggested filters, owner-like keys first:\nLABELSTREAM_LABELS_FILTERS='%s'\n", r.SuggestedFilters)
	}
	if len(r.Spellings) > 0 {
		fmt.Fprint(w, "\nOwner-like keys that disagree in spelling, and how often each is used:\n")
	}
	for _, s := range r.Spellings {
		fmt.Fprintf(w, "  %s: %s\n", s.Meaning, s.Text())
	}
	return nil
}

// Values is the number of distinct values, marked where it is not exact.
func (k *Key) Values() string {
	return map[Exactness]string{Estimate: "~", Coarse: "≈", AtLeast: "≥"}[k.Exactness] + strconv.FormatInt(k.Distinct, 10)
}

// Fate says whether the key is sent, and which pattern says so.
func (k *Key) Fate() string {
	switch k.Reason {
	case Filter:
		return "by " + k.Pattern
	case Added:
		return string(Added)
	case Excluded:
		return "no: excluded by " + k.Pattern
	}
	return "no: " + string(k.Reason)
}

// Problems says what would happen at the receiver.
func (k *Key) Problems() string {
	var all []string
	if k.NameTooLong {
		all = append(all, "name too long")
	}
	for _, problem := range []struct {
		n    int64
		text string
	}{{k.Unsafe, "unsafe left out"}, {k.Truncated, "truncated"}, {k.Empty, "empty left out"}} {
		if problem.n > 0 {
			all = append(all, fmt.Sprintf("%d %s", problem.n, problem.text))
		}
	}
	return strings.Join(all, ", ")
}

// Text is the spellings with their counts.
func (s *Spelling) Text() string {
	var all []string
	for _, k := range s.Keys {
		all = append(all, fmt.Sprintf("%s (%d)", printable(k.Key, true), k.Uses))
	}
	return strings.Join(all, ", ")
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// maxCell is how much of an example a narrow table shows.
const maxCell = 24

// printable replaces what a terminal would obey, and shortens the text for a narrow
// table.
func printable(text string, isWhole bool) string {
	all := []rune(strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text))
	if !isWhole && len(all) > maxCell {
		return string(all[:maxCell-1]) + "…"
	}
	return string(all)
}

// size is a number of bytes as people read it.
func size(bytes int64) string {
	n, unit := float64(bytes), 0
	for n >= 1024 && unit < 4 {
		n, unit = n/1024, unit+1
	}
	return fmt.Sprintf("%.4g %s", n, [...]string{"B", "KiB", "MiB", "GiB", "TiB"}[unit])
}
