{{/*
What the broker of this release can do. Clusters: when several brokers form one, list their numbers here
(1 3 5), and make the default in values.yaml 3.
*/}}
{{- define "ottla.supported.replicas" -}}1{{- end -}}

{{- define "ottla.check" -}}
{{- $supported := splitList " " (include "ottla.supported.replicas" .) }}
{{- if not (has (toString .Values.replicas) $supported) }}
{{- fail (printf "replicas: %v brokers in a cluster are not supported by this release, only %s" .Values.replicas (join " or " $supported)) }}
{{- end }}
{{- if and .Values.externalAccess.enabled (not .Values.externalAccess.host) }}
{{- fail "externalAccess.host: say under what name or address clients reach the brokers, such as kafka-{index}.example.com" }}
{{- end }}
{{- if and .Values.externalAccess.enabled (gt (int .Values.replicas) 1) (eq .Values.externalAccess.type "LoadBalancer") (not (contains "{index}" .Values.externalAccess.host)) }}
{{- fail "externalAccess.host: several load balancers need several names; put {index} into it" }}
{{- end }}
{{- $ports := .Values.ports }}
{{- if ne 4 (len (uniq (list (int $ports.kafka) (int $ports.controller) (int $ports.external) (int $ports.metrics)))) }}
{{- fail "ports: each must be another number" }}
{{- end }}
{{- end -}}
