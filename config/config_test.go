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
		cmp.Transformer("pattern", func(r *regexp.Regexp) string { return r.String() }),
		cmp.Transformer("url", func(u *url.URL) string { return fmt.Sprint(u) }),
		cmp.Comparer(func(a, b promconfig.ProxyConfig) bool {
			return a.ProxyFromEnvironment == b.ProxyFromEnvironment && a.NoProxy == b.NoProxy && fmt.Sprint(a.ProxyURL) == fmt.Sprint(b.ProxyURL)
		}))
}

func patterns(texts ...string) Patterns {
	var p Patterns
	for _, text := range texts {
		p = append(p, regexp.MustCompile(text))
	}
	return p
}

func TestLoadDefaults(t *testing.T) {
	got := loaded(t, map[string]string{"DESTINATION": "http://localhost:9090/api/v1/write"})
	want := &Config{
		Labels: LabelSource{
			Enabled:   true,
			Filters:   patterns(`.*`),
			Resources: List{"pods", "namespaces"},
		},
		Annotations: LabelSource{
			Filters:   patterns(`.*`),
			Exclude:   patterns(`^kubectl\.kubernetes\.io/last-applied-configuration$`),
			Resources: List{"pods", "namespaces"},
		},
		Series: Series{
			MetricPrefix:  "cloudzero_",
			Names:         NamesRaw,
			UnsafeValues:  UnsafeValuesDrop,
			ValueMaxBytes: 2048,
		},
		Delivery: Delivery{
			Destination:  URL{&url.URL{Scheme: "http", Host: "localhost:9090", Path: "/api/v1/write"}},
			BatchSize:    500,
			SendInterval: 10 * time.Second,
			SendTimeout:  30 * time.Second,
			Senders:      1,
			Protocol:     ProtocolAuto,
			OnRefused:    OnRefusedHalve,
			Auth:         Auth{HTTPClient: DefaultHTTPClient()},
		},
		OnceTimeout:    time.Hour,
		PageSize:       500,
		Changes:        ChangesWatch,
		ResyncInterval: 3 * time.Hour,
		Webhook: Webhook{
			WebhookAddress: ":8443",
			WebhookPath:    "/validate",
			WebhookName:    "labelstream-webhook",
		},
		Leader:          Leader{LeaseName: "labelstream"},
		ShutdownTimeout: 20 * time.Second,
		StatusAddress:   ":8080",
		LogLevel:        "info",
	}
	if d := diff(want, got); d != "" {
		t.Error("-want +got\n" + d)
	}
}

func TestLoadEverySetting(t *testing.T) {
	settings := map[string]string{
		"DESTINATION":            "https://user:secret@collector.example.com:8443/write?tenant=a@b",
		"LABELS_ENABLED":         "false",
		"LABELS_FILTERS":         "^app$, ^.{1,20}$,team",
		"LABELS_EXCLUDE":         "internal",
		"LABELS_RESOURCES":       "pods, deployments.apps, rollouts.argoproj.io, *.batch",
		"ANNOTATIONS_ENABLED":    "true",
		"ANNOTATIONS_FILTERS":    "owner\ncost-center",
		"ANNOTATIONS_EXCLUDE":    "",
		"ANNOTATIONS_RESOURCES":  "nodes",
		"NAMESPACES":             "production,staging",
		"NAMESPACES_EXCLUDE":     "kube-system",
		"METRIC_PREFIX":          "",
		"EXTERNAL_LABELS":        `cluster = east, team=a\,b`,
		"NAMES":                  "underscore",
		"UNSAFE_VALUES":          "keep",
		"VALUE_MAX_BYTES":        "16",
		"BATCH_SIZE":             "10000",
		"SEND_INTERVAL":          "10ms",
		"SEND_TIMEOUT":           "10m",
		"SENDERS":                "64",
		"PROTOCOL":               "2.0",
		"ON_REFUSED":             "drop",
		"ONCE_TIMEOUT":           "168h",
		"PAGE_SIZE":              "1",
		"CHANGES":                "none",
		"RESYNC_INTERVAL":        "0",
		"LEADER_ELECTION":        "true",
		"LEASE_NAME":             "labelstream.east",
		"WEBHOOK_ADDRESS":        "127.0.0.1:9443",
		"WEBHOOK_PATH":           "/validate/s3cret",
		"WEBHOOK_CERT_DIR":       "/etc/webhook",
		"WEBHOOK_NAME":           "webhook",
		"WEBHOOK_CLIENT_CA_FILE": "/etc/clients.crt",
		"POD_NAMESPACE":          "cost",
		"SHUTDOWN_TIMEOUT":       "0s",
		"PPROF":                  "true",
		"STATUS_ADDRESS":         "127.0.0.1:0",
		"LOG_LEVEL":              "debug",
		"LOG_FORMAT":             "json",
	}
	// Those of authentication exclude each other, see TestLoadAuth.
	for _, s := range settingsOf(new(environment)) {
		if _, ok := settings[s.name]; !ok && !slices.Contains(authSettings, s.name) {
			t.Errorf("%s is not in this test", s.name)
		}
	}
	want := &Config{
		Labels: LabelSource{
			Filters:   patterns(`^app$`, `^.{1,20}$`, `team`),
			Exclude:   patterns(`internal`),
			Resources: List{"pods", "deployments.apps", "rollouts.argoproj.io", "*.batch"},
		},
		Annotations: LabelSource{
			Enabled:   true,
			Filters:   patterns(`owner`, `cost-center`),
			Resources: List{"nodes"},
		},
		Namespaces:        List{"production", "staging"},
		NamespacesExclude: List{"kube-system"},
		Series: Series{
			ExternalLabels: Pairs{"cluster": "east", "team": "a,b"},
			Names:          NamesUnderscore,
			UnsafeValues:   UnsafeValuesKeep,
			ValueMaxBytes:  16,
		},
		Delivery: Delivery{
			Destination: URL{&url.URL{
				Scheme: "https", User: url.UserPassword("user", "secret"),
				Host: "collector.example.com:8443", Path: "/write", RawQuery: "tenant=a@b",
			}},
			BatchSize:    10000,
			SendInterval: 10 * time.Millisecond,
			SendTimeout:  10 * time.Minute,
			Senders:      64,
			Protocol:     Protocol2,
			OnRefused:    OnRefusedDrop,
			Auth:         Auth{HTTPClient: DefaultHTTPClient()},
		},
		OnceTimeout: 168 * time.Hour,
		PageSize:    1,
		Webhook: Webhook{
			WebhookAddress:      "127.0.0.1:9443",
			WebhookPath:         "/validate/s3cret",
			WebhookCertDir:      "/etc/webhook",
			WebhookName:         "webhook",
			WebhookClientCAFile: "/etc/clients.crt",
		},
		Leader: Leader{
			LeaderElection: true,
			LeaseName:      "labelstream.east",
			PodNamespace:   "cost",
		},
		Changes:       ChangesNone,
		Pprof:         true,
		StatusAddress: "127.0.0.1:0",
		LogLevel:      "debug",
		LogFormat:     "json",
	}
	if d := diff(want, loaded(t, settings)); d != "" {
		t.Error("-want +got\n" + d)
	}
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

func TestLoadDestination(t *testing.T) {
	setenv(t, nil)
	cfg, err := Load(true)
	if err != nil {
		t.Fatalf("a dry run without a destination: %v", err)
	}
	if cfg.Destination.URL != nil {
		t.Errorf("destination = %v, want none", cfg.Destination)
	}

	setenv(t, map[string]string{"DESTINATION": "collector"})
	if _, err = Load(true); err == nil {
		t.Error("a dry run accepts a wrong destination")
	}

	const want = "LABELSTREAM_DESTINATION: is required; want an absolute http or https URL, such as https://collector.example.com/api/v1/write"
	for name, settings := range map[string]map[string]string{"unset": nil, "empty": {"DESTINATION": " "}} {
		if d := cmp.Diff([]string{want}, refused(t, settings)); d != "" {
			t.Errorf("%s: -want +got\n%s", name, d)
		}
	}
}

func TestKeep(t *testing.T) {
	source := &LabelSource{
		Filters: patterns(`^app$`, `team`),
		Exclude: patterns(`internal`, `^x-`),
	}
	for key, want := range map[string]bool{
		"app":                  true,
		"app2":                 false,
		"example.com/team":     true,
		"example.com/teams":    true,
		"team.internal/team":   false,
		"x-team":               false,
		"environment":          false,
		"":                     false,
		"internal":             false,
		"team-x-":              true,
		"kubernetes.io/app":    false,
		"a-very-internal-team": false,
	} {
		if got := source.Keep(key); got != want {
			t.Errorf("Keep(%q) = %v, want %v", key, got, want)
		}
	}
	if (&LabelSource{Exclude: patterns(`internal`)}).Keep("app") {
		t.Error("without filters a key is kept")
	}
}

func TestKeepByDefault(t *testing.T) {
	cfg := loaded(t, with(nil))
	for key, want := range map[string]bool{
		"a.example/last-applied-configuration":             true,
		"b.example/xlast-applied-configuration":            true,
		"kubectl.kubernetes.io/last-applied-configuration": false,
		"owner": true,
	} {
		if got := cfg.Annotations.Keep(key); got != want {
			t.Errorf("annotation %s is kept: %v, want %v", key, got, want)
		}
		if !cfg.Labels.Keep(key) {
			t.Errorf("label %s is not kept", key)
		}
	}
}

func BenchmarkKeep(b *testing.B) {
	source := &LabelSource{Filters: patterns(`^app$`, `^team$`, `^cost-`), Exclude: patterns(`last-applied-configuration$`)}
	b.ReportAllocs()
	for b.Loop() {
		source.Keep("app.kubernetes.io/managed-by")
	}
}
