{{/* The name of all objects. */}}
{{- define "labelstream.fullname" -}}
{{- $release := .Release.Name }}
{{- if not (contains "labelstream" $release) }}{{ $release = printf "%s-labelstream" $release }}{{ end }}
{{- default $release .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "labelstream.account" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "labelstream.fullname" .) .Values.serviceAccount.name }}
{{- else }}{{ default "default" .Values.serviceAccount.name }}{{ end }}
{{- end }}

{{- define "labelstream.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}
{{- else }}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{/* What the pods are, beside others of labelstream in the same namespace. */}}
{{- define "labelstream.component" -}}
{{- get (dict "deployment" "daemon" "cronjob" "cronjob" "job" "once") .Values.mode }}
{{- end }}

{{/* The labels of pods. Those of the chart would replace them with each of its versions. */}}
{{- define "labelstream.podLabels" -}}
app.kubernetes.io/name: labelstream
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: labelstream
app.kubernetes.io/version: {{ default .Chart.AppVersion .Values.image.tag | replace "+" "_" | trunc 63 | quote }}
{{- end }}

{{- define "labelstream.labels" -}}
{{ include "labelstream.podLabels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- end }}

{{/* The labels of what makes pods, or selects them. */}}
{{- define "labelstream.componentLabels" -}}
{{ include "labelstream.labels" . }}
app.kubernetes.io/component: {{ include "labelstream.component" . }}
{{- end }}

{{- define "labelstream.selector" -}}
app.kubernetes.io/name: labelstream
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ include "labelstream.component" . }}
{{- end }}

{{- define "labelstream.metadata" -}}
name: {{ include "labelstream.fullname" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "labelstream.labels" . | nindent 2 }}
{{- end }}

{{/* "true" where the chosen changes are these, of a daemon; a run with --once has none. */}}
{{- define "labelstream.reviewed" -}}
{{- if and (eq .Values.mode "deployment") (eq .Values.changes "webhook") }}true{{ end }}
{{- end }}

{{- define "labelstream.elects" -}}
{{- if and (eq .Values.mode "deployment") (gt (int .Values.replicas) 1) }}true{{ end }}
{{- end }}

{{- define "labelstream.certManager" -}}
{{- if and (include "labelstream.reviewed" .) (eq .Values.webhook.certificate "cert-manager") }}true{{ end }}
{{- end }}

{{- define "labelstream.selfSigned" -}}
{{- if and (include "labelstream.reviewed" .) (eq .Values.webhook.certificate "self-signed") }}true{{ end }}
{{- end }}

{{/* Resources by their API group, as JSON: {"": ["pods"], "apps": ["deployments"]}. */}}
{{- define "labelstream.groups" -}}
{{- $groups := dict }}
{{- range . }}
{{- $resource := splitn "." 2 . }}
{{- $group := default "" $resource._1 }}
{{- $_ := set $groups $group (append (default list (get $groups $group)) $resource._0) }}
{{- end }}
{{- toJson $groups }}
{{- end }}
