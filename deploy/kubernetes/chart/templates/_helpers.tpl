{{/* The name of the release's resources. A CronJob's name, with "-migration", may have 52 characters. */}}
{{- define "crossdock.name" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) }}
{{- $name | trunc 42 | trimSuffix "-" }}
{{- end }}

{{/* The labels that select the pods of a component: (list $ "service"). */}}
{{- define "crossdock.selector" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "crossdock.labels" -}}
{{ include "crossdock.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version }}
{{- end }}

{{/* The fields of every pod. */}}
{{- define "crossdock.pod" -}}
serviceAccountName: {{ include "crossdock.name" . }}
automountServiceAccountToken: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "crossdock.container" -}}
image: {{ .Values.image | quote }}
imagePullPolicy: {{ .Values.imagePullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* The spec of a claim: (list $.Values.service.state "ReadWriteOnce"). */}}
{{- define "crossdock.claim" -}}
accessModes: [{{ index . 1 }}]
{{- with (index . 0).storageClassName }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests:
    storage: {{ (index . 0).size }}
{{- end }}

{{- define "crossdock.egress" -}}
- ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
- ports:
    {{- range .Values.networkPolicy.egressPorts }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end }}
