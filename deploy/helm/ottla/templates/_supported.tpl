{{/* How many brokers there may be: all of them vote, and an even number tolerates no more than one less. */}}
{{- define "ottla.supported.replicas" -}}1 3 5{{- end -}}

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
