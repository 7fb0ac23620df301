package spanledgerconnector

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/spanledger/spanledger/processor/collector/internal/client"
	"github.com/spanledger/spanledger/processor/collector/internal/metadata"
	"github.com/spanledger/spanledger/processor/collector/internal/protocol"
	"github.com/spanledger/spanledger/processor/collector/internal/selection"
)

type logsConnector struct {
	cfg       *Config
	client    *client.Client
	records   *selection.Records
	telemetry *metadata.TelemetryBuilder
	next      consumer.Traces
}

func (c *logsConnector) Start(ctx context.Context, host component.Host) error {
	return c.client.Start(ctx, host)
}

func (c *logsConnector) Shutdown(ctx context.Context) error { return c.client.Shutdown(ctx) }

func (*logsConnector) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

// ConsumeLogs sends the records that spans may be made from, and passes the spans on. The ids of made spans repeat, so
// the same logs may come again after an error.
func (c *logsConnector) ConsumeLogs(ctx context.Context, ld plog.Logs) error {
	if _, missed := c.client.Describe(ctx); missed != nil {
		return c.missed(ctx, missed, ld.LogRecordCount())
	}
	part, revision := c.records.Select(ld)
	traces, missed := c.makeSpans(ctx, part, revision)
	if missed != nil && missed.Stale {
		if missed = c.client.Renew(ctx, revision); missed == nil {
			part, revision = c.records.Select(ld)
			traces, missed = c.makeSpans(ctx, part, revision)
		}
	}
	if missed != nil {
		return c.missed(ctx, missed, part.LogRecordCount())
	}
	if traces.SpanCount() == 0 {
		return nil
	}
	return c.next.ConsumeTraces(ctx, traces)
}

func (c *logsConnector) makeSpans(ctx context.Context, part plog.Logs, revision string) (ptrace.Traces, *client.Missed) {
	if part.ResourceLogs().Len() == 0 {
		return ptrace.NewTraces(), nil
	}
	body, err := (&plog.ProtoMarshaler{}).MarshalLogs(part)
	if err != nil {
		return ptrace.NewTraces(), &client.Missed{Reason: client.Refused, Err: err, Permanent: true}
	}
	if len(body) > c.client.MaxMessage() {
		return c.split(ctx, part, revision)
	}
	traces := ptrace.NewTraces()
	missed := c.client.Call(ctx, protocol.MakeSpans, revision, body, func(encoded []byte) (bool, error) {
		made, err := protocol.ReadMade(encoded)
		if err != nil || made.Stale {
			return made.Stale, err
		}
		if made.RecordsFailed > 0 {
			c.count(ctx, "failed", int(made.RecordsFailed))
		}
		traces, err = (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(made.Traces)
		return false, err
	})
	return traces, missed
}

// split a request that is too large for one message by its records.
func (c *logsConnector) split(ctx context.Context, part plog.Logs, revision string) (ptrace.Traces, *client.Missed) {
	if part.LogRecordCount() <= 1 {
		c.count(ctx, client.TooLarge, 1) // however often it is sent: the records beside it go on
		return ptrace.NewTraces(), nil
	}
	first, second := selection.Halves(part)
	traces, missed := c.makeSpans(ctx, first, revision)
	if missed != nil {
		return traces, missed
	}
	more, missed := c.makeSpans(ctx, second, revision)
	more.ResourceSpans().MoveAndAppendTo(traces.ResourceSpans())
	return traces, missed
}

// missed counts records without spans. The logs themselves go on by their own pipeline; only refuse tells the sender, and
// not of what would fail again.
func (c *logsConnector) missed(ctx context.Context, missed *client.Missed, records int) error {
	c.count(ctx, missed.Reason, records)
	if c.cfg.OnError == client.OnErrorRefuse && !missed.Permanent {
		return missed.Retryable()
	}
	return nil
}

func (c *logsConnector) count(ctx context.Context, reason string, records int) {
	c.telemetry.MissedRecords.Add(context.WithoutCancel(ctx), int64(records),
		metric.WithAttributes(attribute.String("reason", reason)))
}
