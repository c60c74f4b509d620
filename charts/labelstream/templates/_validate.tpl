{{/* What no schema can say: values that do not go together. All mistakes are told at once. */}}
{{- define "labelstream.validate" -}}
{{- $wrong := list }}
{{- if not .Values.destination }}
{{- $wrong = append $wrong "destination: say where to send, such as http://prometheus.monitoring:9090/api/v1/write" }}
{{- end }}

{{- $core := list "configmaps" "endpoints" "events" "limitranges" "namespaces" "nodes" "persistentvolumeclaims"
  "persistentvolumes" "pods" "podtemplates" "replicationcontrollers" "resourcequotas" "secrets" "serviceaccounts" "services" }}
{{- range .Values.resources }}
{{- if not (or (contains "." .) (has . $core)) }}
{{- $wrong = append $wrong (printf "resources: %q is not in the core API group; write its plural and its group, such as deployments.apps" .) }}
{{- end }}
{{- end }}

{{- $values := dict
  "DESTINATION" "destination"
  "PRESET" "preset"
  "LABELS_RESOURCES" "resources"
  "ANNOTATIONS_RESOURCES" "resources"
  "NAMESPACES" "namespaces"
  "LABELS_FILTERS" "filters"
  "ANNOTATIONS_FILTERS" "annotationFilters"
  "ANNOTATIONS_ENABLED" "annotationFilters"
  "CHANGES" "changes"
  "LEADER_ELECTION" "replicas"
  "LEASE_NAME" "fullnameOverride"
  "WEBHOOK_NAME" "fullnameOverride"
  "WEBHOOK_ADDRESS" "webhook.port"
  "WEBHOOK_PATH" "webhook.path"
  "WEBHOOK_CERT_DIR" "webhook.certificate"
  "STATUS_ADDRESS" "statusPort"
  "ONCE_TIMEOUT" "onceTimeoutMinutes"
  "BEARER_TOKEN_FILE" "auth.bearerTokenKey"
  "BASIC_USERNAME" "auth.username"
  "BASIC_PASSWORD_FILE" "auth.passwordKey"
  "TLS_CA_FILE" "auth.caKey"
  "HTTP_CLIENT_CONFIG_FILE" "auth.httpClientConfigKey" }}
{{- range $setting, $value := $values }}
{{- if hasKey $.Values.settings $setting }}
{{- $wrong = append $wrong (printf "settings.%s: write the value %s instead" $setting $value) }}
{{- end }}
{{- end }}

{{- range $setting, $_ := .Values.settings }}
{{- $right := $setting | snakecase | upper | trimPrefix "LABELSTREAM_" }}
{{- if regexMatch "[a-z]|^LABELSTREAM_" $setting }}
{{- $wrong = append $wrong (printf "settings.%s: write %s" $setting $right) }}
{{- end }}
{{- end }}

{{- if ne .Values.mode "deployment" }}
{{- if gt (int .Values.replicas) 1 }}
{{- $wrong = append $wrong (printf "replicas: a %s has one; several are for mode: deployment" .Values.mode) }}
{{- end }}
{{- if eq .Values.changes "webhook" }}
{{- $wrong = append $wrong "changes: webhook is for mode: deployment; a backfill has no changes" }}
{{- end }}
{{- range $name, $monitoring := .Values.monitoring }}
{{- if $monitoring.enabled }}
{{- $wrong = append $wrong (printf "monitoring.%s: it is for mode: deployment" $name) }}
{{- end }}
{{- end }}
{{- end }}

{{- if eq .Values.changes "webhook" }}
{{- if gt (int .Values.replicas) 1 }}
{{- $wrong = append $wrong "replicas: with changes: webhook there is one, since two have no order; several are for changes: watch" }}
{{- end }}
{{- if eq (int .Values.webhook.port) (int .Values.statusPort) }}
{{- $wrong = append $wrong "webhook.port: choose another one than statusPort" }}
{{- end }}
{{- if and .Values.webhook.hostNetwork (eq (int .Values.webhook.port) 10250) }}
{{- $wrong = append $wrong "webhook.port: in the host's network 10250 is the kubelet's; choose another one" }}
{{- end }}
{{- if and .Values.webhook.issuer (eq .Values.webhook.certificate "self-signed") }}
{{- $wrong = append $wrong "webhook.issuer: it is for webhook.certificate: cert-manager" }}
{{- end }}
{{- else if .Values.webhook.hostNetwork }}
{{- $wrong = append $wrong "webhook.hostNetwork: it is for changes: webhook" }}
{{- end }}

{{- $auth := .Values.auth }}
{{- $keys := compact (list $auth.bearerTokenKey $auth.passwordKey $auth.caKey $auth.httpClientConfigKey) }}
{{- if and $keys (not $auth.secret) }}
{{- $wrong = append $wrong "auth.secret: say which Secret has the keys" }}
{{- end }}
{{- if and $auth.secret (not $keys) }}
{{- $wrong = append $wrong "auth: say which keys of auth.secret are for what" }}
{{- end }}
{{- if ne (empty $auth.username) (empty $auth.passwordKey) }}
{{- $wrong = append $wrong "auth: username and passwordKey go together" }}
{{- end }}
{{- if and $auth.bearerTokenKey $auth.passwordKey }}
{{- $wrong = append $wrong "auth: choose one of bearerTokenKey and passwordKey" }}
{{- end }}
{{- if and $auth.httpClientConfigKey (gt (len $keys) 1) }}
{{- $wrong = append $wrong "auth.httpClientConfigKey: the file says all of it; leave the other keys out" }}
{{- end }}

{{- if not (or .Values.serviceAccount.create .Values.serviceAccount.name) }}
{{- $wrong = append $wrong "serviceAccount.name: say which account the pods have" }}
{{- end }}
{{- if $wrong }}{{ fail (printf "\n- %s" (join "\n- " $wrong)) }}{{ end }}
{{- end }}
