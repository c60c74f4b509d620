// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/kustomize/kyaml/yaml"

	"labelstream/test/monitoring"
)

var update = flag.Bool("update", false, "write the chart's README and files anew")

// table is where the README has the values.
var table = regexp.MustCompile(`(?s)(<!-- values -->\n).*(<!-- end of values -->)`)

// TestDocument wants the README to have the values with what values.yaml says of
// them, and the chart's files to be those of the manifests.
func TestDocument(t *testing.T) {
	const readme = Dir + "/README.md"
	values, err := os.ReadFile(Dir + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	document, err := yaml.Parse(string(values))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	rows := "| value | default | |\n|---|---|---|\n" + strings.Join(rowsOf(t, "", document.YNode()), "")
	mustBe(t, readme, table.ReplaceAll(text, []byte("${1}\n"+strings.ReplaceAll(rows, "$", "$$")+"\n${2}")))
	for _, name := range []string{"dashboard.json", "prometheusrule.yaml"} {
		text, err := os.ReadFile(filepath.Join(monitoring.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		mustBe(t, filepath.Join(Dir, "files", name), text)
	}
}

// mustBe demands that a file holds the text, or writes it.
func mustBe(t *testing.T, path string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("%s is not up to date, run make docs (-want +got):\n%s", path,
			cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")))
	}
}

// rowsOf are the values of a mapping as lines of a table. A mapping whose values
// have comments is none itself.
func rowsOf(t *testing.T, prefix string, mapping *yaml.Node) (rows []string) {
	t.Helper()
	for i := 0; i < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		path := prefix + key.Value
		if value.Kind == yaml.MappingNode && len(value.Content) > 0 && value.Content[0].HeadComment != "" ||
			value.Kind == yaml.MappingNode && len(value.Content) > 1 && value.Content[1].Kind == yaml.MappingNode {
			rows = append(rows, rowsOf(t, path+".", value)...)
			continue
		}
		comment := strings.ReplaceAll(strings.TrimPrefix(key.HeadComment, "# "), "\n# ", " ")
		if comment == "" {
			t.Errorf("values.yaml says nothing of %s", path)
		}
		value.Style = yaml.FlowStyle
		text, err := yaml.NewRNode(value).String()
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, fmt.Sprintf("| `%s` | `%s` | %s |\n", path, strings.TrimSpace(text), comment))
	}
	return rows
}

// fits is the least that the chart needs.
const fits = "destination=http://collector"

// mistakes are values that the chart refuses, and the line that says so.
var mistakes = []struct{ value, line string }{
	{"destinatoin=http://collector", "- at '': additional properties 'destinatoin' not allowed"},
	{"destination=", "- destination: say where to send, such as http://prometheus.monitoring:9090/api/v1/write"},
	{"destination=collector:9090", "- at '/destination': 'collector:9090' does not match pattern '^(https?://[^ ]+)?$'"},
	{"preset=thanos", "- at '/preset': value must be one of '', 'cloudzero', 'prometheus', 'mimir', 'victoriametrics'"},
	{"resources=pods", "- at '/resources': got string, want array"},
	{"resources.limits.memory=1Gi", "- at '/resources': got object, want array"},
	{"resources={}", "- at '/resources/0': '' does not match pattern '^(\\\\*\\\\.)?[a-z0-9][-.a-z0-9]*$'"},
	{"resources={Pod}", "- at '/resources/0': 'Pod' does not match pattern '^(\\\\*\\\\.)?[a-z0-9][-.a-z0-9]*$'"},
	{"resources={pods,pods}", "- at '/resources': items at 0 and 1 are equal"},
	{"resources={pods,deployments}", `- resources: "deployments" is not in the core API group; write its plural and its group, such as deployments.apps`},
	{"changes=poll", "- at '/changes': value must be one of 'watch', 'webhook', 'none'"},
	{"mode=daemonset", "- at '/mode': value must be one of 'deployment', 'cronjob', 'job'"},
	{"replicas=0", "- at '/replicas': minimum: got 0, want 1"},
	{"replicas=2,changes=webhook", "- replicas: with changes: webhook there is one, since two have no order; several are for changes: watch"},
	{"replicas=2,mode=job", "- replicas: a job has one; several are for mode: deployment"},
	{"mode=cronjob,changes=webhook", "- changes: webhook is for mode: deployment; a backfill has no changes"},
	{"mode=job,monitoring.serviceMonitor.enabled=true", "- monitoring.serviceMonitor: it is for mode: deployment"},
	{"settings.SEND_TIMEOUT.seconds=5", "- at '/settings/SEND_TIMEOUT': got object, want array"},
	{"settings.sendTimeout=5s", "- settings.sendTimeout: write SEND_TIMEOUT"},
	{"settings.LABELSTREAM_SEND_TIMEOUT=5s", "- settings.LABELSTREAM_SEND_TIMEOUT: write SEND_TIMEOUT"},
	{"settings.LABELS_RESOURCES=pods", "- settings.LABELS_RESOURCES: write the value resources instead"},
	{"auth.token=abc", "- at '/auth': additional properties 'token' not allowed"},
	{"auth.bearerTokenKey=token", "- auth.secret: say which Secret has the keys"},
	{"auth.secret=collector", "- auth: say which keys of auth.secret are for what"},
	{"auth.secret=collector,auth.username=me,auth.caKey=ca", "- auth: username and passwordKey go together"},
	{"auth.secret=collector,auth.httpClientConfigKey=http.yaml,auth.caKey=ca", "- auth.httpClientConfigKey: the file says all of it; leave the other keys out"},
	{"webhook.certificate=letsencrypt", "- at '/webhook/certificate': value must be one of 'self-signed', 'cert-manager'"},
	{"webhook.hostNetwork=true", "- webhook.hostNetwork: it is for changes: webhook"},
	{"changes=webhook,webhook.hostNetwork=true,webhook.port=10250", "- webhook.port: in the host's network 10250 is the kubelet's; choose another one"},
	{"webhook.port=443", "- at '/webhook/port': minimum: got 443, want 1,024"},
	{"changes=webhook,webhook.issuer.name=ours,webhook.issuer.kind=Issuer", "- webhook.issuer: it is for webhook.certificate: cert-manager"},
	{"image.digest=latest", "- at '/image/digest': 'latest' does not match pattern '^(sha256:[0-9a-f]{64})?$'"},
	{"image.tag=1", "- at '/image/tag': got number, want string"},
	{"containerResources.memory=1Gi", "- at '/containerResources': additional properties 'memory' not allowed"},
	{"cronJob.schedule=daily", `- at '/cronJob/schedule': 'daily' does not match pattern '^(@[a-z]+|\\S+( +\\S+){4})$'`},
	{"serviceAccount.create=false", "- serviceAccount.name: say which account the pods have"},
}

// TestMistakes gives the chart values that are wrong, each beside others that fit.
func TestMistakes(t *testing.T) {
	t.Parallel()
	for _, m := range mistakes {
		t.Run(m.value, func(t *testing.T) {
			t.Parallel()
			out, err := Run(t.Context(), t.TempDir(), "", "template", "labelstream", Dir, "--set", fits, "--set", m.value)
			if err == nil {
				t.Fatalf("they are taken:\n%.200s", out)
			}
			for line := range strings.Lines(err.Error()) {
				if strings.TrimSpace(line) == m.line {
					return
				}
			}
			t.Errorf("the error has no line %q:\n%v", m.line, err)
		})
	}
}

// TestLint has helm say what is unusual about the chart.
func TestLint(t *testing.T) {
	t.Parallel()
	if _, err := Run(t.Context(), t.TempDir(), "", "lint", "--strict", Dir, "--set", fits); err != nil {
		t.Error(err)
	}
}

var fence = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// TestExamples gives the chart the values that documents show: as they are, or as
// those of Argo CD and Flux.
func TestExamples(t *testing.T) {
	t.Parallel()
	shown := 0
	for _, path := range []string{Dir + "/README.md", "../../docs/webhook.md"} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range fence.FindAllSubmatch(text, -1) {
			example, err := yaml.Parse(string(block[1]))
			if err != nil {
				t.Fatalf("%v in\n%s", err, block[1])
			}
			for _, at := range [][]string{{"spec", "source", "helm", "valuesObject"}, {"spec", "values"}} {
				if values, err := example.Pipe(yaml.Lookup(at...)); err != nil || values != nil {
					example = values
				}
			}
			file := filepath.Join(t.TempDir(), "values.yaml")
			if err := os.WriteFile(file, []byte(example.MustString()), 0o600); err != nil {
				t.Fatal(err)
			}
			shown++
			if _, err := Run(t.Context(), t.TempDir(), "", "template", "labelstream", Dir, "--set", fits, "--values", file); err != nil {
				t.Errorf("%v with\n%s", err, block[1])
			}
		}
	}
	if shown < 6 {
		t.Errorf("%d examples were found", shown)
	}
}
