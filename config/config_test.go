// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	promconfig "github.com/prometheus/common/config"
)

// setenv makes the variables with our prefix these, for the time of the test.
// Names are given without the prefix.
func setenv(t *testing.T, settings map[string]string) {
	t.Helper()
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, prefix+"_") {
			continue
		}
		t.Setenv(name, value) // puts it back in the end
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range settings {
		t.Setenv(prefix+"_"+name, value)
	}
}

// with returns settings that are valid together with those given.
func with(settings map[string]string) map[string]string {
	all := map[string]string{"DESTINATION": "https://collector.example.com/write"}
	maps.Copy(all, settings)
	return all
}

func settingNames() []string {
	var names []string
	for _, s := range settingsOf(new(environment)) {
		names = append(names, s.name)
	}
	return names
}

// loaded returns what Load makes of the settings, which must be valid.
func loaded(t *testing.T, settings map[string]string) *Config {
	t.Helper()
	setenv(t, settings)
	cfg, err := Load(false)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return cfg
}

// refused returns the lines of Load's error.
func refused(t *testing.T, settings map[string]string) []string {
	t.Helper()
	setenv(t, settings)
	cfg, err := Load(false)
	if err == nil || cfg != nil {
		t.Fatalf("Load = %+v, %v, want an error alone", cfg, err)
	}
	return strings.Split(err.Error(), "\n")
}

// diff compares patterns and URLs by their text, and proxies by their settings.
func diff(want, got any) string {
	return cmp.Diff(want, got,
		cmp.Transformer("pattern", func(p *Pattern) string { return p.String() }),
		cmp.Transformer("url", func(u *url.URL) string { return fmt.Sprint(u) }),
		cmp.Comparer(func(a, b promconfig.ProxyConfig) bool {
			return a.ProxyFromEnvironment == b.ProxyFromEnvironment && a.NoProxy == b.NoProxy && fmt.Sprint(a.ProxyURL) == fmt.Sprint(b.ProxyURL)
		}))
}

func patterns(texts ...string) Patterns {
	var p Patterns
	for _, text := range texts {
		p = append(p, &Pattern{Regexp: regexp.MustCompile(text)})
	}
	return p
}

func selected(t *testing.T, text string) (s Selector) {
	t.Helper()
	if err := s.Decode(text); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestLoad has the default of every setting, and another value. Those of
// authentication exclude each other, see TestLoadAuth.
func TestLoad(t *testing.T) {
	destination := &url.URL{
		Scheme: "https", User: url.UserPassword("user", "secret"), Host: "collector.example.com:8443", Path: "/write", RawQuery: "tenant=a@b",
	}
	tests := []struct {
		setting, field string
		byDefault      any
		text           string
		want           any
	}{
		{"DESTINATION", "Destination", URL{&url.URL{Scheme: "https", Host: "collector.example.com", Path: "/write"}}, destination.String(), URL{destination}},
		{"LABELS_ENABLED", "Labels.Enabled", true, "false", false},
		{"LABELS_FILTERS", "Labels.Filters", patterns(`.*`), "^app$, ^.{1,20}$,team", patterns(`^app$`, `^.{1,20}$`, `team`)},
		{"LABELS_EXCLUDE", "Labels.Exclude", Patterns(nil), "internal", patterns(`internal`)},
		{"LABELS_RESOURCES", "Labels.Resources", List{"pods", "namespaces"}, "pods[team in (a,b),!x], apps.example.com, *.batch", List{"pods[team in (a,b),!x]", "apps.example.com", "*.batch"}},
		{"ANNOTATIONS_ENABLED", "Annotations.Enabled", false, "true", true},
		{"ANNOTATIONS_FILTERS", "Annotations.Filters", patterns(`.*`), "owner\ncost-center", patterns(`owner`, `cost-center`)},
		{"ANNOTATIONS_EXCLUDE", "Annotations.Exclude", patterns(`^kubectl\.kubernetes\.io/last-applied-configuration$`), "", Patterns(nil)},
		{"ANNOTATIONS_RESOURCES", "Annotations.Resources", List{"pods", "namespaces"}, "nodes", List{"nodes"}},
		{"NAMESPACES", "Namespaces", List(nil), "production,staging", List{"production", "staging"}},
		{"NAMESPACES_EXCLUDE", "NamespacesExclude", List(nil), "kube-system", List{"kube-system"}},
		{"LABEL_SELECTOR", "LabelSelector", Selector{}, "team in (a, b),!test", selected(t, "team in (a,b),!test")},
		{"NAMESPACE_SELECTOR", "NamespaceSelector", Selector{}, "a!=b", selected(t, "a!=b")},
		{"OWNER_LABELS", "OwnerLabels", false, "true", true},
		{"INHERIT_NAMESPACE_LABELS", "InheritNamespaceLabels", Patterns(nil), "^team$,cost", patterns(`^team$`, `cost`)},
		{"INHERITED_LABEL", "InheritedLabel", "", "inherited", "inherited"},
		{"RENAME", "Rename", Renames(nil), "team.example.com/owner=owner, Team=team", Renames{{"team.example.com/owner", "owner"}, {"Team", "team"}}},
		{"LOWERCASE_VALUES", "LowercaseValues", Patterns(nil), "^team$", patterns(`^team$`)},
		{"PRESET", "Preset", PresetCloudZero, "mimir", PresetMimir},
		{"SERIES", "Series", FormCloudZero, "cloudzero", FormCloudZero},
		{"MAX_LABELS_PER_SERIES", "MaxLabelsPerSeries", 0, "8", 8},
		{"LABEL_NAME_MAX_BYTES", "LabelNameMaxBytes", 0, "16", 16},
		{"MAX_KEYS", "MaxKeys", 300, "0", 0},
		{"METRIC_PREFIX", "MetricPrefix", "cloudzero_", "", ""},
		{"EXTERNAL_LABELS", "ExternalLabels", Pairs(nil), `cluster = east, team=a\,b`, Pairs{"cluster": "east", "team": "a,b"}},
		{"NAMES", "Names", NamesRaw, "underscore", NamesUnderscore},
		{"UNSAFE_VALUES", "UnsafeValues", UnsafeValuesDrop, "keep", UnsafeValuesKeep},
		{"VALUE_MAX_BYTES", "ValueMaxBytes", 2048, "16", 16},
		{"BATCH_SIZE", "BatchSize", 500, "10000", 10000},
		{"SEND_INTERVAL", "SendInterval", 10 * time.Second, "10ms", 10 * time.Millisecond},
		{"SEND_TIMEOUT", "SendTimeout", 30 * time.Second, "10m", 10 * time.Minute},
		{"SENDERS", "Senders", 1, "64", 64},
		{"PROTOCOL", "Protocol", ProtocolAuto, "2.0", Protocol2},
		{"ON_REFUSED", "OnRefused", OnRefusedHalve, "drop", OnRefusedDrop},
		{"STALE_MARKERS", "StaleMarkers", false, "true", true},
		{"ONCE_TIMEOUT", "OnceTimeout", time.Hour, "168h", 168 * time.Hour},
		{"PAGE_SIZE", "PageSize", 500, "1", 1},
		{"CHANGES", "Changes", ChangesWatch, "none", ChangesNone},
		{"RESYNC_INTERVAL", "ResyncInterval", 3 * time.Hour, "0", time.Duration(0)},
		{"LEADER_ELECTION", "LeaderElection", false, "true", true},
		{"LEASE_NAME", "LeaseName", "labelstream", "labelstream.east", "labelstream.east"},
		{"POD_NAMESPACE", "PodNamespace", "", "cost", "cost"},
		{"WEBHOOK_ADDRESS", "WebhookAddress", ":8443", "127.0.0.1:9443", "127.0.0.1:9443"},
		{"WEBHOOK_PATH", "WebhookPath", "/validate", "/validate/s3cret", "/validate/s3cret"},
		{"WEBHOOK_CERT_DIR", "WebhookCertDir", "", "/etc/webhook", "/etc/webhook"},
		{"WEBHOOK_NAME", "WebhookName", "labelstream-webhook", "webhook", "webhook"},
		{"WEBHOOK_CLIENT_CA_FILE", "WebhookClientCAFile", "", "/etc/clients.crt", "/etc/clients.crt"},
		{"SHUTDOWN_TIMEOUT", "ShutdownTimeout", 20 * time.Second, "0s", time.Duration(0)},
		{"STATUS_ADDRESS", "StatusAddress", ":8080", "127.0.0.1:0", "127.0.0.1:0"},
		{"PPROF", "Pprof", false, "true", true},
		{"LOG_LEVEL", "LogLevel", "info", "debug", "debug"},
		{"LOG_FORMAT", "LogFormat", "", "json", "json"},
	}
	settings := make(map[string]string)
	for _, test := range tests {
		settings[test.setting] = test.text
	}
	for _, name := range settingNames() {
		if _, ok := settings[name]; !ok && !slices.Contains(authSettings, name) {
			t.Errorf("%s is not in this test", name)
		}
	}
	before, after := loaded(t, with(nil)), loaded(t, settings)
	for _, test := range tests {
		if d := diff(test.byDefault, fieldOf(before, test.field)); d != "" {
			t.Errorf("%s by default: -want +got\n%s", test.setting, d)
		}
		if d := diff(test.want, fieldOf(after, test.field)); d != "" {
			t.Errorf("%s=%s: -want +got\n%s", test.setting, test.text, d)
		}
	}
}

// TestPresets has the row of each receiver. What is set wins, also over a row.
func TestPresets(t *testing.T) {
	row := func(series, names, unsafe, resync, markers, labels, name, value, keys, protocol string) map[string]any {
		return map[string]any{
			"SERIES": series, "NAMES": names, "UNSAFE_VALUES": unsafe, "RESYNC_INTERVAL": resync, "STALE_MARKERS": markers, "MAX_LABELS_PER_SERIES": labels,
			"LABEL_NAME_MAX_BYTES": name, "VALUE_MAX_BYTES": value, "MAX_KEYS": keys, "PROTOCOL": protocol,
		}
	}
	for preset, want := range map[string]map[string]any{
		"cloudzero":       row("cloudzero", "raw", "drop", "3h0m0s", "false", "0", "0", "2048", "300", "auto"),
		"prometheus":      row("kube-state-metrics", "underscore", "keep", "4m0s", "true", "0", "0", "2048", "0", "auto"),
		"mimir":           row("kube-state-metrics", "underscore", "keep", "4m0s", "true", "30", "1024", "2048", "0", "auto"),
		"victoriametrics": row("kube-state-metrics", "underscore", "keep", "4m0s", "true", "40", "256", "4096", "0", "1.0"),
	} {
		cfg := loaded(t, with(map[string]string{"PRESET": preset}))
		if d := diff(want, cfg.PresetValues); d != "" {
			t.Errorf("PRESET=%s: -want +got\n%s", preset, d)
		}
		if prefix := cfg.MetricPrefix; (prefix == "kube_") != (want["SERIES"] == "kube-state-metrics") {
			t.Errorf("PRESET=%s: the prefix is %q", preset, prefix)
		}
	}
	set := map[string]string{"PRESET": "victoriametrics", "SERIES": "cloudzero", "RESYNC_INTERVAL": "1h", "PROTOCOL": "auto", "METRIC_PREFIX": "k8s_"}
	want := row("cloudzero", "raw", "keep", "1h0m0s", "true", "40", "256", "4096", "0", "auto")
	if cfg := loaded(t, with(set)); cmp.Diff(want, cfg.PresetValues) != "" || cfg.MetricPrefix != "k8s_" {
		t.Errorf("what is set does not win: prefix %s, -want +got\n%s", cfg.MetricPrefix, cmp.Diff(want, cfg.PresetValues))
	}
}

func TestDiscarded(t *testing.T) {
	set := map[string]string{"METRIC_PREFIX": "k8s_", "EXTERNAL_LABELS": "label_a=1,cluster=2"}
	want := []string{
		"LABELSTREAM_METRIC_PREFIX: the collector keeps metrics that begin with cloudzero_, want that, or another PRESET",
		"LABELSTREAM_EXTERNAL_LABELS: the collector keeps labels that begin with label_, want label_cluster, or another PRESET",
	}
	if d := cmp.Diff(want, loaded(t, with(set)).Discarded()); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	form := loaded(t, with(map[string]string{"SERIES": "kube-state-metrics"})).Discarded()
	if d := cmp.Diff([]string{"LABELSTREAM_SERIES: of this form the collector keeps kube_pod_labels alone, want cloudzero, or another PRESET"}, form); d != "" {
		t.Errorf("the form: -want +got\n%s", d)
	}
	set["PRESET"], set["SERIES"] = "mimir", "cloudzero"
	if got := loaded(t, with(set)).Discarded(); got != nil {
		t.Errorf("Mimir discards nothing, got %q", got)
	}
}

// fieldOf returns the value of a field, which may be one of a field.
func fieldOf(cfg *Config, path string) any {
	value := reflect.ValueOf(cfg).Elem()
	for name := range strings.SplitSeq(path, ".") {
		value = value.FieldByName(name)
	}
	return value.Interface()
}

// TestOnlyThePodsNamespaceIsReadWithoutThePrefix sets every name without the
// prefix to a value that would change the setting or be refused.
func TestOnlyThePodsNamespaceIsReadWithoutThePrefix(t *testing.T) {
	want := loaded(t, with(nil))
	want.PodNamespace = "cost"
	for _, s := range settingsOf(new(environment)) {
		value := "cost"
		if s.name != "POD_NAMESPACE" && s.value.Kind() == reflect.Bool {
			value = fmt.Sprint(s.tag("default") == "false")
		}
		t.Setenv(s.name, value)
	}
	if d := diff(want, loaded(t, with(nil))); d != "" {
		t.Error("-want +got\n" + d)
	}
	if cfg := loaded(t, with(map[string]string{"POD_NAMESPACE": "own"})); cfg.PodNamespace != "own" {
		t.Errorf("namespace %q, want the one with the prefix", cfg.PodNamespace)
	}
}

func TestDryRunNeedsNoDestination(t *testing.T) {
	setenv(t, nil)
	if cfg, err := Load(true); err != nil || cfg.Destination.URL != nil {
		t.Errorf("Load = %v, %v, want no destination", cfg, err)
	}
	setenv(t, map[string]string{"DESTINATION": "collector"})
	if _, err := Load(true); err == nil {
		t.Error("a dry run accepts a wrong destination")
	}
}

func TestRank(t *testing.T) {
	source := &LabelSource{Filters: patterns(`^app$`, `team`, `^team$`), Exclude: patterns(`internal`, `^x-`)}
	const not = -1
	for key, want := range map[string]int{
		"app": 0, "example.com/teams": 1, "team-x-": 1, "team": 1,
		"app2": not, "kubernetes.io/app": not, "": not, "team.internal/team": not, "x-team": not,
	} {
		rank, ok := source.Rank(key)
		if ok != (want != not) || ok && rank != want {
			t.Errorf("Rank(%q) = %v, %v, want %v", key, rank, ok, want)
		}
	}
	cfg := loaded(t, with(nil))
	for key, want := range map[string]bool{
		"a.example/last-applied-configuration": true, "b.example/xlast-applied-configuration": true,
		"kubectl.kubernetes.io/last-applied-configuration": false,
	} {
		_, isAnnotation := cfg.Annotations.Rank(key)
		_, isLabel := cfg.Labels.Rank(key)
		if isAnnotation != want || !isLabel {
			t.Errorf("by default the annotation %s is kept: %v, want %v, and the label", key, !want, want)
		}
	}
}

func BenchmarkRank(b *testing.B) {
	source := &LabelSource{Filters: patterns(`^app$`, `^team$`, `^cost-`), Exclude: patterns(`last-applied-configuration$`)}
	b.ReportAllocs()
	for b.Loop() {
		source.Rank("app.kubernetes.io/managed-by")
	}
}

// TestFlags wants a flag to win over the environment, and to be named where it is
// wrong: once, also where it sets two settings.
func TestFlags(t *testing.T) {
	setenv(t, with(map[string]string{"LABELS_RESOURCES": "pods", "ANNOTATIONS_RESOURCES": "pods", "NAMESPACES": "", "NAMESPACES_EXCLUDE": "shop"}))
	resources := func(value string) []Flag {
		return []Flag{{"resources", "LABELS_RESOURCES", value}, {"resources", "ANNOTATIONS_RESOURCES", value}}
	}
	cfg, err := Load(false, resources("nodes")...)
	if err != nil || cfg.Labels.Resources[0] != "nodes" || cfg.Annotations.Resources[0] != "nodes" {
		t.Errorf("%v, %+v", err, cfg)
	}
	_, err = Load(false, append(resources("*"), Flag{"namespaces", "NAMESPACES", "shop"}, Flag{"destination", "DESTINATION", "here"})...)
	want := `--resources="*": name the kinds, or whole groups such as *.apps; want a list of plural, plural.group or *.group, such as pods or deployments.apps, each with a label selector in brackets if need be: pods[team in (a,b)], at least one while labels are enabled
--destination="here"; ` + wantURL + `
--namespaces and LABELSTREAM_NAMESPACES_EXCLUDE both name "shop"; want it in one of them`
	if err == nil || err.Error() != want {
		t.Errorf("error\n%v\nwant\n%s", err, want)
	}
}

// TestChanged shows what differs from the defaults, which are the preset's, and no
// secret.
func TestChanged(t *testing.T) {
	got := loaded(t, with(map[string]string{
		"PRESET": "prometheus", "RESYNC_INTERVAL": "4m", "MAX_KEYS": "300", "SENDERS": "1", "LABELS_FILTERS": "^team$\n^app$",
		"DESTINATION": "https://user:canary@collector.example.com/write?canary=canary", "HEADERS": "X-Scope=canary,A=canary", "WEBHOOK_PATH": "/canary",
	})).Changed
	want := []Setting{
		{"LABELSTREAM_LABELS_FILTERS", "^team$\n^app$"},
		{"LABELSTREAM_PRESET", "prometheus"},
		{"LABELSTREAM_MAX_KEYS", "300"},
		{"LABELSTREAM_DESTINATION", "https://collector.example.com/write"},
		{"LABELSTREAM_HEADERS", "A, X-Scope (values not shown)"},
		{"LABELSTREAM_WEBHOOK_PATH", "(not shown)"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
}
