{{/* The pod template of all modes. */}}
{{- define "labelstream.pod" -}}
{{- $daemon := eq .Values.mode "deployment" }}
{{- $reviewed := include "labelstream.reviewed" . }}
metadata:
  annotations:
    # A setting that changes replaces the pods.
    checksum/settings: {{ include "labelstream.settings" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- include "labelstream.podLabels" . | nindent 4 }}
    app.kubernetes.io/component: {{ include "labelstream.component" . }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- if not $daemon }}
  restartPolicy: Never
  {{- end }}
  serviceAccountName: {{ include "labelstream.account" . }}
  automountServiceAccountToken: true
  # Variables of other Services only make the environment longer.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- if and $reviewed .Values.webhook.hostNetwork }}
  hostNetwork: true
  # Without it, the names of Services are not found.
  dnsPolicy: ClusterFirstWithHostNet
  {{- end }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- if .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
  {{- else if include "labelstream.elects" . }}
  # Apart where that is possible. A cluster of one node takes both.
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "labelstream.selector" $ | nindent 10 }}
    {{- end }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: labelstream
      {{- if not $daemon }}
      args: [--once]
      {{- end }}
      {{- include "labelstream.container" . | nindent 6 }}
      ports:
        {{- if $reviewed }}
        - name: webhook
          containerPort: {{ .Values.webhook.port }}
        {{- end }}
        - name: status
          containerPort: {{ .Values.statusPort }}
      {{- if $daemon }}
      # The port is open within milliseconds of the container's start. A probe that comes sooner makes an event "Unhealthy"
      # of nothing, so the first one waits for a second.
      startupProbe:
        httpGet:
          path: /healthz
          port: status
        initialDelaySeconds: 1
        periodSeconds: 1
        timeoutSeconds: 5
        failureThreshold: 60
      livenessProbe:
        httpGet:
          path: /healthz
          port: status
        periodSeconds: 20
        timeoutSeconds: 5
      readinessProbe:
        httpGet:
          path: /readyz
          port: status
        periodSeconds: 10
        timeoutSeconds: 5
      {{- end }}
      # docs/benchmarks.md and docs/operations.md say why.
      resources:
        {{- if .Values.containerResources }}
        {{- toYaml .Values.containerResources | nindent 8 }}
        {{- else }}
        requests:
          cpu: 20m
          memory: {{ if $daemon }}64Mi{{ else }}48Mi{{ end }}
        limits:
          memory: {{ if $reviewed }}384Mi{{ else if $daemon }}128Mi{{ else }}64Mi{{ end }}
        {{- end }}
  {{- with include "labelstream.volumes" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* What the container of a run and that of its test have in common. */}}
{{- define "labelstream.container" -}}
image: {{ include "labelstream.image" . | quote }}
{{- with .Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
envFrom:
  - configMapRef:
      name: {{ include "labelstream.fullname" . }}-settings
{{- with .Values.extraEnv }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- $certManager := include "labelstream.certManager" . }}
{{- if or .Values.auth.secret $certManager .Values.extraVolumeMounts }}
volumeMounts:
  {{- if .Values.auth.secret }}
  - name: auth
    mountPath: /etc/labelstream/auth
    readOnly: true
  {{- end }}
  {{- if $certManager }}
  - name: webhook-certificate
    mountPath: /etc/labelstream/webhook
    readOnly: true
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "labelstream.volumes" -}}
{{- $certManager := include "labelstream.certManager" . }}
{{- if or .Values.auth.secret $certManager .Values.extraVolumes }}
volumes:
  {{- with .Values.auth.secret }}
  - name: auth
    secret:
      secretName: {{ . }}
  {{- end }}
  {{- if $certManager }}
  - name: webhook-certificate
    secret:
      secretName: {{ include "labelstream.fullname" . }}-webhook
  {{- end }}
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}
