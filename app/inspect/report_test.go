// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/net/html"
	"sigs.k8s.io/yaml"

	"labelstream/config"
	"labelstream/record"
)

func loadConfig(t *testing.T, settings map[string]string) *config.Config {
	t.Helper()
	for name, value := range settings {
		t.Setenv("LABELSTREAM_"+name, value)
	}
	cfg, err := config.Load(true)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

var (
	podKind = &record.Kind{Resource: "pods", Type: "pod", Metric: "pod", NameLabel: "pod", Namespaced: true, Labels: true}
	setKind = &record.Kind{Resource: "replicasets.apps", Type: "replicaset", Metric: "replicaset", NameLabel: "workload", Namespaced: true, Labels: true, Annotations: true}
)

// pairs are "key=value".
func pairs(all ...string) (kvs []record.KeyValue) {
	for _, text := range all {
		key, value, _ := strings.Cut(text, "=")
		kvs = append(kvs, record.KeyValue{Key: []byte(key), Value: []byte(value)})
	}
	return kvs
}

// observe lets the collector see objects as informers do, each of 100 bytes.
func observe(c *Collector, kind *record.Kind, objects ...record.Object) {
	builder := record.NewBuilder(kind, c.cfg, nil)
	for i := range objects {
		o := &objects[i]
		o.Namespace, o.Name = []byte("shop"), fmt.Appendf(nil, "o%d", i)
		r, _ := builder.Build(o)
		c.Observe(o, r, 100, builder.TakeDrops())
	}
}

// sample is a collector that has seen a bit of everything.
func sample(t *testing.T, options Options) *Collector {
	c := NewCollector(loadConfig(t, map[string]string{
		"PRESET": "mimir", "LABELS_FILTERS": "^app$,team,long,_,generation", "LABELS_EXCLUDE": "secret", "ANNOTATIONS_ENABLED": "true",
		"UNSAFE_VALUES": "drop", "VALUE_MAX_BYTES": "16", "LABEL_NAME_MAX_BYTES": "60", "MAX_LABELS_PER_SERIES": "8", "MAX_KEYS": "5",
	}), options)
	observe(c, podKind,
		record.Object{Labels: pairs("app=a", "team=x", "l_1=1", "l_2=1", "l_3=1", "l_4=1", "l_5=1"), Annotations: pairs("note=only its length")},
		record.Object{Labels: pairs("app=b&c", "Team=x", "deprecated.daemonset.template.generation=1")},
		record.Object{Labels: pairs("app=", "team.example.com/secret=s")},
		record.Object{Labels: pairs("app=0123456789abcdefg", "zone=z", strings.Repeat("z", 60)+"=l", "long-"+strings.Repeat("x", 60)+"=l")},
	)
	observe(c, setKind, record.Object{Labels: pairs("team=x"), Annotations: pairs("kubectl.kubernetes.io/last-applied-configuration={}")})
	return c
}

func filtered(k Key, pattern string) Key {
	k.Sent, k.Reason, k.Pattern = true, Filter, pattern
	return k
}

// row is a key of pods that one object has.
func row(key, example string) Key {
	return Key{Key: key, Kind: "pods", Source: "label", Objects: 1, Coverage: 25, Distinct: 1, Exactness: Exact, Longest: len(example), Example: example}
}

func reasoned(k Key, reason Reason, pattern string) Key {
	k.Reason, k.Pattern = reason, pattern
	return k
}

// wantReport is that of the sample.
func wantReport() *Report {
	long := row("long-"+strings.Repeat("x", 60), "l")
	long.NameTooLong = true
	other := long
	other.Key = strings.Repeat("z", 60)
	note := reasoned(row("note", ""), NotChosen, "")
	note.Source, note.Longest = "annotation", 15
	applied := Key{
		Key: "kubectl.kubernetes.io/last-applied-configuration", Kind: "replicasets.apps", Source: "annotation", Objects: 1, Coverage: 100, Distinct: 1,
		Exactness: Exact, Longest: 2, Reason: Excluded, Pattern: `^kubectl\.kubernetes\.io/last-applied-configuration$`,
	}
	team := filtered(row("team", "x"), "team")
	setTeam := team
	setTeam.Kind, setTeam.Coverage = "replicasets.apps", 100
	converted := reasoned(row("deprecated.daemonset.template.generation", "1"), Converted, "")
	return &Report{
		Preset: config.PresetMimir,
		Limits: Limits{ValueMaxBytes: 16, UnsafeValues: "drop", LabelNameMaxBytes: 60, MaxLabelsPerSeries: 8, MaxKeys: 5},
		Kinds: []Kind{
			{Kind: "pods", Objects: 4, Series: 4, Bytes: 400, SamplesPerDay: 4 * 360, BytesPerDay: 400 * 360},
			{Kind: "replicasets.apps", Objects: 1, Series: 2, Bytes: 100, SamplesPerDay: 2 * 360, BytesPerDay: 100 * 360},
		},
		Total:    Kind{Kind: "total", Objects: 5, Series: 6, Bytes: 500, SamplesPerDay: 6 * 360, BytesPerDay: 500 * 360},
		KeysSent: 7,
		Notes: []string{
			"7 distinct keys would be sent, more than LABELSTREAM_MAX_KEYS=5",
			"Objects of pods with more labels than LABELSTREAM_MAX_LABELS_PER_SERIES=8: 1; labels that would be left out of them: 3",
		},
		SuggestedFilters: `^app$,^team$,^Team$`,
		Spellings:        []Spelling{{"team", []SpelledKey{{"team", 2}, {"Team", 1}}}},
		Keys: []Key{
			filtered(Key{
				Key: "app", Kind: "pods", Source: "label", Objects: 4, Coverage: 100, Distinct: 4, Exactness: Exact, Longest: 17, Example: "a",
				Empty: 1, Unsafe: 1, Truncated: 1,
			}, "^app$"),
			setTeam,
			applied,
			reasoned(row("Team", "x"), NoFilter, ""),
			converted,
			filtered(row("l_1", "1"), "_"),
			filtered(row("l_2", "1"), "_"),
			filtered(row("l_3", "1"), "_"),
			filtered(row("l_4", "1"), "_"),
			filtered(row("l_5", "1"), "_"),
			reasoned(long, NameTooLong, ""),
			team,
			reasoned(row("team.example.com/secret", "s"), Excluded, "secret"),
			reasoned(row("zone", "z"), NoFilter, ""),
			reasoned(other, NoFilter, ""),
			note,
		},
	}
}

// TestReport has each reason for which a key is sent or not, and each problem.
func TestReport(t *testing.T) {
	if diff := cmp.Diff(wantReport(), sample(t, Options{}).Report()); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

// TestOptions shows fewer keys, or less of them. All else is of all keys.
func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		options Options
		want    func(k *Key) bool
	}{
		{Options{Key: "^team"}, func(k *Key) bool { return strings.HasPrefix(k.Key, "team") }},
		{Options{MinCoverage: 100}, func(k *Key) bool { return k.Coverage == 100 }},
		{Options{NoExamples: true, ShowAnnotations: true}, func(k *Key) bool { k.Example = ""; return true }},
		{Options{ShowAnnotations: true}, func(k *Key) bool {
			k.Example = map[string]string{"note": "only its length", "kubectl.kubernetes.io/last-applied-configuration": "{}"}[k.Key] + k.Example
			return true
		}},
	} {
		want := wantReport()
		all := want.Keys
		want.Keys = nil
		for _, k := range all {
			if tt.want(&k) {
				want.Keys = append(want.Keys, k)
			}
		}
		if diff := cmp.Diff(want, sample(t, tt.options).Report()); diff != "" {
			t.Errorf("%+v: report (-want +got):\n%s", tt.options, diff)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		options Options
		want    string
	}{
		{Options{Key: "a.*", MinCoverage: 100, Output: "html"}, ""},
		{Options{Key: "("}, "--key: error parsing regexp: missing closing ): `(`"},
		{Options{MinCoverage: 101}, "--min-coverage=101: want a percentage, 0 to 100"},
	} {
		got := ""
		if err := tt.options.Validate(); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.options, got, tt.want)
		}
	}
	for kind, want := range map[string]bool{"": true, "replicasets": true, "replicasets.apps": true, "replicaset": true, "pods": false} {
		if got := (&Options{Kind: kind}).Reads(setKind); got != want {
			t.Errorf("--kind=%s reads replicasets: %t", kind, got)
		}
	}
}

func write(t *testing.T, r *Report, output string) string {
	t.Helper()
	var out bytes.Buffer
	if err := r.Write(&out, output); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestJSONAndYAML read as the report that was written, also where it has no keys.
func TestJSONAndYAML(t *testing.T) {
	none := NewCollector(loadConfig(t, nil), Options{}).Report()
	for _, want := range []*Report{wantReport(), none} {
		for output, unmarshal := range map[string]func([]byte, any) error{
			"json": json.Unmarshal,
			"yaml": func(text []byte, to any) error { return yaml.UnmarshalStrict(text, to) },
		} {
			text := write(t, want, output)
			var got Report
			if err := unmarshal([]byte(text), &got); err != nil {
				t.Fatalf("%s: %v\n%s", output, err, text)
			}
			if diff := cmp.Diff(want, &got); diff != "" {
				t.Errorf("%s (-written +read):\n%s", output, diff)
			}
		}
	}
}

func TestCSV(t *testing.T) {
	r := wantReport()
	r.Keys = r.Keys[:1]
	r.Keys[0].Example = "a,\"b\"\nc"
	got, err := csv.NewReader(strings.NewReader(write(t, r, "csv"))).ReadAll()
	want := [][]string{
		{"key", "kind", "source", "objects", "coverage", "distinct", "exactness", "longest", "example", "sent", "reason", "pattern", "nameTooLong", "empty", "unsafe", "truncated"},
		{"app", "pods", "label", "4", "100", "4", "exact", "17", "a,\"b\"\nc", "true", "filter", "^app$", "false", "1", "1", "1"},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("error %v, rows (-want +got):\n%s", err, diff)
	}
}

// TestTable shows on a terminal what it would obey as a character, so that each key
// has its line.
func TestTable(t *testing.T) {
	r := wantReport()
	r.Keys = r.Keys[:3]
	r.Keys[1].Example, r.Keys[1].Exactness = "a\x1b[31m\n\tb", Coarse
	r.Keys[2].Example = strings.Repeat("é", 30)
	const tail = `
KIND               OBJECTS   SERIES   BYTES   SAMPLES A DAY   BYTES A DAY
pods               4         4        400 B   1440            140.6 KiB
replicasets.apps   1         2        100 B   720             35.16 KiB
total              5         6        500 B   2160            175.8 KiB

Keys sent: 7, with the limits of PRESET=mimir
Note: 7 distinct keys would be sent, more than LABELSTREAM_MAX_KEYS=5.
Note: Objects of pods with more labels than LABELSTREAM_MAX_LABELS_PER_SERIES=8: 1; labels that would be left out of them: 3.

Suggested filters, owner-like keys first:
LABELSTREAM_LABELS_FILTERS='^app$,^team$,^Team$'

Owner-like keys that disagree in spelling, and how often each is used:
  team: team (2), Team (1)
`
	const narrow = `KEY                                                KIND               SOURCE       COVERAGE   VALUES   LONGEST   SENT                                                                  PROBLEMS                                        EXAMPLE
app                                                pods               label        100%       4        17        by ^app$                                                              1 unsafe left out, 1 truncated, 1 empty left out   a
team                                               replicasets.apps   label        100%       ≈1       1         by team                                                               -                                               a�[31m��b
kubectl.kubernetes.io/last-applied-configuration   replicasets.apps   annotation   100%       1        2         no: excluded by ^kubectl\.kubernetes\.io/last-applied-configuration$   -                                               ééééééééééééééééééééééé…
`
	squeeze := func(text string) string {
		var lines []string
		for line := range strings.Lines(text) {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
		return strings.Join(lines, "\n")
	}
	if diff := cmp.Diff(squeeze(narrow+tail), squeeze(write(t, r, "table"))); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	wide := strings.Split(squeeze(write(t, r, "wide")), "\n")
	if want := "KEY OBJECTS KIND SOURCE COVERAGE VALUES LONGEST SENT PROBLEMS EXAMPLE"; wide[0] != want {
		t.Errorf("the wide table begins with %q, want %q", wide[0], want)
	}
	if want := strings.Repeat("é", 30); !strings.HasSuffix(wide[3], " "+want) || !strings.Contains(wide[3], "configuration 1 replicasets.apps") {
		t.Errorf("wide line %q, want all of %s", wide[3], want)
	}
}

// TestHTML wants one page that loads nothing, whose table has the report's rows.
func TestHTML(t *testing.T) {
	r := wantReport()
	r.Keys = r.Keys[:2]
	r.Keys[1].Example = `"><script>alert(1)</script>`
	root, err := html.Parse(strings.NewReader(write(t, r, "html")))
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	var bars []string
	for n := range root.Descendants() {
		switch {
		case n.Data == "script" || n.Data == "link" || n.Data == "img":
			t.Errorf("the page has an element %s", n.Data)
		case n.Type == html.ElementNode && n.Data == "td":
			rows[len(rows)-1] = append(rows[len(rows)-1], textOf(n))
		case n.Type == html.ElementNode && n.Data == "tr":
			rows = append(rows, nil)
		}
		for _, a := range n.Attr {
			if a.Key == "src" || a.Key == "href" {
				t.Errorf("the page refers to %s", a.Val)
			}
			if a.Key == "style" {
				bars = append(bars, a.Val)
			}
		}
	}
	want := [][]string{
		nil, {"team", "team (2), Team (1)"},
		nil, {"pods", "4", "4", "1440", "400 B", "140.6 KiB"}, {"replicasets.apps", "1", "2", "720", "100 B", "35.16 KiB"},
		nil,
		{"app", "pods", "label", "100% (4)", "4", "17", "by ^app$", "1 unsafe left out, 1 truncated, 1 empty left out", "a"},
		{"team", "replicasets.apps", "label", "100% (1)", "1", "1", "by team", "", `"><script>alert(1)</script>`},
	}
	if diff := cmp.Diff(want, rows, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"width:100%", "width:100%", "width:100%", "width:0%"}, bars); diff != "" {
		t.Errorf("bars (-want +got):\n%s", diff)
	}
}

func textOf(n *html.Node) string {
	text := ""
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			text += d.Data
		}
	}
	return text
}

// TestCoverage counts what a simple count of everything does.
func TestCoverage(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	c := NewCollector(loadConfig(t, nil), Options{})
	objects, values := map[string]int64{}, map[string]map[string]bool{}
	const n = 3000
	all := make([]record.Object, n)
	for i := range all {
		for key := range 60 {
			if random.IntN(60) <= key {
				continue
			}
			name, value := fmt.Sprintf("key-%02d", key), fmt.Sprint(random.IntN(1+key*8))
			all[i].Labels = append(all[i].Labels, pairs(name+"="+value)...)
			objects[name]++
			if values[name] == nil {
				values[name] = map[string]bool{}
			}
			values[name][value] = true
		}
	}
	observe(c, podKind, all...)
	r := c.Report()
	if len(r.Keys) != len(objects) {
		t.Errorf("%d keys, want %d", len(r.Keys), len(objects))
	}
	for i, k := range r.Keys {
		coverage := float64(objects[k.Key]) / n * 100
		if k.Objects != objects[k.Key] || k.Coverage < coverage-.005 || k.Coverage > coverage+.005 {
			t.Errorf("%s: %d objects, %v %%; want %d, %v %%", k.Key, k.Objects, k.Coverage, objects[k.Key], coverage)
		}
		if k.Exactness != Exact || k.Distinct != int64(len(values[k.Key])) {
			t.Errorf("%s: %s %d values, want %d", k.Key, k.Exactness, k.Distinct, len(values[k.Key]))
		}
		if i > 0 && k.Coverage > r.Keys[i-1].Coverage {
			t.Errorf("%s has more coverage than %s before it", k.Key, r.Keys[i-1].Key)
		}
	}
}

// TestEstimates are never above the number of objects.
func TestEstimates(t *testing.T) {
	c := NewCollector(loadConfig(t, nil), Options{})
	all := make([]record.Object, 5000)
	for i := range all {
		for key := range 10 {
			all[i].Labels = append(all[i].Labels, pairs(fmt.Sprintf("key-%d=%d-%d", key, key, i))...)
		}
	}
	observe(c, podKind, all...)
	for _, k := range c.Report().Keys {
		if k.Exactness != Estimate || k.Distinct > 5000 || k.Distinct < 4900 {
			t.Errorf("%s: %s %d values, want an estimate of 5000", k.Key, k.Exactness, k.Distinct)
		}
	}
}

// TestTooManyKeys counts the first, and says so.
func TestTooManyKeys(t *testing.T) {
	c := NewCollector(loadConfig(t, map[string]string{"MAX_KEYS": "0"}), Options{})
	for i := range maxKeys + 7 {
		c.Observe(&record.Object{Labels: pairs(fmt.Sprint("key-", i, "="))}, &record.Record{Kind: podKind}, 0, record.Drops{})
	}
	r := c.Report()
	want := []string{"Only the first 20000 keys are counted: 7 labels and annotations have others, and are in no row"}
	if diff := cmp.Diff(want, r.Notes); diff != "" || len(r.Keys) != maxKeys {
		t.Errorf("%d keys, notes (-want +got):\n%s", len(r.Keys), diff)
	}
}

func TestMeaning(t *testing.T) {
	for key, want := range map[string]string{
		"Team": "team", "team": "team", "team.example.com/name": "team", "example.com/team-name": "team", "teamId": "team", "squad": "squad",
		"cost_center": "cost-center", "costCentre": "cost-center", "finops.example.com/cost-center": "cost-center",
		"app.kubernetes.io/name": "app", "k8s-app": "app", "app.kubernetes.io/instance": "", "steam": "", "name": "", "kubernetes.io/metadata.name": "",
	} {
		if got := meaning(key); got != want {
			t.Errorf("%s means %q, want %q", key, got, want)
		}
	}
}

// TestSuggestedFilters has the limits of what is suggested.
func TestSuggestedFilters(t *testing.T) {
	keys := []Key{
		{Key: "zone", Source: "label", Coverage: 100, Distinct: 100, Exactness: Exact},
		{Key: "one", Source: "label", Coverage: 100, Distinct: 1, Exactness: Exact},
		{Key: "many", Source: "label", Coverage: 100, Distinct: 101, Exactness: Exact},
		{Key: "full", Source: "label", Coverage: 100, Distinct: 50, Exactness: AtLeast},
		{Key: "pod-template-hash", Source: "label", Coverage: 100, Distinct: 50, Exactness: Exact},
		{Key: "note", Source: "annotation", Coverage: 100, Distinct: 50, Exactness: Exact},
		{Key: "x.io/stage", Source: "label", Coverage: 50, Distinct: 2, Exactness: Exact},
		{Key: "rare", Source: "label", Coverage: 49, Distinct: 2, Exactness: Exact},
		{Key: "owner", Source: "label", Coverage: 1, Distinct: 30_000, Exactness: Estimate},
		{Key: "owner", Source: "label", Kind: "other", Coverage: 1, Distinct: 1, Exactness: Exact},
		{Key: "Owner", Source: "label", Coverage: 0.9, Distinct: 1, Exactness: Exact},
		{Key: "team", Source: "label", Coverage: 100, Reason: Excluded},
		{Key: "app", Source: "label", Coverage: 100, NameTooLong: true},
	}
	if got, want := suggestFilters(keys), `^owner$,^zone$,^x\.io/stage$`; got != want {
		t.Errorf("suggested %s, want %s", got, want)
	}
	keys = nil
	for i := range maxSuggested + 1 {
		keys = append(keys, Key{Key: fmt.Sprintf("team.v%d/id", i), Source: "label", Coverage: 100})
	}
	if got := strings.Count(suggestFilters(keys), "$"); got != maxSuggested {
		t.Errorf("%d filters, want %d", got, maxSuggested)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriteError(t *testing.T) {
	for _, output := range Outputs {
		if err := wantReport().Write(brokenWriter{}, output); err == nil || err.Error() != "write the report: disk full" {
			t.Errorf("%s: error %v", output, err)
		}
	}
}
