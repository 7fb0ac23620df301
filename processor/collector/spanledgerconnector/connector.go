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
		return c.missed(ctx, missed, selection.Events(ld)) // any of them may be one that spans are made from
	}
	part, revision := c.records.Select(ld)
	made := c.makeSpans(ctx, part, revision)
	if made.missed != nil && made.missed.Stale {
		if again := c.client.Renew(ctx, revision); again != nil {
			made.missed = again
		} else {
			part, revision = c.records.Select(ld)
			made = c.makeSpans(ctx, part, revision)
		}
	}
	if made.missed != nil {
		if err := c.missed(ctx, made.missed, part.LogRecordCount()-made.answered); err != nil {
			return err
		}
	}
	if made.traces.SpanCount() == 0 {
		return nil
	}
	return c.next.ConsumeTraces(ctx, made.traces)
}

// madeSpans are the spans made of so many records, and why there are none of the others. What would fail again however
// often it is sent is counted as answered.
type madeSpans struct {
	traces   ptrace.Traces
	answered int
	missed   *client.Missed
}

func (c *logsConnector) makeSpans(ctx context.Context, part plog.Logs, revision string) madeSpans {
	made := madeSpans{traces: ptrace.NewTraces()}
	if part.ResourceLogs().Len() == 0 {
		return made
	}
	body, err := (&plog.ProtoMarshaler{}).MarshalLogs(part)
	if err != nil {
		return c.never(ctx, client.Refused, part.LogRecordCount())
	}
	if len(body) > c.client.MaxMessage() {
		return c.split(ctx, part, revision)
	}
	made.missed = c.client.Call(ctx, protocol.MakeSpans, revision, body, func(encoded []byte) (bool, error) {
		answer, err := protocol.ReadMade(encoded, part.LogRecordCount())
		if err != nil || answer.Stale {
			return answer.Stale, err
		}
		made.traces, err = (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(answer.Traces)
		if err == nil && answer.RecordsFailed > 0 {
			c.count(ctx, client.Failed, int(answer.RecordsFailed))
		}
		return false, err
	})
	switch {
	case made.missed == nil:
		made.answered = part.LogRecordCount()
	case made.missed.Reason == client.TooLarge:
		return c.split(ctx, part, revision)
	case made.missed.Permanent:
		return c.never(ctx, made.missed.Reason, part.LogRecordCount())
	default:
		made.traces = ptrace.NewTraces()
	}
	return made
}

// split a request that is too large for one message by its records. The second half is not asked for where another try
// may heal the first.
func (c *logsConnector) split(ctx context.Context, part plog.Logs, revision string) madeSpans {
	if part.LogRecordCount() <= 1 {
		return c.never(ctx, c.client.NeverFits().Reason, part.LogRecordCount())
	}
	first, second := selection.Halves(part)
	made := c.makeSpans(ctx, first, revision)
	if made.missed != nil {
		return made
	}
	more := c.makeSpans(ctx, second, revision)
	more.traces.ResourceSpans().MoveAndAppendTo(made.traces.ResourceSpans())
	return madeSpans{made.traces, made.answered + more.answered, more.missed}
}

// never counts records that no spans can be made from however often they are sent: those beside them go on.
func (c *logsConnector) never(ctx context.Context, reason string, records int) madeSpans {
	c.count(ctx, reason, records)
	return madeSpans{traces: ptrace.NewTraces(), answered: records}
}

// missed counts records without spans. The logs themselves go on by their own pipeline; only refuse tells the sender.
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
