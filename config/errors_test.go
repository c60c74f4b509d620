package config

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What the errors of several cases end in.
const (
	wantPatterns  = "want a list of Go regular expressions, at least one while labels are enabled"
	wantResources = "want a list of plural, plural.group or *.group, such as pods or deployments.apps, at least one while labels are enabled"
	wantNames     = "want a list of namespace names"
	wantPairs     = "want a list of name=value, each name once and without a leading __, no value empty; with NAMES=underscore, names of letters, digits and _, no digit first"
	wantURL       = "want an absolute http or https URL, such as https://collector.example.com/api/v1/write"
	wantAddress   = "want host:port or :port, with port 0 for any free one"
	wantPath      = "WEBHOOK_PATH: not shown, as it may hold a secret; want a path that begins with /, without space, ?, # and %"
	wantPrefix    = "want a metric name: letters, digits, _ and :, no digit first"
)

func TestLoadRefuses(t *testing.T) {
	for _, c := range []struct {
		name, value string
		// want is the error's lines without the prefix of the first name.
		want []string
	}{
		{"LABELS_ENABLED", "yes", []string{`LABELS_ENABLED="yes"; want true or false`}},

		{"LABELS_FILTERS", "a(", []string{`LABELS_FILTERS="a(": missing closing ): "a("; ` + wantPatterns}},
		{"LABELS_FILTERS", "^ok$\n*x\n[z-a]", []string{
			`LABELS_FILTERS="*x": missing argument to repetition operator: "*"; ` + wantPatterns,
			`LABELS_FILTERS="[z-a]": invalid character class range: "z-a"; ` + wantPatterns,
		}},
		{"LABELS_FILTERS", "app,team\nowner", []string{`LABELS_FILTERS="app,team": separated by newlines and by commas; ` + wantPatterns}},
		{"LABELS_FILTERS", " ,", []string{`LABELS_FILTERS=" ,": is empty; ` + wantPatterns}},
		{"LABELS_EXCLUDE", `\`, []string{`LABELS_EXCLUDE="\\": trailing backslash at end of expression: ""; want a list of Go regular expressions`}},

		{"LABELS_RESOURCES", "", []string{`LABELS_RESOURCES="": is empty; ` + wantResources}},
		{"LABELS_RESOURCES", "Pods,*,pods/status,*.,.apps,pods", []string{
			`LABELS_RESOURCES="Pods"; ` + wantResources,
			`LABELS_RESOURCES="*"; ` + wantResources,
			`LABELS_RESOURCES="pods/status"; ` + wantResources,
			`LABELS_RESOURCES="*."; ` + wantResources,
			`LABELS_RESOURCES=".apps"; ` + wantResources,
		}},
		{"LABELS_RESOURCES", "pods,nodes,pods", []string{`LABELS_RESOURCES="pods": is there twice; ` + wantResources}},

		{"NAMESPACES", "a,Production,a,-x", []string{
			`NAMESPACES="Production"; ` + wantNames,
			`NAMESPACES="a": is there twice; ` + wantNames,
			`NAMESPACES="-x"; ` + wantNames,
		}},
		{"NAMESPACES", strings.Repeat("x", 64), []string{`NAMESPACES="` + strings.Repeat("x", 64) + `"; ` + wantNames}},
		{"NAMESPACES_EXCLUDE", "kube_system", []string{`NAMESPACES_EXCLUDE="kube_system"; ` + wantNames}},

		{"METRIC_PREFIX", "1x_", []string{`METRIC_PREFIX="1x_"; ` + wantPrefix}},
		{"EXTERNAL_LABELS", `"c=1,d"`, []string{
			`EXTERNAL_LABELS="\"c=1": has a name with a quote or a space; ` + wantPairs,
			`EXTERNAL_LABELS="d\"": has no =; ` + wantPairs,
		}},
		{"EXTERNAL_LABELS", "a=1,b,=2,c=,__d=3,a=4,e=\xff", []string{
			`EXTERNAL_LABELS="b": has no =; ` + wantPairs,
			`EXTERNAL_LABELS="=2": has no name; ` + wantPairs,
			`EXTERNAL_LABELS="c=": has no value; ` + wantPairs,
			`EXTERNAL_LABELS="__d=3": has a reserved name; ` + wantPairs,
			`EXTERNAL_LABELS="a=4": has a name that was given before; ` + wantPairs,
			`EXTERNAL_LABELS="e=\xff": is not UTF-8; ` + wantPairs,
		}},
		{"NAMES", "Raw", []string{`NAMES="Raw"; want raw or underscore`}},
		{"UNSAFE_VALUES", "", []string{`UNSAFE_VALUES=""; want drop or keep`}},
		{"VALUE_MAX_BYTES", "15", []string{`VALUE_MAX_BYTES="15"; want a whole number from 16 to 262144`}},

		{"BATCH_SIZE", "many", []string{`BATCH_SIZE="many"; want a whole number from 1 to 10000`}},
		{"BATCH_SIZE", "10001", []string{`BATCH_SIZE="10001"; want a whole number from 1 to 10000`}},
		{"SEND_INTERVAL", "9ms", []string{`SEND_INTERVAL="9ms"; want a duration from 10ms to 10m`}},
		{"SEND_TIMEOUT", "-1s", []string{`SEND_TIMEOUT="-1s"; want a duration from 10ms to 10m`}},
		{"SENDERS", "65", []string{`SENDERS="65"; want a whole number from 1 to 64`}},
		{"PROTOCOL", "1", []string{`PROTOCOL="1"; want auto, 1.0 or 2.0`}},
		{"ON_REFUSED", "", []string{`ON_REFUSED=""; want halve or drop`}},

		{"ONCE_TIMEOUT", "169h", []string{`ONCE_TIMEOUT="169h"; want a duration from 1s to 168h`}},
		{"RESYNC_INTERVAL", "999ms", []string{`RESYNC_INTERVAL="999ms"; want 0, or a duration from 1s to 168h`}},
		{"RESYNC_INTERVAL", "-1h", []string{`RESYNC_INTERVAL="-1h"; want 0, or a duration from 1s to 168h`}},
		{"CHANGES", "list", []string{`CHANGES="list"; want watch, webhook or none`}},
		{"WEBHOOK_ADDRESS", "8443", []string{`WEBHOOK_ADDRESS="8443"; ` + wantAddress}},
		{"WEBHOOK_PATH", "s3cret", []string{wantPath}},
		{"WEBHOOK_PATH", "", []string{wantPath}},
		{"WEBHOOK_PATH", "/s3cret?a", []string{wantPath}},
		{"WEBHOOK_PATH", "/s3 cret", []string{wantPath}},
		{"WEBHOOK_PATH", "/s3%20cret", []string{wantPath}},
		{"WEBHOOK_NAME", "a.b", []string{`WEBHOOK_NAME="a.b"; want a name of lower case letters, digits and -`}},
		{"POD_NAMESPACE", "a.b", []string{`POD_NAMESPACE="a.b"; want the name of a namespace`}},
		{"LEASE_NAME", "My Lease", []string{`LEASE_NAME="My Lease"; want a name of lower case letters, digits, - and .`}},
		{"SHUTDOWN_TIMEOUT", "11m", []string{`SHUTDOWN_TIMEOUT="11m"; want a duration from 0s to 10m`}},
		{"STATUS_ADDRESS", "8080", []string{`STATUS_ADDRESS="8080"; ` + wantAddress}},
		{"STATUS_ADDRESS", ":65536", []string{`STATUS_ADDRESS=":65536"; ` + wantAddress}},
		{"LOG_LEVEL", "warning", []string{`LOG_LEVEL="warning"; want error, warn, info or debug`}},
		{"LOG_FORMAT", "logfmt", []string{`LOG_FORMAT="logfmt"; want text or json`}},

		{"DESTINATION", "collector:9090/write", []string{`DESTINATION="collector:9090/write"; ` + wantURL}},
		{"DESTINATION", "ftp://collector/write", []string{`DESTINATION="ftp://collector/write"; ` + wantURL}},
		{"DESTINATION", "http://:9090/write", []string{`DESTINATION="http://:9090/write"; ` + wantURL}},
		{"DESTINATION", "http://collector:99999/write", []string{`DESTINATION="http://collector:99999/write"; ` + wantURL}},
	} {
		t.Run(c.name+"="+c.value, func(t *testing.T) {
			var want []string
			for _, line := range c.want {
				want = append(want, prefix+"_"+line)
			}
			got := refused(t, with(map[string]string{c.name: c.value}))
			if d := cmp.Diff(want, got); d != "" {
				t.Error("-want +got\n" + d)
			}
		})
	}
}

func TestLoadHidesSecrets(t *testing.T) {
	want := []string{"LABELSTREAM_DESTINATION: not shown, as it may hold a secret; " + wantURL}
	for _, value := range []string{
		"ftp://user:s3cret@collector/write",
		"http://user:s3cret%zz@collector/write",
		"http://user:s3cret/part@collector/write",
		"user:s3cret@collector",
		"ftp://collector/write?token=s3cret",
		"ftp://collector/write#s3cret",
	} {
		if d := cmp.Diff(want, refused(t, map[string]string{"DESTINATION": value})); d != "" {
			t.Errorf("%s: -want +got\n%s", value, d)
		}
	}
	got := refused(t, with(map[string]string{"BEARER_TOKEN": "s3cret"}))
	if strings.Contains(got[0], "s3cret") {
		t.Errorf("the value of an unknown variable is in %q", got[0])
	}
}

func TestLoadRefusesTogether(t *testing.T) {
	for _, c := range []struct {
		name     string
		settings map[string]string
		want     []string
	}{
		{
			"nothing enabled",
			map[string]string{"LABELS_ENABLED": "false", "ANNOTATIONS_ENABLED": "false"},
			[]string{"LABELSTREAM_LABELS_ENABLED and LABELSTREAM_ANNOTATIONS_ENABLED are both false, so nothing would be sent; want one of them true"},
		},
		{
			"one off, the other wrong",
			map[string]string{"LABELS_ENABLED": "false", "ANNOTATIONS_ENABLED": "on"},
			[]string{`LABELSTREAM_ANNOTATIONS_ENABLED="on"; want true or false`},
		},
		{
			"namespaces both read and left out",
			map[string]string{"NAMESPACES": "a,b,c", "NAMESPACES_EXCLUDE": "c,b"},
			[]string{
				`LABELSTREAM_NAMESPACES and LABELSTREAM_NAMESPACES_EXCLUDE both name "b"; want it in one of them`,
				`LABELSTREAM_NAMESPACES and LABELSTREAM_NAMESPACES_EXCLUDE both name "c"; want it in one of them`,
			},
		},
		{
			"external labels that are no classic names",
			map[string]string{"NAMES": "underscore", "EXTERNAL_LABELS": "b.c=1,ok=2,1a=3"},
			[]string{
				`LABELSTREAM_EXTERNAL_LABELS="1a": needs NAMES=raw; ` + wantPairs,
				`LABELSTREAM_EXTERNAL_LABELS="b.c": needs NAMES=raw; ` + wantPairs,
			},
		},
		{
			"election with the webhook, which one replica serves",
			map[string]string{"LEADER_ELECTION": "true", "CHANGES": "webhook"},
			[]string{"LABELSTREAM_LEADER_ELECTION and LABELSTREAM_CHANGES are true and webhook; want CHANGES=watch, or one replica without election"},
		},
		{
			"annotations on, without filters and resources",
			map[string]string{"ANNOTATIONS_ENABLED": "true", "ANNOTATIONS_FILTERS": "", "ANNOTATIONS_RESOURCES": ""},
			[]string{
				`LABELSTREAM_ANNOTATIONS_FILTERS="": is empty; ` + strings.ReplaceAll(wantPatterns, "labels", "annotations"),
				`LABELSTREAM_ANNOTATIONS_RESOURCES="": is empty; ` + strings.ReplaceAll(wantResources, "labels", "annotations"),
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, refused(t, with(c.settings))); d != "" {
				t.Error("-want +got\n" + d)
			}
		})
	}
}

// TestRenamed sets everything that was a setting once.
func TestRenamed(t *testing.T) {
	want := []string{
		"LABELSTREAM_LEASE_DURATION is not a setting any more; write nothing, it is not needed",
		"LABELSTREAM_LEASE_NAMESPACE is not a setting any more; write POD_NAMESPACE",
		"LABELSTREAM_MAX_BYTES_PER_SEND is not a setting any more; write nothing, it is not needed",
		"LABELSTREAM_ONCE is not a setting any more; write --once as an argument",
		"LABELSTREAM_POD_NAME is not a setting any more; write nothing, it is not needed",
		"LABELSTREAM_RENEW_DEADLINE is not a setting any more; write nothing, it is not needed",
		"LABELSTREAM_RETRY_PERIOD is not a setting any more; write nothing, it is not needed",
		"LABELSTREAM_WATCH_ENABLED is not a setting any more; write CHANGES=watch, or CHANGES=none for false",
		"LABELSTREAM_WEBHOOK_CERT_FILE is not a setting any more; write WEBHOOK_CERT_DIR, with tls.crt in it",
		"LABELSTREAM_WEBHOOK_CONFIGURATION is not a setting any more; write WEBHOOK_NAME",
		"LABELSTREAM_WEBHOOK_ENABLED is not a setting any more; write CHANGES=webhook",
		"LABELSTREAM_WEBHOOK_KEY_FILE is not a setting any more; write WEBHOOK_CERT_DIR, with tls.key in it",
		"LABELSTREAM_WEBHOOK_RECONNECT is not a setting any more; write nothing, it is not needed",
		"LABELSTREAM_WEBHOOK_SECRET is not a setting any more; write WEBHOOK_NAME",
		"LABELSTREAM_WEBHOOK_SELF_SIGNED is not a setting any more; write nothing: without WEBHOOK_CERT_DIR the certificate is self-signed",
		"LABELSTREAM_WEBHOOK_SERVICE is not a setting any more; write WEBHOOK_NAME",
	}
	settings := with(nil)
	for _, line := range want {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, prefix+"_"), " ")
		settings[name] = "x"
	}
	if d := cmp.Diff(want, refused(t, settings)); d != "" {
		t.Error("-want +got\n" + d)
	}
}

func TestLoadOffNeedsNoFilters(t *testing.T) {
	loaded(t, with(map[string]string{"ANNOTATIONS_FILTERS": "", "ANNOTATIONS_RESOURCES": ""}))
}

func TestLoadAllMistakesAtOnce(t *testing.T) {
	settings := map[string]string{
		"LABELS_FILTERS":  "a(,ok,b",
		"BATCH_SIZE":      "many",
		"SEND_INTERVAL":   "10",
		"PAGE_SIZE":       "0",
		"LOG_LEVEL":       "loud",
		"NAMESPACE":       "production",
		"LABELS_RESOURCE": "pods",
	}
	got := refused(t, settings)
	want := []string{
		`LABELSTREAM_LABELS_FILTERS="a(,ok,b": missing closing ): "a(,ok,b"; ` + wantPatterns,
		`LABELSTREAM_BATCH_SIZE="many"; want a whole number from 1 to 10000`,
		`LABELSTREAM_SEND_INTERVAL="10"; want a duration from 10ms to 10m`,
		`LABELSTREAM_PAGE_SIZE="0"; want a whole number from 1 to 10000`,
		`LABELSTREAM_LOG_LEVEL="loud"; want error, warn, info or debug`,
		`LABELSTREAM_DESTINATION: is required; ` + wantURL,
		`LABELSTREAM_LABELS_RESOURCE is not a setting; the closest is LABELSTREAM_LABELS_RESOURCES`,
		`LABELSTREAM_NAMESPACE is not a setting; the closest is LABELSTREAM_NAMESPACES`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error("-want +got\n" + d)
	}
}

func TestUnknownVariables(t *testing.T) {
	for name, closest := range map[string]string{
		"BATCHSIZE":          "BATCH_SIZE",
		"DESTINATON":         "DESTINATION",
		"LABEL_FILTERS":      "LABELS_FILTERS",
		"ANNOTATION_ENABLED": "ANNOTATIONS_ENABLED",
		"NAMESPACE_EXCLUDED": "NAMESPACES_EXCLUDE",
		"batch_size":         "BATCH_SIZE",
		"":                   "NAMES",
		// These look like service links, and are not.
		"STATUS_PORT":         "STATUS_ADDRESS",
		"PORT":                "PPROF",
		"SERVICE_HOSTS":       "SENDERS",
		"PORT_8443_TCP_PORTS": "ONCE_TIMEOUT",
		"PORT_x_TCP":          "LOG_LEVEL",
		"XSERVICE_HOST":       "ONCE_TIMEOUT",
	} {
		want := []string{"LABELSTREAM_" + name + " is not a setting; the closest is LABELSTREAM_" + closest}
		if d := cmp.Diff(want, refused(t, with(map[string]string{name: "8080"}))); d != "" {
			t.Errorf("%s: -want +got\n%s", name, d)
		}
	}
	t.Setenv("LABELSTREAMER_MODE", "x")
	t.Setenv("labelstream_mode", "x")
	t.Setenv("MY_LABELSTREAM_MODE", "x")
	loaded(t, with(nil))
}

// TestServiceLinksPass sets what the kubelet sets for the Services labelstream
// and labelstream-webhook-v2.
func TestServiceLinksPass(t *testing.T) {
	links := make(map[string]string)
	for _, service := range []string{"", "WEBHOOK_V2_"} {
		maps.Copy(links, map[string]string{
			service + "SERVICE_HOST":         "10.96.0.11",
			service + "SERVICE_PORT":         "8443",
			service + "SERVICE_PORT_HTTPS":   "8443",
			service + "SERVICE_PORT_DNS_UDP": "53",
			service + "PORT":                 "tcp://10.96.0.11:8443",
			service + "PORT_8443_TCP":        "tcp://10.96.0.11:8443",
			service + "PORT_8443_TCP_PROTO":  "tcp",
			service + "PORT_8443_TCP_PORT":   "8443",
			service + "PORT_8443_TCP_ADDR":   "10.96.0.11",
			service + "PORT_53_UDP_ADDR":     "10.96.0.11",
			service + "PORT_9_SCTP":          "sctp://10.96.0.11:9",
		})
	}
	loaded(t, with(links))
}

func TestLevenshtein(t *testing.T) {
	for pair, want := range map[[2]string]int{
		{"", ""}: 0, {"", "abc"}: 3, {"abc", ""}: 3, {"abc", "abc"}: 0, {"abc", "abd"}: 1,
		{"abc", "ac"}: 1, {"ac", "abc"}: 1, {"abc", "bca"}: 2, {"kitten", "sitting"}: 3,
	} {
		if got := levenshtein(pair[0], pair[1]); got != want {
			t.Errorf("levenshtein(%q, %q) = %d, want %d", pair[0], pair[1], got, want)
		}
	}
}
