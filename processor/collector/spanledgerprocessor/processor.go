package spanledgerprocessor

import (
	"context"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/spanledger/spanledger/processor/collector/internal/client"
	"github.com/spanledger/spanledger/processor/collector/internal/metadata"
	"github.com/spanledger/spanledger/processor/collector/internal/protocol"
	"github.com/spanledger/spanledger/processor/collector/internal/selection"
)

const missedKey = protocol.MissedKey

type tracesProcessor struct {
	cfg       *Config
	client    *client.Client
	selector  *selection.Selector
	telemetry *metadata.TelemetryBuilder
}

func newProcessor(ctx context.Context, cfg *Config, set component.TelemetrySettings) (*tracesProcessor, error) {
	telemetry, err := metadata.NewTelemetryBuilder(set)
	if err != nil {
		return nil, err
	}
	selector := selection.New()
	p := &tracesProcessor{cfg, client.New(cfg, set, selector.Use), selector, telemetry}
	for _, reason := range client.Reasons {
		p.countMissed(ctx, reason, 0)
	}
	return p, nil
}

// process enriches the GenAI spans of td in place. Spans that cannot be enriched go on marked, or the request is refused
// before any span is touched.
func (p *tracesProcessor) process(ctx context.Context, td ptrace.Traces) (ptrace.Traces, error) {
	if _, missed := p.client.Describe(ctx); missed != nil {
		return p.undescribed(ctx, td, missed)
	}
	selected := p.selector.Select(td)
	answers, missed := p.ask(ctx, td, selected)
	if missed != nil && missed.Stale {
		p.selector.Return(selected.Links)
		if again := p.client.Renew(ctx, selected.Revision()); again != nil {
			answers, missed = failed(selected.Places, again.Reason), again
			selected.Links = ptrace.NewTraces()
		} else {
			selected = p.selector.Select(td)
			answers, missed = p.ask(ctx, td, selected)
		}
	}
	p.telemetry.PlainSpans.Add(ctx, int64(td.SpanCount()-selected.Marked))
	if missed != nil {
		p.selector.Return(selected.Links)
	}
	if missed != nil && !missed.Permanent && p.cfg.OnError == client.OnErrorRefuse {
		p.countMissed(ctx, missed.Reason, selected.Marked)
		return td, missed.Retryable()
	}
	if missed != nil { // with refuse its sender sends them again
		p.selector.Keep(td, selected)
	}
	p.apply(ctx, td, answers)
	return td, nil
}

// undescribed handles a request before the first handshake: there are no markers to select by. The convention's own
// prefix then tells which spans are counted as missed, and marked where they go on.
func (p *tracesProcessor) undescribed(
	ctx context.Context, td ptrace.Traces, missed *client.Missed,
) (ptrace.Traces, error) {
	refuse := p.cfg.OnError == client.OnErrorRefuse
	count := 0
	for _, rs := range td.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, span := range ss.Spans().All() {
				follows := selection.FollowsConvention(span)
				if follows {
					count++
				}
				if refuse {
					continue
				}
				p.selector.MoveAside(span.Attributes())
				if follows {
					span.Attributes().PutStr(missedKey, missed.Reason)
				}
			}
		}
	}
	p.countMissed(ctx, missed.Reason, count)
	if refuse {
		return td, missed.Retryable()
	}
	return td, nil
}

// answered holds what one span gains: an answer of the enricher, or the reason why there is none.
type answered struct {
	place  selection.Place
	answer protocol.SpanAnswer
	reason string
}

// ask for all selected spans, in as many requests as their size needs. The error is the first one; spans of requests
// that failed carry its reason.
func (p *tracesProcessor) ask(
	ctx context.Context, td ptrace.Traces, selected selection.Selection,
) ([]answered, *client.Missed) {
	if len(selected.Places) == 0 {
		return nil, nil
	}
	links, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(selected.Links)
	if err != nil {
		return failed(selected.Places, client.Refused), &client.Missed{Reason: client.Refused, Err: err, Permanent: true}
	}
	return p.askFor(ctx, td, selected, selected.Places, links, selected.Links.SpanCount())
}

// askFor the spans at places. links is an encoded request of so many spans that is sent behind them: encoded messages
// concatenate.
func (p *tracesProcessor) askFor(
	ctx context.Context, td ptrace.Traces, selected selection.Selection, places []selection.Place, links []byte, linkCount int,
) ([]answered, *client.Missed) {
	body, err := selected.Encode(td, places)
	if err != nil {
		return failed(places, client.Refused), &client.Missed{Reason: client.Refused, Err: err, Permanent: true}
	}
	if len(body) > p.client.MaxMessage() {
		return p.split(ctx, td, selected, places, links, linkCount)
	}
	if len(body)+len(links) > p.client.MaxMessage() {
		links, linkCount = nil, 0 // spans come before what they may belong to
	}
	body = append(body, links...)
	var answer protocol.Answer
	begun := time.Now()
	p.telemetry.InFlight.Add(ctx, int64(len(body)))
	missed := p.client.Call(ctx, protocol.EnrichTraces, selected.Revision(), body, func(encoded []byte) (bool, error) {
		answer, err = protocol.ReadAnswer(encoded, len(places)+linkCount)
		return answer.Stale, err
	})
	p.telemetry.InFlight.Add(context.WithoutCancel(ctx), -int64(len(body)))
	p.telemetry.CallDuration.Record(context.WithoutCancel(ctx), time.Since(begun).Seconds())
	if missed != nil && missed.Reason == client.TooLarge {
		return p.split(ctx, td, selected, places, links, linkCount)
	}
	if missed != nil {
		return failed(places, missed.Reason), missed
	}
	answers := make([]answered, 0, len(answer.Spans))
	for _, one := range answer.Spans {
		if one.Span >= len(places) { // what stands behind them are links
			continue
		}
		if place := places[one.Span]; place.Marked || one.Failure == "" { // a plain span of the trace misses nothing
			answers = append(answers, answered{place, one, one.Failure})
		}
	}
	return answers, nil
}

// split a request that is too large for one message. Earlier links go with the first half.
func (p *tracesProcessor) split(
	ctx context.Context, td ptrace.Traces, selected selection.Selection, places []selection.Place, links []byte, linkCount int,
) ([]answered, *client.Missed) {
	if len(places) == 1 {
		return failed(places, client.TooLarge), p.client.NeverFits()
	}
	half := len(places) / 2
	first, missed := p.askFor(ctx, td, selected, places[:half], links, linkCount)
	second, missedToo := p.askFor(ctx, td, selected, places[half:], nil, 0)
	if missed == nil || missed.Permanent && missedToo != nil {
		missed = missedToo // what another try may heal comes first
	}
	return append(first, second...), missed
}

func failed(places []selection.Place, reason string) []answered {
	answers := make([]answered, 0, len(places))
	for _, place := range places {
		if place.Marked { // a plain span of the trace misses nothing
			answers = append(answers, answered{place: place, reason: reason})
		}
	}
	return answers
}

// apply what was answered to the spans.
func (p *tracesProcessor) apply(ctx context.Context, td ptrace.Traces, answers []answered) {
	enriched := 0
	missed := map[string]int{}
	for _, one := range answers {
		attributes := one.place.Of(td).Attributes()
		one.answer.ApplyTo(attributes)
		if one.reason == "" {
			if one.place.Marked { // a plain span may have had something moved aside
				enriched++
			}
			continue
		}
		p.selector.MoveAside(attributes)
		attributes.PutStr(missedKey, one.reason)
		missed[metricReason(one)]++
	}
	p.telemetry.EnrichedSpans.Add(ctx, int64(enriched))
	for reason, count := range missed {
		p.countMissed(ctx, reason, count)
	}
}

// metricReason keeps the names of errors inside the enricher out of the metric's attribute values.
func metricReason(one answered) string {
	if one.answer.Failure != "" {
		return client.Failed
	}
	return one.reason
}

func (p *tracesProcessor) countMissed(ctx context.Context, reason string, count int) {
	p.telemetry.MissedSpans.Add(context.WithoutCancel(ctx), int64(count),
		metric.WithAttributes(attribute.String("reason", reason)))
}
