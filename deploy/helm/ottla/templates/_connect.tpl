{{/* Keys of a worker that the chart sets, and what to use in their place. */}}
{{- define "ottla.connect.owned" -}}
bootstrap.servers: the release
listeners: connect.port
rest.advertised.host.name: the pod's address
offset.storage.file.filename: the brokers keep offsets
ottla.connect.spool.dir: connect.spoolSize
ottla.connect.memory.bytes: connect.resources.limits.memory
{{- end -}}

{{- define "ottla.connect.worker" -}}
{{- $limit := include "ottla.bytes" (dig "limits" "memory" "" .Values.connect.resources | required "connect.resources.limits.memory: half of it is for open objects") | int64 -}}
bootstrap.servers={{ include "ottla.fullname" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}:{{ int .Values.ports.kafka }}
listeners=http://{{ .Values.listenAddress }}:{{ int .Values.connect.port }}
rest.advertised.host.name=${env:POD_IP}
offset.storage.file.filename=/var/lib/ottla-connect/offsets
ottla.connect.spool.dir=/var/lib/ottla-connect/spool
ottla.connect.memory.bytes={{ div $limit 2 }}
{{- $owned := fromYaml (include "ottla.connect.owned" .) -}}
{{- range $key, $value := .Values.connect.config }}
{{- if hasKey $owned $key }}{{ fail (printf "connect.config.%s: the chart sets it, from %s" $key (get $owned $key)) }}{{ end }}
{{ $key }}={{ include "ottla.property" (dict "name" (printf "connect.config.%s" $key) "value" $value) }}
{{- end }}
{{ end -}}

{{/* A connector's file, as the REST API takes it. */}}
{{- define "ottla.connect.connector" -}}
{{- $config := dict -}}
{{- range $key, $value := .config -}}
{{- $_ := set $config $key (include "ottla.text" (dict "name" (printf "connect.connectors.%s.%s" $.name $key) "value" $value)) -}}
{{- end -}}
{{ dict "name" .name "config" $config | toPrettyJson }}
{{- end -}}
