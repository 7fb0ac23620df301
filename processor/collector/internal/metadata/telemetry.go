package metadata

import (
	"errors"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/otel/metric"
)

// TelemetryBuilder holds the instruments of the module's own metrics.
type TelemetryBuilder struct {
	EnrichedSpans metric.Int64Counter
	MissedSpans   metric.Int64Counter
	PlainSpans    metric.Int64Counter
	MissedRecords metric.Int64Counter
	CallDuration  metric.Float64Histogram
	InFlight      metric.Int64UpDownCounter
}

// NewTelemetryBuilder makes the instruments.
func NewTelemetryBuilder(settings component.TelemetrySettings) (*TelemetryBuilder, error) {
	meter := settings.MeterProvider.Meter(ScopeName)
	b := &TelemetryBuilder{}
	var errs [6]error
	b.EnrichedSpans, errs[0] = meter.Int64Counter("otelcol_processor_spanledger_enriched_spans",
		metric.WithDescription("GenAI spans that the enricher decided on."), metric.WithUnit("{span}"))
	b.MissedSpans, errs[1] = meter.Int64Counter("otelcol_processor_spanledger_missed_spans",
		metric.WithDescription("GenAI spans that went on, or were refused, without enrichment, by reason."), metric.WithUnit("{span}"))
	b.PlainSpans, errs[2] = meter.Int64Counter("otelcol_processor_spanledger_plain_spans",
		metric.WithDescription("Spans without a marker of GenAI telemetry."), metric.WithUnit("{span}"))
	b.MissedRecords, errs[3] = meter.Int64Counter("otelcol_connector_spanledger_missed_records",
		metric.WithDescription("Log records that no spans could be made from, by reason."), metric.WithUnit("{record}"))
	b.CallDuration, errs[4] = meter.Float64Histogram("otelcol_processor_spanledger_call_duration",
		metric.WithDescription("Time that the enricher took for one request."), metric.WithUnit("s"))
	b.InFlight, errs[5] = meter.Int64UpDownCounter("otelcol_processor_spanledger_in_flight",
		metric.WithDescription("Encoded bytes being enriched."), metric.WithUnit("By"))
	return b, errors.Join(errs[:]...)
}
