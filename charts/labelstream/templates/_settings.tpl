{{/* The settings, as the data of a ConfigMap. What is a default of the program is left out. */}}
{{- define "labelstream.settings" -}}
{{- $name := include "labelstream.fullname" . }}
{{- $auth := .Values.auth }}
LABELSTREAM_DESTINATION: {{ .Values.destination | quote }}
LABELSTREAM_LABELS_RESOURCES: {{ join "," .Values.resources | quote }}
{{- with .Values.preset }}
LABELSTREAM_PRESET: {{ . | quote }}
{{- end }}
{{- with .Values.namespaces }}
LABELSTREAM_NAMESPACES: {{ join "," . | quote }}
{{- end }}
{{- with .Values.filters }}
LABELSTREAM_LABELS_FILTERS: {{ join "\n" . | quote }}
{{- end }}
{{- with .Values.annotationFilters }}
LABELSTREAM_ANNOTATIONS_ENABLED: "true"
LABELSTREAM_ANNOTATIONS_RESOURCES: {{ join "," $.Values.resources | quote }}
LABELSTREAM_ANNOTATIONS_FILTERS: {{ join "\n" . | quote }}
{{- end }}
{{- if ne (int .Values.statusPort) 8080 }}
LABELSTREAM_STATUS_ADDRESS: {{ printf ":%d" (int .Values.statusPort) | quote }}
{{- end }}
{{- if ne .Values.mode "deployment" }}
LABELSTREAM_ONCE_TIMEOUT: {{ printf "%dm" (int .Values.onceTimeoutMinutes) }}
{{- else if ne .Values.changes "watch" }}
LABELSTREAM_CHANGES: {{ .Values.changes }}
{{- end }}
{{- if include "labelstream.elects" . }}
LABELSTREAM_LEADER_ELECTION: "true"
{{- if ne $name "labelstream" }}
LABELSTREAM_LEASE_NAME: {{ $name }}
{{- end }}
{{- end }}
{{- if include "labelstream.reviewed" . }}
{{- if ne $name "labelstream" }}
LABELSTREAM_WEBHOOK_NAME: {{ $name }}-webhook
{{- end }}
{{- if ne (int .Values.webhook.port) 8443 }}
LABELSTREAM_WEBHOOK_ADDRESS: {{ printf ":%d" (int .Values.webhook.port) | quote }}
{{- end }}
{{- if ne .Values.webhook.path "/validate" }}
LABELSTREAM_WEBHOOK_PATH: {{ .Values.webhook.path | quote }}
{{- end }}
{{- if include "labelstream.certManager" . }}
LABELSTREAM_WEBHOOK_CERT_DIR: /etc/labelstream/webhook
{{- end }}
{{- end }}
{{- with $auth.username }}
LABELSTREAM_BASIC_USERNAME: {{ . | quote }}
{{- end }}
{{- range $setting, $key := dict "BEARER_TOKEN_FILE" $auth.bearerTokenKey "BASIC_PASSWORD_FILE" $auth.passwordKey "TLS_CA_FILE" $auth.caKey "HTTP_CLIENT_CONFIG_FILE" $auth.httpClientConfigKey }}
{{- with $key }}
LABELSTREAM_{{ $setting }}: {{ printf "/etc/labelstream/auth/%s" . | quote }}
{{- end }}
{{- end }}
{{- range $setting, $value := .Values.settings }}
{{- if kindIs "slice" $value }}{{ $value = join "\n" $value }}{{ end }}
{{- /* A million is not to be 1e+06. */}}
{{- if and (kindIs "float64" $value) (eq (float64 (int64 $value)) $value) }}{{ $value = int64 $value }}{{ end }}
LABELSTREAM_{{ $setting }}: {{ $value | quote }}
{{- end }}
{{- end }}
