{{- define "spanledger.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "spanledger.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "spanledger.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "spanledger.selector" -}}
app.kubernetes.io/name: {{ include "spanledger.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "spanledger.labels" -}}
{{ include "spanledger.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The listeners that senders use: name and port. */}}
{{- define "spanledger.listeners" -}}
{{- if eq .Values.topology "component" -}}
enricher: 4321
{{- else -}}
otlp-grpc: 5317
otlp-http: 5318
{{- end -}}
{{- end -}}

{{/* What every listener has beside its address. */}}
{{- define "spanledger.listener" -}}
{{- if .Values.tls.existingSecret }}
tls:
  cert_file: /etc/spanledger/tls/tls.crt
  key_file: /etc/spanledger/tls/tls.key
{{- end }}
{{- if .Values.auth.existingSecret }}
auth:
  bearer_token: ${env:SPANLEDGER_TOKEN}
{{- end }}
{{- end -}}

{{/* Spanledger's configuration: what the topology needs, and `config` over it. */}}
{{- define "spanledger.config" -}}
{{- $listener := include "spanledger.listener" . | fromYaml -}}
{{- $state := dict "path" "/var/lib/spanledger/ledger" -}}
{{- $config := dict "state" $state "api" (dict "endpoint" "0.0.0.0:4320") -}}
{{- if eq .Values.topology "component" -}}
{{- $_ := set $config "receivers" (dict "enricher" (merge (dict "endpoint" "0.0.0.0:4321") $listener)) -}}
{{- else -}}
{{- $grpc := merge (dict "endpoint" "0.0.0.0:5317") $listener -}}
{{- $http := merge (dict "endpoint" "0.0.0.0:5318") $listener -}}
{{- $_ := set $config "receivers" (dict "otlp" (dict "protocols" (dict "grpc" $grpc "http" $http))) -}}
{{- if .Values.collector.returnEndpoint -}}
{{- $return := dict "endpoint" .Values.collector.returnEndpoint "tls" .Values.collector.returnTls -}}
{{- $_ := set $config "exporters" (dict "otlp_grpc/collector" $return) -}}
{{- else if not .Values.config.exporters -}}
{{- fail "collector.returnEndpoint: name the Collector's second receiver, such as otelcol.observability:6317 (or config.exporters, or topology: component)" -}}
{{- end -}}
{{- end -}}
{{- toYaml (mergeOverwrite $config (deepCopy .Values.config)) -}}
{{- end -}}

{{/* Where probes go: to the API, or to the health check that the configuration puts elsewhere. */}}
{{- define "spanledger.probed" -}}
{{- $api := .Values.config.api | default dict -}}
{{- if hasKey $api "health_check" -}}
port: {{ dig "health_check" "endpoint" "0.0.0.0:13133" $api | splitList ":" | last }}
{{- else -}}
port: api
{{- if $api.tls }}
scheme: HTTPS
{{- end }}
{{- end }}
{{- end -}}
