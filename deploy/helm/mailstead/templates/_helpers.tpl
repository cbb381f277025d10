{{- define "mailstead.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- /* What selects the pods of this release. */}}
{{- define "mailstead.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mailstead.labels" -}}
{{ include "mailstead.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "mailstead.image" -}}
{{ .Values.image.repository }}:{{ required "image.tag is the version to run" .Values.image.tag }}
{{- end }}

{{- /* Of every pod: nobody's rights, no token, and where it runs. */}}
{{- define "mailstead.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch # a disk of indexes has many files
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "mailstead.container" -}}
image: {{ include "mailstead.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* What all that serve have in their environment. */}}
{{- define "mailstead.environment" -}}
- {name: MAILSTEAD_CONFIG, value: /etc/mailstead/mailstead.yaml} # of `kubectl exec` as well
# The garbage collector takes more trouble before the limit is reached.
- name: GOMEMLIMIT
  valueFrom: {resourceFieldRef: {containerName: mailstead, resource: limits.memory}}
- {name: MAILSTEAD_DRAIN_TIME, value: "{{ .Values.drainSeconds }}s"}
- {name: MAILSTEAD_HTTP_LISTEN, value: ":8143"}
{{- if .Values.tracing.endpoint }}
- {name: MAILSTEAD_TRACING_ENDPOINT, value: {{ .Values.tracing.endpoint | quote }}}
- {name: MAILSTEAD_TRACING_SAMPLE, value: "{{ .Values.tracing.sample }}"}
{{- end }}
- name: MAILSTEAD_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.database.secret }}, key: {{ .Values.database.urlKey }}}}
{{- with .Values.database.listenURLKey }}
- {name: MAILSTEAD_DATABASE_PGBOUNCER, value: "true"}
- name: MAILSTEAD_DATABASE_LISTEN_URL
  valueFrom: {secretKeyRef: {name: {{ $.Values.database.secret }}, key: {{ . }}}}
{{- end }}
- {name: MAILSTEAD_OBJECTS_ENDPOINT, value: {{ required "objects.endpoint is the URL of the S3 service" .Values.objects.endpoint | quote }}}
- {name: MAILSTEAD_OBJECTS_REGION, value: {{ .Values.objects.region | quote }}}
- {name: MAILSTEAD_OBJECTS_BUCKET, value: {{ required "objects.bucket is the name of the bucket" .Values.objects.bucket | quote }}}
- {name: MAILSTEAD_OBJECTS_PATH_STYLE, value: "{{ .Values.objects.pathStyle }}"}
- name: MAILSTEAD_OBJECTS_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ .Values.objects.secret }}, key: {{ .Values.objects.accessKeyKey }}}}
- name: MAILSTEAD_OBJECTS_SECRET_KEY
  valueFrom: {secretKeyRef: {name: {{ .Values.objects.secret }}, key: {{ .Values.objects.secretKeyKey }}}}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* The challenge by which names are proven to an authority; empty: none is. */}}
{{- define "mailstead.challenge" -}}
{{- $acme := .Values.settings.acme | default dict }}
{{- if $acme.directory }}{{ $acme.challenge | default "http-01" }}{{ end }}
{{- end }}

{{- define "mailstead.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 2
  failureThreshold: 30
livenessProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end }}

{{- /* How front ends and index nodes know each other. */}}
{{- define "mailstead.searchTLS" -}}
- {name: MAILSTEAD_SEARCH_CERT_FILE, value: /search/tls.crt}
- {name: MAILSTEAD_SEARCH_KEY_FILE, value: /search/tls.key}
- {name: MAILSTEAD_SEARCH_CA_FILE, value: /search/ca.crt}
{{- end }}

{{- define "mailstead.searchVolume" -}}
- name: search
  secret: {secretName: {{ required "index.tlsSecret is the Secret with the certificate by which front ends and index nodes know each other" .Values.index.tlsSecret }}, defaultMode: 288} # 0440
{{- end }}
