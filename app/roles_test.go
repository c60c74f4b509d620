package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// rolesOf runs the command with settings, which are without their prefix.
func rolesOf(t *testing.T, settings map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv("POD_NAMESPACE", "")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for name, value := range settings {
		t.Setenv("LABELSTREAM_"+name, value)
	}
	var out, err bytes.Buffer
	code = run(t.Context(), append([]string{"rbac"}, args...), &out, &err)
	return code, out.String(), err.String()
}

// TestRolesAsYAML compares all that is printed for the settings that print
// objects of each kind.
func TestRolesAsYAML(t *testing.T) {
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	want, err := os.ReadFile("testdata/rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := rolesOf(t, map[string]string{
		"NAMESPACES": "shop", "LABELS_RESOURCES": "pods,namespaces,deployments,nodes", "WEBHOOK_SELF_SIGNED": "true",
	})
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d, standard error %q", code, stderr)
	}
	if diff := cmp.Diff(string(want), stdout); diff != "" {
		t.Errorf("roles (-want +got):\n%s", diff)
	}
}

// TestRoles has each rule in short: where it holds, the group, the resources, the
// names in brackets where only those are meant, and the verbs.
func TestRoles(t *testing.T) {
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	for _, tt := range []struct {
		name     string
		settings map[string]string
		args     []string
		want     []string
	}{
		{"the default ones", nil, nil, []string{"cluster: '' namespaces,pods: get,list,watch"}},
		{"--once", nil, []string{"--once"}, []string{"cluster: '' namespaces,pods: list"}},
		{"ONCE", map[string]string{"ONCE": "true", "LEADER_ELECTION": "true", "WEBHOOK_SELF_SIGNED": "true"}, nil,
			[]string{"cluster: '' namespaces,pods: list"}},
		{"--dry-run", nil, []string{"--dry-run"}, []string{"cluster: '' namespaces,pods: list"}},
		{"no webhook", map[string]string{"WEBHOOK_ENABLED": "false", "WEBHOOK_SELF_SIGNED": "true"}, nil,
			[]string{"cluster: '' namespaces,pods: list,watch"}},
		{"no watch, so that no claim is asked for", map[string]string{"WATCH_ENABLED": "false"}, nil,
			[]string{"cluster: '' namespaces,pods: list"}},
		{"kinds of several groups, whichever way they are named", map[string]string{
			"LABELS_RESOURCES":    "rollouts.argoproj.io,storageclasses,pods,deployments.apps,ingresses,widgets.example.com",
			"ANNOTATIONS_ENABLED": "true", "ANNOTATIONS_RESOURCES": "deployments,daemonsets",
		}, []string{"--once"}, []string{
			"cluster: '' pods: list",
			"cluster: apps daemonsets,deployments: list",
			"cluster: argoproj.io rollouts: list",
			"cluster: example.com widgets: list",
			"cluster: networking.k8s.io ingresses: list",
			"cluster: storage.k8s.io storageclasses: list",
		}},
		{"of kinds that are off, nothing", map[string]string{"ANNOTATIONS_RESOURCES": "secrets"}, []string{"--once"},
			[]string{"cluster: '' namespaces,pods: list"}},
		{"namespaces", map[string]string{"NAMESPACES": "shop,bank", "LABELS_RESOURCES": "namespaces,nodes,pods,jobs", "WEBHOOK_ENABLED": "false"}, nil,
			[]string{
				"cluster: '' namespaces[shop,bank]: list,watch",
				"cluster: '' nodes: list,watch",
				"bank: '' pods: list,watch",
				"bank: batch jobs: list,watch",
				"shop: '' pods: list,watch",
				"shop: batch jobs: list,watch",
			}},
		{"namespaces, and no cluster role", map[string]string{"NAMESPACES": "shop", "LABELS_RESOURCES": "pods"}, []string{"--once"},
			[]string{"shop: '' pods: list"}},
		{"an election", map[string]string{"LEADER_ELECTION": "true", "LEASE_NAME": "turn", "LABELS_RESOURCES": "pods", "WEBHOOK_ENABLED": "false"}, nil,
			[]string{
				"cluster: '' pods: list,watch",
				"labelstream: coordination.k8s.io leases[turn]: get,update",
				"labelstream: coordination.k8s.io leases: create",
			}},
		{"an election elsewhere, a certificate here", map[string]string{
			"LEADER_ELECTION": "true", "LEASE_NAME": "turn", "LEASE_NAMESPACE": "shop", "LABELS_RESOURCES": "pods", "POD_NAMESPACE": "metering",
			"WEBHOOK_SELF_SIGNED": "true", "WEBHOOK_SECRET": "tls", "WEBHOOK_CONFIGURATION": "hook", "NAMESPACES": "metering",
		}, nil, []string{
			"cluster: admissionregistration.k8s.io validatingwebhookconfigurations[hook]: get,patch",
			"metering: '' pods: get,list,watch",
			"metering: '' secrets[tls]: create,get,patch",
			"shop: coordination.k8s.io leases[turn]: get,update",
			"shop: coordination.k8s.io leases: create",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := rolesOf(t, tt.settings, tt.args...)
			if code != 0 || stderr != "" {
				t.Errorf("exit code %d, standard error %q", code, stderr)
			}
			if diff := cmp.Diff(tt.want, rules(t, stdout)); diff != "" {
				t.Errorf("rules (-want +got):\n%s", diff)
			}
		})
	}
}

// rules are those of roles, in short.
func rules(t *testing.T, text string) []string {
	t.Helper()
	var all []string
	for document := range strings.SplitSeq(text, "---\n") {
		var role rbacv1.Role
		if err := yaml.Unmarshal([]byte(document), &role); err != nil {
			t.Fatal(err)
		}
		where := role.Namespace
		if where == "" {
			where = "cluster"
		}
		for _, rule := range role.Rules {
			group, names := strings.Join(rule.APIGroups, ","), ""
			if group == "" {
				group = "''"
			}
			if len(rule.ResourceNames) > 0 {
				names = "[" + strings.Join(rule.ResourceNames, ",") + "]"
			}
			all = append(all, fmt.Sprintf("%s: %s %s%s: %s", where, group, strings.Join(rule.Resources, ","), names, strings.Join(rule.Verbs, ",")))
		}
	}
	return all
}

// TestRolesAskTheServer names what only a server knows.
func TestRolesAskTheServer(t *testing.T) {
	const wanted = "LABELSTREAM_LABELS_RESOURCES: "
	nowhere := filepath.Join(t.TempDir(), "none")
	cluster := writeKubeconfig(t, filepath.Join(t.TempDir(), "config"), strings.TrimPrefix(newFakeCluster(t).URL, "http://"))
	for _, tt := range []struct {
		name, kubeconfig, resources, namespaces string
		want                                    string
	}{
		{"a whole group", nowhere, "pods,*.apps", "", `"*.apps": only an API server knows what the group holds`},
		{"no group", nowhere, "rollouts", "", `"rollouts": only an API server knows of which group it is`},
		{"namespaced or not", nowhere, "widgets.example.com", "shop", `"widgets.example.com": only an API server knows whether it is in namespaces`},
		{"not served", cluster, "widgets.example.com,*.apps", "shop", wanted + `"widgets.example.com": the server has no such resource`},
		{"no such group", cluster, "*.apps", "", wanted + `"*.apps": the server has no such group`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := rolesOf(t, map[string]string{
				"LABELS_RESOURCES": tt.resources, "NAMESPACES": tt.namespaces, "LOG_FORMAT": "text",
			}, "--kubeconfig", tt.kubeconfig)
			if code != exitFailed || stdout != "" {
				t.Errorf("exit code %d, standard output %q", code, stdout)
			}
			if tt.kubeconfig == nowhere && !strings.Contains(stderr, "find out how to reach the API server: ") {
				t.Errorf("standard error does not say why none was asked:\n%s", stderr)
			}
			if said := strings.ReplaceAll(stderr, `\"`, `"`); !strings.Contains(said, tt.want) {
				t.Errorf("standard error lacks %s:\n%s", tt.want, said)
			}
		})
	}
}

func TestRolesReportWriteError(t *testing.T) {
	t.Setenv("LABELSTREAM_LABELS_RESOURCES", "pods")
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"rbac"}, brokenWriter{}, &stderr); code != exitFailed {
		t.Errorf("exit code %d, want %d", code, exitFailed)
	}
	if !strings.Contains(stderr.String(), "print the roles: disk full") {
		t.Errorf("standard error: %s", &stderr)
	}
}
