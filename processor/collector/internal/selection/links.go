package selection

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// links keeps what the enricher needs of plain spans, should their trace turn out to have GenAI spans: ids, and the
// attributes that name a session, a run or a tenant. A ring: the oldest go first. Not safe for concurrent use.
type links struct {
	ring  []link
	heads map[pcommon.TraceID]int // place in ring of the trace's latest link
	next  int
	bytes int // of names; a resource's count for each of its spans
}

const (
	longestName = 1 << 10
	bytesKept   = 32 << 20
)

type link struct {
	trace        pcommon.TraceID
	span, parent pcommon.SpanID
	before       int // place of the trace's link before this one; -1 for none
	names        []name
	resource     []name
}

type name struct{ key, value string }

func newLinks(size int) *links {
	return &links{ring: make([]link, size), heads: make(map[pcommon.TraceID]int)}
}

// keep the link of a plain span, with the names that the span and its resource have.
func (l *links) keep(span ptrace.Span, names, resource []name) {
	at := &l.ring[l.next]
	if head, ok := l.heads[at.trace]; ok && head == l.next { // it was the last of its trace
		delete(l.heads, at.trace)
	}
	before, ok := l.heads[span.TraceID()]
	if !ok {
		before = -1
	}
	l.bytes -= size(at.names) + size(at.resource)
	names, resource = short(names), short(resource)
	if more := size(names) + size(resource); l.bytes+more > bytesKept {
		names, resource = nil, nil
	} else {
		l.bytes += more
	}
	*at = link{span.TraceID(), span.SpanID(), span.ParentSpanID(), before, names, resource}
	l.heads[at.trace] = l.next
	l.next = (l.next + 1) % len(l.ring)
}

// take the links of a trace out, as spans that hold nothing else. A link that was overwritten ends the chain.
func (l *links) take(trace pcommon.TraceID, into ptrace.Traces) int {
	place, ok := l.heads[trace]
	if !ok {
		return 0
	}
	delete(l.heads, trace)
	taken := 0
	for place >= 0 && taken < len(l.ring) {
		at := l.ring[place]
		if at.trace != trace {
			break
		}
		l.bytes -= size(at.names) + size(at.resource)
		taken++
		resource := into.ResourceSpans().AppendEmpty()
		put(resource.Resource().Attributes(), at.resource)
		span := resource.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
		span.SetTraceID(at.trace)
		span.SetSpanID(at.span)
		span.SetParentSpanID(at.parent)
		put(span.Attributes(), at.names)
		before := at.before
		l.ring[place] = link{before: -1}
		place = before
	}
	return taken
}

func size(names []name) int {
	n := 0
	for _, one := range names {
		n += len(one.key) + len(one.value)
	}
	return n
}

// short leaves out names that are no ids of anything: they would only take memory.
func short(names []name) []name {
	for i, one := range names {
		if len(one.value) > longestName {
			kept := append([]name(nil), names[:i]...)
			for _, other := range names[i+1:] {
				if len(other.value) <= longestName {
					kept = append(kept, other)
				}
			}
			return kept
		}
	}
	return names
}

func put(attributes pcommon.Map, names []name) {
	for _, n := range names {
		attributes.PutStr(n.key, n.value)
	}
}
