// SPDX-License-Identifier: Apache-2.0

package config

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What the errors of several cases end in.
const (
	wantPatterns  = "want a list of Go regular expressions, at least one while labels are enabled"
	wantResources = "want a list of plural, plural.group or *.group, such as pods or deployments.apps, each with a label selector in brackets if need be: pods[team in (a,b)], at least one while labels are enabled"
	wantNames     = "want a list of namespace names"
	wantPairs     = "want a list of name=value, each name once and without a leading __, no value empty; with NAMES=underscore, names of letters, digits and _, no digit first"
	wantURL       = "want an absolute http or https URL, such as https://collector.example.com/api/v1/write"
	wantAddress   = "want host:port or :port, with port 0 for any free one"
	wantHidden    = "DESTINATION: not shown, as it may hold a secret; " + wantURL
	wantPath      = "WEBHOOK_PATH: not shown, as it may hold a secret; want a path that begins with /, without space, ?, # and %"
)

func TestLoadRefuses(t *testing.T) {
	for _, c := range []struct {
		name, value string
		// want is the error's lines without the prefix of the first name.
		want []string
	}{
		{"LABELS_ENABLED", "yes", []string{`LABELS_ENABLED="yes"; want true or false`}},
		{"LABELS_FILTERS", "^ok$\n*x\n[z-a]", []string{
			`LABELS_FILTERS="*x": missing argument to repetition operator: "*"; ` + wantPatterns,
			`LABELS_FILTERS="[z-a]": invalid character class range: "z-a"; ` + wantPatterns,
		}},
		{"LABELS_FILTERS", "app,team\nowner", []string{`LABELS_FILTERS="app,team": separated by newlines and by commas; ` + wantPatterns}},
		{"LABELS_FILTERS", " ,", []string{`LABELS_FILTERS=" ,": is empty; ` + wantPatterns}},
		{"LABELS_RESOURCES", "", []string{`LABELS_RESOURCES="": is empty; ` + wantResources}},
		// Deployment, Pod and po are for the API server to answer.
		{"LABELS_RESOURCES", "Deployment,Pod,po,*,pods/status,*.,.apps,pods,pods", []string{
			`LABELS_RESOURCES="*": name the kinds, or whole groups such as *.apps; ` + wantResources,
			`LABELS_RESOURCES="pods/status": keys go to LABELSTREAM_LABELS_FILTERS; ` + wantResources,
			`LABELS_RESOURCES="*."; ` + wantResources,
			`LABELS_RESOURCES=".apps"; ` + wantResources,
			`LABELS_RESOURCES="pods": is there twice; ` + wantResources,
		}},
		{"LABELS_RESOURCES", "pods=[*],nodes=[app,team],*=[*],pods=app,pods[team in a],pods[app,pods:app", []string{
			`LABELS_RESOURCES="pods=[*]": keys go to LABELSTREAM_LABELS_FILTERS; ` + wantResources,
			`LABELS_RESOURCES="nodes=[app,team]": keys go to LABELSTREAM_LABELS_FILTERS; ` + wantResources,
			`LABELS_RESOURCES="*=[*]": keys go to LABELSTREAM_LABELS_FILTERS; ` + wantResources,
			`LABELS_RESOURCES="pods=app": keys go to LABELSTREAM_LABELS_FILTERS; ` + wantResources,
			`LABELS_RESOURCES="pods[team in a]": unable to parse requirement: found 'a' expected: '('; ` + wantResources,
			`LABELS_RESOURCES="pods[app,pods:app": keys go to LABELSTREAM_LABELS_FILTERS; ` + wantResources,
		}},
		{"ANNOTATIONS_RESOURCES", "pods(owner", []string{
			`ANNOTATIONS_RESOURCES="pods(owner": keys go to LABELSTREAM_ANNOTATIONS_FILTERS; ` + strings.ReplaceAll(wantResources, "labels", "annotations"),
		}},
		{"NAMESPACES", "a,kube_system,-x," + strings.Repeat("x", 64), []string{
			`NAMESPACES="kube_system"; ` + wantNames,
			`NAMESPACES="-x"; ` + wantNames,
			`NAMESPACES="` + strings.Repeat("x", 64) + `"; ` + wantNames,
		}},
		{"METRIC_PREFIX", "1x_", []string{`METRIC_PREFIX="1x_"; want a metric name: letters, digits, _ and :, no digit first`}},
		{"EXTERNAL_LABELS", "a=1,b,=2,c=,__d=3,a=4,e=\xff,\"f=5", []string{
			`EXTERNAL_LABELS="b": is not name=value; ` + wantPairs,
			`EXTERNAL_LABELS="=2": is not name=value; ` + wantPairs,
			`EXTERNAL_LABELS="c=": is not name=value; ` + wantPairs,
			`EXTERNAL_LABELS="__d=3": has a reserved name; ` + wantPairs,
			`EXTERNAL_LABELS="a=4": has a name that was given before; ` + wantPairs,
			`EXTERNAL_LABELS="e=\xff": is not UTF-8; ` + wantPairs,
			`EXTERNAL_LABELS="\"f=5": has a name with a quote or a space; ` + wantPairs,
		}},
		{"RENAME", "a=b,a=c,d,e=e", []string{
			`RENAME="a=c": has a name that was given before; want a list of key=key, each key renamed once`,
			`RENAME="d": is not name=value; want a list of key=key, each key renamed once`,
			`RENAME="e=e": changes nothing; want a list of key=key, each key renamed once`,
		}},
		{"NAMESPACE_SELECTOR", "a in b", []string{`NAMESPACE_SELECTOR="a in b": unable to parse requirement: found 'b' expected: '('; want a label selector, such as tenant!=internal`}},
		{"INHERITED_LABEL", "a b", []string{`INHERITED_LABEL="a b"; want a label's key`}},
		{"NAMES", "Raw", []string{`NAMES="Raw"; want raw or underscore`}},
		{"UNSAFE_VALUES", "", []string{`UNSAFE_VALUES=""; want drop or keep`}},
		{"VALUE_MAX_BYTES", "15", []string{`VALUE_MAX_BYTES="15"; want a whole number from 16 to 262144`}},
		{"BATCH_SIZE", "many", []string{`BATCH_SIZE="many"; want a whole number from 1 to 10000`}},
		{"BATCH_SIZE", "10001", []string{`BATCH_SIZE="10001"; want a whole number from 1 to 10000`}},
		{"SEND_TIMEOUT", "9ms", []string{`SEND_TIMEOUT="9ms"; want a duration from 10ms to 10m`}},
		{"RESYNC_INTERVAL", "999ms", []string{`RESYNC_INTERVAL="999ms"; want 0, or a duration from 1s to 168h`}},
		{"WEBHOOK_PATH", "s3cret", []string{wantPath}},
		{"WEBHOOK_PATH", "", []string{wantPath}},
		{"WEBHOOK_PATH", "/s3cret?a", []string{wantPath}},
		{"WEBHOOK_PATH", "/s3 cret", []string{wantPath}},
		{"WEBHOOK_PATH", "/s3%20cret", []string{wantPath}},
		{"WEBHOOK_NAME", "a.b", []string{`WEBHOOK_NAME="a.b"; want a name of lower case letters, digits and -`}},
		{"LEASE_NAME", "My Lease", []string{`LEASE_NAME="My Lease"; want a name of lower case letters, digits, - and .`}},
		{"STATUS_ADDRESS", "8080", []string{`STATUS_ADDRESS="8080"; ` + wantAddress}},
		{"STATUS_ADDRESS", ":65536", []string{`STATUS_ADDRESS=":65536"; ` + wantAddress}},
		{"DESTINATION", " ", []string{"DESTINATION: is required; " + wantURL}},
		{"DESTINATION", "collector:9090/write", []string{`DESTINATION="collector:9090/write"; ` + wantURL}},
		{"DESTINATION", "ftp://collector/write", []string{`DESTINATION="ftp://collector/write"; ` + wantURL}},
		{"DESTINATION", "http://:9090/write", []string{`DESTINATION="http://:9090/write"; ` + wantURL}},
		{"DESTINATION", "http://collector:99999/write", []string{`DESTINATION="http://collector:99999/write"; ` + wantURL}},
		{"DESTINATION", "ftp://user:s3cret@collector/write", []string{wantHidden}},
		{"DESTINATION", "http://user:s3cret%zz@collector/write", []string{wantHidden}},
		{"DESTINATION", "http://user:s3cret/part@collector/write", []string{wantHidden}},
		{"DESTINATION", "ftp://collector/write?token=s3cret", []string{wantHidden}},
		{"DESTINATION", "ftp://collector/write#s3cret", []string{wantHidden}},
	} {
		t.Run(c.name+"="+c.value, func(t *testing.T) {
			got := refused(t, with(map[string]string{c.name: c.value}))
			if d := cmp.Diff(prefix+"_"+strings.Join(c.want, "\n"+prefix+"_"), strings.Join(got, "\n")); d != "" {
				t.Error("-want +got\n" + d)
			}
		})
	}
}

func TestLoadRefusesTogether(t *testing.T) {
	for _, c := range []struct {
		name     string
		settings map[string]string
		want     []string
	}{
		{"nothing enabled", map[string]string{"LABELS_ENABLED": "false", "ANNOTATIONS_ENABLED": "false"}, []string{
			"LABELSTREAM_LABELS_ENABLED and LABELSTREAM_ANNOTATIONS_ENABLED are both false, so nothing would be sent; want one of them true",
		}},
		{"one off, the other wrong", map[string]string{"LABELS_ENABLED": "false", "ANNOTATIONS_ENABLED": "on"},
			[]string{`LABELSTREAM_ANNOTATIONS_ENABLED="on"; want true or false`}},
		{"namespaces both read and left out", map[string]string{"NAMESPACES": "a,b,c", "NAMESPACES_EXCLUDE": "c,b"}, []string{
			`LABELSTREAM_NAMESPACES and LABELSTREAM_NAMESPACES_EXCLUDE both name "b"; want it in one of them`,
			`LABELSTREAM_NAMESPACES and LABELSTREAM_NAMESPACES_EXCLUDE both name "c"; want it in one of them`,
		}},
		{"external labels that are no classic names", map[string]string{"NAMES": "underscore", "EXTERNAL_LABELS": "b.c=1,ok=2,1a=3"}, []string{
			`LABELSTREAM_EXTERNAL_LABELS="1a": needs SERIES=cloudzero with NAMES=raw; ` + wantPairs,
			`LABELSTREAM_EXTERNAL_LABELS="b.c": needs SERIES=cloudzero with NAMES=raw; ` + wantPairs,
		}},
		{"names that the form of the series gives", map[string]string{"PRESET": "mimir", "METRIC_PREFIX": "kube_", "NAMES": "raw", "EXTERNAL_LABELS": "a.b=1"}, []string{
			"LABELSTREAM_METRIC_PREFIX and LABELSTREAM_SERIES do not go together, since SERIES is kube-state-metrics, which gives the names itself; want SERIES=cloudzero, or the former not set",
			"LABELSTREAM_NAMES and LABELSTREAM_SERIES do not go together, since SERIES is kube-state-metrics, which gives the names itself; want SERIES=cloudzero, or the former not set",
			`LABELSTREAM_EXTERNAL_LABELS="a.b": needs SERIES=cloudzero with NAMES=raw; ` + wantPairs,
		}},
		{"election with the webhook, which one replica serves", map[string]string{"LEADER_ELECTION": "true", "CHANGES": "webhook"}, []string{
			"LABELSTREAM_LEADER_ELECTION and LABELSTREAM_CHANGES are true and webhook; want CHANGES=watch, or one replica without election",
		}},
		{"annotations without filters and resources", map[string]string{
			"ANNOTATIONS_ENABLED": "true", "ANNOTATIONS_FILTERS": "", "ANNOTATIONS_RESOURCES": "",
		}, []string{
			`LABELSTREAM_ANNOTATIONS_FILTERS="": is empty; ` + strings.ReplaceAll(wantPatterns, "labels", "annotations"),
			`LABELSTREAM_ANNOTATIONS_RESOURCES="": is empty; ` + strings.ReplaceAll(wantResources, "labels", "annotations"),
		}},
		{"all mistakes at once", map[string]string{
			"LABELS_FILTERS": "a(,ok,b", "BATCH_SIZE": "many", "SEND_INTERVAL": "10", "LOG_LEVEL": "loud", "DESTINATION": "",
			"NAMESPACE": "s3cret", "LABELS_RESOURCE": "s3cret", "POD_NAME": "s3cret",
		}, []string{
			`LABELSTREAM_LABELS_FILTERS="a(,ok,b": missing closing ): "a(,ok,b"; ` + wantPatterns,
			`LABELSTREAM_BATCH_SIZE="many"; want a whole number from 1 to 10000`,
			`LABELSTREAM_SEND_INTERVAL="10"; want a duration from 10ms to 10m`,
			`LABELSTREAM_LOG_LEVEL="loud"; want error, warn, info or debug`,
			`LABELSTREAM_DESTINATION: is required; ` + wantURL,
			`LABELSTREAM_LABELS_RESOURCE is not a setting; the closest is LABELSTREAM_LABELS_RESOURCES`,
			`LABELSTREAM_NAMESPACE is not a setting; the closest is LABELSTREAM_NAMESPACES`,
			`LABELSTREAM_POD_NAME is not a setting any more; write nothing, it is not needed`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, refused(t, with(c.settings))); d != "" {
				t.Error("-want +got\n" + d)
			}
		})
	}
	// What is off needs no filters.
	loaded(t, with(map[string]string{"ANNOTATIONS_FILTERS": "", "ANNOTATIONS_RESOURCES": ""}))
}

// TestRenamed wants what is written instead of a setting to be one, or an argument,
// or nothing.
func TestRenamed(t *testing.T) {
	for name, instead := range renamed {
		want := []string{"LABELSTREAM_" + name + " is not a setting any more; write " + instead}
		if d := cmp.Diff(want, refused(t, with(map[string]string{name: "s3cret"}))); d != "" {
			t.Errorf("-want +got\n%s", d)
		}
		setting := regexp.MustCompile(`^(nothing|--once|[A-Z_]+)`).FindString(instead)
		if setting != "nothing" && setting != "--once" && !slices.Contains(settingNames(), setting) {
			t.Errorf("%s is no setting either", instead)
		}
	}
}

func TestUnknownVariables(t *testing.T) {
	for name, closest := range map[string]string{
		"DESTINATON": "DESTINATION", "LABEL_FILTERS": "LABELS_FILTERS", "batch_size": "BATCH_SIZE", "": "NAMES",
		// These look like service links, and are not.
		"STATUS_PORT": "STATUS_ADDRESS", "PORT": "PPROF", "SERVICE_HOSTS": "SERIES", "PORT_8443_TCP_PORTS": "ONCE_TIMEOUT",
		"PORT_x_TCP": "PRESET", "XSERVICE_HOST": "SERIES",
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
		for name, value := range map[string]string{
			"SERVICE_HOST": "10.96.0.11", "SERVICE_PORT": "8443", "SERVICE_PORT_HTTPS": "8443", "SERVICE_PORT_DNS_UDP": "53",
			"PORT": "tcp://10.96.0.11:8443", "PORT_8443_TCP": "tcp://10.96.0.11:8443", "PORT_8443_TCP_PROTO": "tcp",
			"PORT_8443_TCP_PORT": "8443", "PORT_53_UDP_ADDR": "10.96.0.11", "PORT_9_SCTP": "sctp://10.96.0.11:9",
		} {
			links[service+name] = value
		}
	}
	loaded(t, with(links))
}
