{{/* Keys that the chart sets, and what to use in their place. */}}
{{- define "ottla.owned" -}}
process.roles: replicas
node.id: the pod's number
broker.id: the pod's number
controller.quorum.voters: replicas
controller.quorum.bootstrap.servers: replicas
controller.listener.names: ports
listeners: listenAddress and ports
advertised.listeners: externalAccess
listener.security.protocol.map: externalAccess
inter.broker.listener.name: ports
log.dir: persistence
log.dirs: persistence
broker.rack: rack.podLabel
ottla.metrics.listener: listenAddress and ports.metrics
ottla.memory.bytes: resources.limits.memory and memory.budgetPercent
{{- end -}}

{{/* A value as text; .name is for errors. Whole numbers of YAML files arrive as floats. */}}
{{- define "ottla.text" -}}
{{- $text := toString .value -}}
{{- if kindIs "float64" .value -}}
{{- if or (gt .value 9007199254740992.0) (lt .value -9007199254740992.0) -}}
{{- fail (printf "%s: put a number this large in quotes, otherwise YAML rounds it" .name) -}}
{{- end -}}
{{- if eq .value (floor .value) }}{{ $text = printf "%.0f" .value }}{{ end -}}
{{- end -}}
{{- $text -}}
{{- end -}}

{{/* A value as .properties files write it. */}}
{{- define "ottla.property" -}}
{{- $text := include "ottla.text" . -}}
{{- if regexMatch "[\r\n]" $text }}{{ fail (printf "%s: a value is one line" .name) }}{{ end -}}
{{- $text | replace "\\" "\\\\" -}}
{{- end -}}

{{- define "ottla.budget" -}}
{{- $limit := include "ottla.bytes" (dig "limits" "memory" "" .Values.resources | required "resources.limits.memory: Ottla's memory budget is a share of it") | int64 -}}
{{- $budget := div (mul $limit (int64 .Values.memory.budgetPercent)) 100 -}}
{{- if lt $budget 268435456 -}}
{{- fail (printf "resources.limits.memory: %d%% of it are %d bytes for Ottla, which needs 268435456 (256Mi) or more" (int64 .Values.memory.budgetPercent) $budget) -}}
{{- end -}}
{{- $budget -}}
{{- end -}}

{{/* The whole server.properties of broker .index. */}}
{{- define "ottla.properties" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $owned := fromYaml (include "ottla.owned" $root) -}}
{{- range $key := concat (keys $values.config) (keys $values.configFromSecrets) -}}
{{- if hasKey $owned $key }}{{ fail (printf "config.%s: the chart sets it, from %s" $key (get $owned $key)) }}{{ end -}}
{{- end -}}
{{- $voters := list -}}
{{- range $i := until (int $values.replicas) -}}
{{- $voters = append $voters (printf "%d@%s:%d" $i (include "ottla.host" (dict "root" $root "index" $i)) (int $values.ports.controller)) -}}
{{- end -}}
{{- $copies := ternary 3 1 (ge (int $values.replicas) 3) -}}
{{- $config := merge (dict) $values.config (dict "default.replication.factor" $copies "offsets.topic.replication.factor" $copies) -}}
process.roles=broker,controller
node.id={{ .index }}
controller.quorum.voters={{ join "," $voters }}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{{ $values.listenAddress }}:{{ int $values.ports.kafka }},CONTROLLER://{{ $values.listenAddress }}:{{ int $values.ports.controller }}
{{- if $values.externalAccess.enabled }},EXTERNAL://{{ $values.listenAddress }}:{{ int $values.ports.external }}{{ end }}
advertised.listeners=PLAINTEXT://{{ include "ottla.host" . }}:{{ int $values.ports.kafka }}
{{- with $values.externalAccess }}{{ if .enabled }},EXTERNAL://{{ replace "{index}" (toString $.index) .host }}:{{ include "ottla.externalPort" $ }}{{ end }}{{ end }}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{{ if $values.externalAccess.enabled }},EXTERNAL:PLAINTEXT{{ end }}
inter.broker.listener.name=PLAINTEXT
log.dirs=/var/lib/ottla
ottla.metrics.listener={{ $values.listenAddress }}:{{ int $values.ports.metrics }}
ottla.memory.bytes={{ include "ottla.budget" $root }}
{{- range $key, $value := $config }}
{{ $key }}={{ include "ottla.property" (dict "name" (printf "config.%s" $key) "value" $value) }}
{{- end }}
{{ end -}}

{{/* The port that clients outside use for broker .index. */}}
{{- define "ottla.externalPort" -}}
{{- $external := .root.Values.externalAccess -}}
{{- if eq $external.type "NodePort" }}{{ add (int $external.nodePort) .index }}{{ else }}{{ int .root.Values.ports.external }}{{ end -}}
{{- end -}}

{{/* Which environment variable sets a key: KIP-975. */}}
{{- define "ottla.variable" -}}
KAFKA_{{ . | replace "_" "__" | replace "-" "___" | replace "." "_" | upper }}
{{- end -}}
