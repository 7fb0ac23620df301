package selection

import (
	"encoding/binary"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

const (
	longestName = 1 << 10
	bytesKept   = 32 << 20
)

// links keeps what the enricher needs of plain spans, should their trace turn out to have GenAI spans: ids, and the
// attributes that name a session, a run or a tenant. A ring: the oldest go first. Not safe for concurrent use.
//
// Neither ring nor heads hold a pointer, or the garbage collector would go over all of them again and again: that cost
// a pipeline of plain spans more than to look at the spans.
type links struct {
	ring    []link
	heads   map[pcommon.TraceID]int32 // place in ring of the trace's latest link
	next    int32
	namings namings
}

type link struct {
	trace           pcommon.TraceID
	span, parent    pcommon.SpanID
	before          int32 // place of the trace's link before this one; -1 for none
	names, resource handle
}

type name struct{ key, value string }

func newLinks(size int) *links {
	return &links{
		ring:    make([]link, size),
		heads:   make(map[pcommon.TraceID]int32),
		namings: namings{known: make(map[string]handle), held: make([]heldNames, 1)},
	}
}

// keep the link of a plain span, with the names that the span and its resource have.
func (l *links) keep(span ptrace.Span, names, resource []name) {
	at := &l.ring[l.next]
	if after := &l.ring[(int(l.next)+1)%len(l.ring)]; after.trace != at.trace || after.before != l.next {
		if head, ok := l.heads[at.trace]; ok && head == l.next { // it was the last of its trace
			delete(l.heads, at.trace)
		}
	}
	before, ok := l.heads[span.TraceID()]
	if !ok {
		before = -1
	}
	l.namings.release(at.names)
	l.namings.release(at.resource)
	*at = link{span.TraceID(), span.SpanID(), span.ParentSpanID(), before, l.namings.hold(names), l.namings.hold(resource)}
	l.heads[at.trace] = l.next
	l.next = (l.next + 1) % int32(len(l.ring))
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
		taken++
		resource := into.ResourceSpans().AppendEmpty()
		l.namings.put(at.resource, resource.Resource().Attributes())
		span := resource.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
		span.SetTraceID(at.trace)
		span.SetSpanID(at.span)
		span.SetParentSpanID(at.parent)
		l.namings.put(at.names, span.Attributes())
		l.namings.release(at.names)
		l.namings.release(at.resource)
		l.ring[place] = link{before: -1}
		place = at.before
	}
	return taken
}

// handle of names that are held; 0 for none.
type handle int32

// namings holds what spans and resources name, each combination once however many have it: encoded, keys and values
// behind their lengths.
type namings struct {
	known   map[string]handle
	held    []heldNames
	free    []handle
	bytes   int
	scratch []byte
}

type heldNames struct {
	encoded string
	users   int32
}

// hold names. Those that are no ids of anything are left out, they would only take memory; all are while there is no room.
func (n *namings) hold(names []name) handle {
	n.scratch = n.scratch[:0]
	for _, one := range names {
		if len(one.key) <= longestName && len(one.value) <= longestName {
			for _, text := range [...]string{one.key, one.value} {
				n.scratch = append(binary.BigEndian.AppendUint16(n.scratch, uint16(len(text))), text...)
			}
		}
	}
	if len(n.scratch) == 0 {
		return 0
	}
	h, ok := n.known[string(n.scratch)]
	if !ok {
		if n.bytes+len(n.scratch) > bytesKept {
			return 0
		}
		encoded := string(n.scratch)
		n.bytes += len(encoded)
		if last := len(n.free) - 1; last >= 0 {
			h, n.free = n.free[last], n.free[:last]
			n.held[h] = heldNames{encoded: encoded}
		} else {
			h = handle(len(n.held))
			n.held = append(n.held, heldNames{encoded: encoded})
		}
		n.known[encoded] = h
	}
	n.held[h].users++
	return h
}

func (n *namings) release(h handle) {
	if h == 0 {
		return
	}
	one := &n.held[h]
	if one.users--; one.users == 0 {
		n.bytes -= len(one.encoded)
		delete(n.known, one.encoded)
		*one = heldNames{}
		n.free = append(n.free, h)
	}
}

func (n *namings) put(h handle, attributes pcommon.Map) {
	rest := n.held[h].encoded
	cut := func() string {
		end := 2 + int(rest[0])<<8 + int(rest[1])
		text := rest[2:end]
		rest = rest[end:]
		return text
	}
	for rest != "" {
		key := cut()
		attributes.PutStr(key, cut())
	}
}
