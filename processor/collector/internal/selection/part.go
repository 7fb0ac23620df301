package selection

import (
	"strings"

	"go.opentelemetry.io/collector/pdata/ptrace"
)

// Encode the selected spans at places, with their resources and scopes and in the same order, as an export request,
// without content that nobody reads. The spans are moved out and back, which copies none of them; td is unchanged
// afterwards.
func (s Selection) Encode(td ptrace.Traces, places []Place) ([]byte, error) {
	kept := s.leaveOut(td, places)
	defer func() {
		for _, one := range kept {
			one.value.MoveTo(one.at)
		}
	}()
	marshaler := ptrace.ProtoMarshaler{}
	if len(places) == td.SpanCount() {
		return marshaler.MarshalTraces(td)
	}
	part := ptrace.NewTraces()
	var resource ptrace.ResourceSpans
	var spans ptrace.SpanSlice
	last := Place{Resource: -1, Scope: -1}
	for _, place := range places {
		from := td.ResourceSpans().At(place.Resource)
		if place.Resource != last.Resource {
			resource = part.ResourceSpans().AppendEmpty()
			from.Resource().CopyTo(resource.Resource())
		}
		if place.Resource != last.Resource || place.Scope != last.Scope {
			scope := resource.ScopeSpans().AppendEmpty()
			from.ScopeSpans().At(place.Scope).Scope().CopyTo(scope.Scope())
			spans = scope.Spans()
		}
		last = place
		place.Of(td).MoveTo(spans.AppendEmpty())
	}
	body, err := marshaler.MarshalTraces(part)
	next := 0
	for _, rs := range part.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, span := range ss.Spans().All() {
				span.MoveTo(places[next].Of(td))
				next++
			}
		}
	}
	return body, err
}

// FollowsConvention says whether a span has an attribute of OpenTelemetry's GenAI conventions. It only serves to mark
// spans that pass before the first handshake, when the server's markers are not known.
func FollowsConvention(span ptrace.Span) bool {
	for key := range span.Attributes().All() {
		if strings.HasPrefix(key, "gen_ai.") {
			return true
		}
	}
	return false
}
