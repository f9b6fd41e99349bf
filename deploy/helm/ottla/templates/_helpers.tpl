{{- define "ottla.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 bytes, so that what is appended still fits into a DNS label. */}}
{{- define "ottla.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "ottla.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "ottla.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "ottla.selector" -}}
app.kubernetes.io/name: {{ include "ottla.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ottla.labels" -}}
{{ include "ottla.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "ottla.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "ottla.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "ottla.connect.fullname" -}}{{ include "ottla.fullname" . }}-connect{{- end -}}

{{- define "ottla.connect.selector" -}}
app.kubernetes.io/name: {{ include "ottla.name" . }}-connect
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ottla.connect.labels" -}}
{{ include "ottla.connect.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "ottla.connect.serviceAccount" -}}
{{- if .Values.connect.serviceAccount.create -}}
{{- default (include "ottla.connect.fullname" .) .Values.connect.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.connect.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "ottla.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* The DNS name of broker .index. */}}
{{- define "ottla.host" -}}
{{- $full := include "ottla.fullname" .root -}}
{{ $full }}-{{ .index }}.{{ $full }}-headless.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}
{{- end -}}

{{/* The value of a memory quantity, in bytes. */}}
{{- define "ottla.bytes" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $text := toString . -}}
{{- if kindIs "float64" . }}{{ $text = printf "%.0f" . }}{{ end -}}
{{- if not (regexMatch "^[0-9]+([kMGT]|[KMGT]i)?$" $text) -}}
{{- fail (printf "resources.limits.memory: %s is no whole number with k, M, G, T, Ki, Mi, Gi or Ti" $text) -}}
{{- end -}}
{{- mul (regexFind "^[0-9]+" $text | int64) (get $units (regexFind "[A-Za-z]*$" $text) | int64) -}}
{{- end -}}
