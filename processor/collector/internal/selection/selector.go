package selection

import (
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/spanledger/spanledger/processor/collector/internal/protocol"
)

const (
	tracesKept = 8192
	linksKept  = 1 << 16
)

// Place of a span in a request. Marked: a GenAI span, it seems; Content: it has values that need not be sent.
type Place struct {
	Resource, Scope, Span int
	Marked, Content       bool
}

// Of returns the span at the place.
func (p Place) Of(td ptrace.Traces) ptrace.Span {
	return td.ResourceSpans().At(p.Resource).ScopeSpans().At(p.Scope).Spans().At(p.Span)
}

// Selection of a request: the spans to send in their order, and links of plain spans that came earlier.
type Selection struct {
	Places []Place
	Marked int
	Links  ptrace.Traces

	keys *keys
}

// Revision of the description by which it was selected.
func (s Selection) Revision() string {
	if s.keys == nil {
		return ""
	}
	return s.keys.description.Revision
}

// Selector remembers which traces had GenAI spans lately, and links of plain spans of the others; both bounded.
type Selector struct {
	keys atomic.Pointer[keys]

	mu    sync.Mutex
	known map[pcommon.TraceID]struct{}
	ring  []pcommon.TraceID
	next  int
	links *links
}

// New makes a selector that selects nothing until it is told how.
func New() *Selector {
	return &Selector{
		known: make(map[pcommon.TraceID]struct{}),
		ring:  make([]pcommon.TraceID, tracesKept),
		links: newLinks(linksKept),
	}
}

// Use the lists of a description from now on.
func (s *Selector) Use(description protocol.Description) { s.keys.Store(newKeys(description)) }

// MoveAside moves what only Spanledger writes aside on a span that goes on without an answer.
func (s *Selector) MoveAside(attributes pcommon.Map) {
	if k := s.keys.Load(); k != nil {
		protocol.MoveAside(attributes, k.naming, k.description.TrustedHop)
		return
	}
	protocol.MoveAside(attributes, nil, false)
}

// Select the marked spans, and the plain ones of traces that have marked ones. First all spans are looked at, so that
// the order inside a request never matters.
func (s *Selector) Select(td ptrace.Traces) Selection {
	k := s.keys.Load()
	if k == nil {
		return Selection{Links: ptrace.NewTraces()}
	}
	scan := scan{keys: k, known: k.snapshot()}
	scan.request(td)
	s.mu.Lock()
	defer s.mu.Unlock()
	selection := Selection{Marked: scan.marked, Links: ptrace.NewTraces(), keys: k}
	for trace := range scan.traces {
		s.remember(trace)
		s.links.take(trace, selection.Links)
	}
	n := 0
	var last pcommon.TraceID
	lastKnown := false
	for i, rs := range td.ResourceSpans().All() {
		for j, ss := range rs.ScopeSpans().All() {
			for l, span := range ss.Spans().All() {
				found := scan.spans[n]
				n++
				if !found.marked {
					if id := span.TraceID(); n == 1 || id != last {
						last = id
						_, lastKnown = s.known[id]
					}
					if !lastKnown {
						s.links.keep(span, scan.names[found.from:found.to:found.to], scan.resources[i])
						continue
					}
				}
				selection.Places = append(selection.Places, Place{i, j, l, found.marked, found.content})
			}
		}
	}
	return selection
}

// Return links whose request failed, so that they come with the next one of their trace.
func (s *Selector) Return(links ptrace.Traces) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rs := range links.ResourceSpans().All() {
		resource := namesOf(rs.Resource().Attributes())
		for _, ss := range rs.ScopeSpans().All() {
			for _, span := range ss.Spans().All() {
				s.links.keep(span, namesOf(span.Attributes()), resource)
			}
		}
	}
}

// Keep links of the plain spans of a request that failed and went on, so that they come with the next one of their trace.
func (s *Selector) Keep(td ptrace.Traces, selection Selection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, place := range selection.Places {
		if !place.Marked {
			resource := td.ResourceSpans().At(place.Resource).Resource().Attributes()
			span := place.Of(td)
			s.links.keep(span, selection.keys.namesAmong(span.Attributes()), selection.keys.namesAmong(resource))
		}
	}
}

func namesOf(attributes pcommon.Map) []name {
	var names []name
	for key, value := range attributes.All() {
		names = append(names, name{key, value.Str()})
	}
	return names
}

func (s *Selector) remember(trace pcommon.TraceID) {
	if _, ok := s.known[trace]; ok {
		return
	}
	if len(s.known) >= len(s.ring) {
		delete(s.known, s.ring[s.next])
	}
	s.known[trace] = struct{}{}
	s.ring[s.next] = trace
	s.next = (s.next + 1) % len(s.ring)
}

// scan of one request. What names something stands in one list for all spans.
type scan struct {
	keys      *keys
	known     map[string]class
	spans     []scanned
	names     []name
	resources [][]name
	marked    int
	traces    map[pcommon.TraceID]struct{}
	before    []classified
}

// classified is a key that a span had at some place. The next span is mostly one of the same kind: to compare costs a
// fifth of a look into the map.
type classified struct {
	key   string
	class class
}

// scanned is what is known of one span: the names that it has, by their places in the scan's list.
type scanned struct {
	from, to        int32
	marked, content bool
}

func (s *scan) request(td ptrace.Traces) {
	s.spans = make([]scanned, 0, td.SpanCount())
	for _, rs := range td.ResourceSpans().All() {
		first := len(s.names)
		s.attributes(rs.Resource().Attributes())
		s.resources = append(s.resources, s.names[first:len(s.names):len(s.names)])
		for _, ss := range rs.ScopeSpans().All() {
			for _, span := range ss.Spans().All() {
				first := len(s.names)
				hit, content := s.attributes(span.Attributes())
				hit = hit || s.keys.marks(span.Name())
				if hit {
					s.marked++
					if s.traces == nil {
						s.traces = make(map[pcommon.TraceID]struct{})
					}
					s.traces[span.TraceID()] = struct{}{}
				}
				s.spans = append(s.spans, scanned{int32(first), int32(len(s.names)), hit, content})
			}
		}
	}
}

// attributes says whether one of the keys is a marker, and whether there is content that need not be sent. What names
// something joins the scan's list.
func (s *scan) attributes(attributes pcommon.Map) (hit, content bool) {
	at := -1
	for key, value := range attributes.All() {
		at++
		c := s.classOf(key, at)
		if c == 0 {
			continue
		}
		hit = hit || c&marker != 0
		if c&naming != 0 {
			s.names = append(s.names, name{key, value.AsString()})
		}
		content = content || (c>>unreadShift != 0 && worthLeavingOut(value))
	}
	return hit, content
}

func (s *scan) classOf(key string, at int) class {
	if at < len(s.before) && s.before[at].key == key {
		return s.before[at].class
	}
	c, ok := s.known[key]
	if !ok {
		c = s.keys.classify(key)
	}
	if at < len(s.before) {
		s.before[at] = classified{key, c}
	} else {
		s.before = append(s.before, classified{key, c})
	}
	return c
}
