package selection

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/spanledger/spanledger/processor/collector/internal/protocol"
)

func described(markers ...string) *Selector {
	s := New()
	s.Use(protocol.Description{Protocol: 1, Revision: "1", SpanMarkers: markers, LinkKeys: []string{"session.id"}})
	return s
}

func request(resource string, spans ...ptrace.Span) ptrace.Traces {
	td := ptrace.NewTraces()
	rs := td.ResourceSpans().AppendEmpty()
	if resource != "" {
		rs.Resource().Attributes().PutStr("session.id", resource)
	}
	into := rs.ScopeSpans().AppendEmpty().Spans()
	for _, span := range spans {
		span.CopyTo(into.AppendEmpty())
	}
	return td
}

func span(trace, id, parent byte, keys ...string) ptrace.Span {
	s := ptrace.NewSpan()
	s.SetTraceID(pcommon.TraceID{trace})
	s.SetSpanID(pcommon.SpanID{id})
	if parent != 0 {
		s.SetParentSpanID(pcommon.SpanID{parent})
	}
	for _, key := range keys {
		s.Attributes().PutStr(key, "value of "+key)
	}
	return s
}

func TestMarkedSpansAndPlainOnesOfTheirTrace(t *testing.T) {
	s := described("gen_ai.")
	got := s.Select(request("", span(1, 1, 0), span(2, 2, 0), span(1, 3, 1, "gen_ai.system"), span(1, 4, 3)))
	if got.Marked != 1 || len(got.Places) != 3 || got.Places[1].Span != 2 || !got.Places[1].Marked {
		t.Fatalf("%+v", got.Places)
	}
	if again := s.Select(request("", span(1, 5, 1), span(2, 6, 0))); len(again.Places) != 1 || again.Marked != 0 {
		t.Fatalf("a later plain span of the trace is sent too: %+v", again.Places)
	}
}

func TestAMarkerInTheNameCounts(t *testing.T) {
	one := span(1, 1, 0)
	one.SetName("genkit:generate")
	if got := described("genkit:").Select(request("", one)); got.Marked != 1 {
		t.Fatal(got)
	}
}

func TestNothingIsSelectedBeforeTheHandshake(t *testing.T) {
	if got := New().Select(request("", span(1, 1, 0, "gen_ai.system"))); len(got.Places) != 0 {
		t.Fatal(got)
	}
}

func TestLinksOfEarlierPlainSpansComeWithTheFirstMarkedOne(t *testing.T) {
	s := described("gen_ai.")
	s.Select(request("of the resource", span(1, 1, 0, "session.id"), span(1, 2, 1), span(9, 3, 0)))
	got := s.Select(request("", span(1, 4, 2, "gen_ai.system")))
	if got.Links.SpanCount() != 2 {
		t.Fatal(got.Links.SpanCount())
	}
	parents := map[pcommon.SpanID]pcommon.SpanID{}
	sessions := 0
	for _, rs := range got.Links.ResourceSpans().All() {
		link := rs.ScopeSpans().At(0).Spans().At(0)
		parents[link.SpanID()] = link.ParentSpanID()
		if of, _ := rs.Resource().Attributes().Get("session.id"); of.Str() != "of the resource" {
			t.Fatal("the resource's session is lost")
		}
		if _, ok := link.Attributes().Get("session.id"); ok {
			sessions++
		}
	}
	if parents[pcommon.SpanID{2}] != (pcommon.SpanID{1}) || sessions != 1 {
		t.Fatal(parents, sessions)
	}
	if s.Select(request("", span(1, 5, 2, "gen_ai.system"))).Links.SpanCount() != 0 {
		t.Fatal("links are sent once")
	}
}

func TestTheOldestLinksGoFirst(t *testing.T) {
	l := newLinks(100)
	for i := range 1000 {
		s := span(byte(i/10), byte(i%10)+1, 0)
		l.keep(s, nil, nil)
	}
	for trace := range 100 {
		want := 0
		if trace >= 90 {
			want = 10
		}
		if got := l.take(pcommon.TraceID{byte(trace)}, ptrace.NewTraces()); got != want {
			t.Fatalf("trace %d: %d links, want %d", trace, got, want)
		}
	}
	if len(l.heads) != 0 {
		t.Fatal(len(l.heads))
	}
}

func TestTheBytesOfNamesAreBounded(t *testing.T) {
	l := newLinks(1 << 16)
	long, value := strings.Repeat("x", longestName+1), strings.Repeat("y", longestName-8)
	for i := range 3 * bytesKept / longestName {
		session := fmt.Sprintf("%s%08d", value, i)
		l.keep(span(byte(i/5000), byte(i), 0), []name{{"k", long}, {"session.id", session}}, []name{{"tenant", "one"}})
		if l.namings.bytes > bytesKept {
			t.Fatal(l.namings.bytes)
		}
	}
	for encoded := range l.namings.known {
		if strings.Contains(encoded, long) {
			t.Fatal("a name that is no id was kept")
		}
	}
	if len(l.namings.known) < bytesKept/(longestName+64) {
		t.Fatal(len(l.namings.known))
	}
	for i := range len(l.ring) {
		l.keep(span(200, byte(i), 0), nil, nil)
	}
	if l.namings.bytes != 0 || len(l.namings.known) != 0 || len(l.namings.free) != len(l.namings.held)-1 {
		t.Fatal(l.namings.bytes, len(l.namings.known), len(l.namings.free))
	}
}

func TestNamesThatManyLinksShareAreHeldUntilTheLastIsTaken(t *testing.T) {
	l := newLinks(8)
	shared := []name{{"session.id", "s"}, {"run.id", ""}}
	l.keep(span(1, 1, 0), shared, shared)
	l.keep(span(2, 2, 0), shared, nil)
	for trace := range byte(2) {
		into := ptrace.NewTraces()
		if l.take(pcommon.TraceID{trace + 1}, into) != 1 {
			t.Fatal(trace)
		}
		attributes := into.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).Attributes()
		session, _ := attributes.Get("session.id")
		if run, ok := attributes.Get("run.id"); session.Str() != "s" || !ok || run.Str() != "" {
			t.Fatal(attributes.AsRaw())
		}
	}
	if len(l.namings.known) != 0 || l.namings.bytes != 0 {
		t.Fatal(l.namings)
	}
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	s := described("gen_ai.")
	for i := range 3 * tracesKept {
		one := span(0, 1, 0, fmt.Sprintf("gen_ai.key.%d", i))
		one.SetTraceID(pcommon.TraceID{byte(i), byte(i >> 8), byte(i >> 16), 1})
		s.Select(request("", one))
	}
	if len(s.known) > tracesKept || len(s.keys.Load().snapshot()) > keysKept {
		t.Fatal(len(s.known), len(s.keys.Load().snapshot()))
	}
}

func encoded(t *testing.T, td ptrace.Traces) string {
	t.Helper()
	body, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(td)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestEncodeLeavesTheRequestAsItWas(t *testing.T) {
	td := request("r", span(1, 1, 0), span(2, 2, 1, "gen_ai.system"), span(2, 3, 1))
	before := encoded(t, td)
	selected := described("gen_ai.").Select(td)
	part, err := selected.Encode(td, selected.Places)
	if err != nil {
		t.Fatal(err)
	}
	if encoded(t, td) != before {
		t.Fatal("changed")
	}
	if string(part) != encoded(t, request("r", span(2, 2, 1, "gen_ai.system"), span(2, 3, 1))) {
		t.Fatal("another part")
	}
}

func sparing(values ...protocol.UnreadValue) *Selector {
	s := New()
	s.Use(protocol.Description{Protocol: 1, Revision: "1", SpanMarkers: []string{"gen_ai."}, UnreadValues: values})
	return s
}

func TestContentThatNobodyReadsIsNotSent(t *testing.T) {
	long := strings.Repeat("a prompt ", 100)
	full := func() ptrace.Span {
		one := span(1, 1, 0)
		one.Attributes().PutStr("gen_ai.prompt.0.content", long)
		one.Attributes().PutStr("gen_ai.prompt.12.content", long)
		one.Attributes().PutStr("gen_ai.prompt.x.content", long)
		one.Attributes().PutStr("gen_ai.prompt..content", long)
		one.Attributes().PutStr("gen_ai.prompt.0.content.more", long)
		one.Attributes().PutStr("gen_ai.tools", "short")
		one.Attributes().PutEmptySlice("gen_ai.tools").AppendEmpty().SetStr("one")
		one.Attributes().PutEmptyBytes("gen_ai.image").FromRaw([]byte(long))
		one.Attributes().PutStr("gen_ai.system", long)
		return one
	}
	s := sparing(protocol.UnreadValue{Key: "gen_ai.prompt.*.content"}, protocol.UnreadValue{Key: "gen_ai.tools"},
		protocol.UnreadValue{Key: "gen_ai.image"})
	want := full()
	for _, key := range []string{"gen_ai.prompt.0.content", "gen_ai.prompt.12.content", "gen_ai.tools", "gen_ai.image"} {
		want.Attributes().PutStr(key, leftOut)
	}
	for name, others := range map[string][]ptrace.Span{"all": nil, "a part": {span(9, 9, 0)}} {
		t.Run(name, func(t *testing.T) {
			td := request("", append(others, full())...)
			before := encoded(t, td)
			selected := s.Select(td)
			part, err := selected.Encode(td, selected.Places)
			if err != nil {
				t.Fatal(err)
			}
			if string(part) != encoded(t, request("", want)) {
				t.Fatal("another part")
			}
			if encoded(t, td) != before {
				t.Fatal("the request was changed")
			}
		})
	}
}

func TestWhoReadsContentGetsIt(t *testing.T) {
	long := strings.Repeat("a prompt ", 100)
	s := sparing(protocol.UnreadValue{
		Key: "gen_ai.input", UnlessKeys: []string{"reader"}, UnlessScopes: []string{"gemini"}, UnlessNames: []string{"read "},
		Where: "kind", Values: []string{"llm"},
	})
	cases := map[string]struct {
		change  func(one ptrace.Span, scope pcommon.InstrumentationScope)
		leftOut bool
	}{
		"nobody":  {func(ptrace.Span, pcommon.InstrumentationScope) {}, true},
		"a key":   {func(one ptrace.Span, _ pcommon.InstrumentationScope) { one.Attributes().PutStr("reader", "") }, false},
		"a scope": {func(_ ptrace.Span, scope pcommon.InstrumentationScope) { scope.SetName("gemini-cli") }, false},
		"a name":  {func(one ptrace.Span, _ pcommon.InstrumentationScope) { one.SetName("read it") }, false},
		"but of this kind": {func(one ptrace.Span, scope pcommon.InstrumentationScope) {
			scope.SetName("gemini")
			one.Attributes().PutStr("kind", " \"LLM\"")
		}, true},
		"another kind": {func(one ptrace.Span, scope pcommon.InstrumentationScope) {
			scope.SetName("gemini")
			one.Attributes().PutStr("kind", "tool")
		}, false},
		"a kind of another type": {func(one ptrace.Span, scope pcommon.InstrumentationScope) {
			scope.SetName("gemini")
			one.Attributes().PutEmptySlice("kind").AppendEmpty().SetStr("llm")
		}, false},
		"without a span's id":  {func(one ptrace.Span, _ pcommon.InstrumentationScope) { one.SetSpanID(pcommon.SpanID{}) }, false},
		"without a trace's id": {func(one ptrace.Span, _ pcommon.InstrumentationScope) { one.SetTraceID(pcommon.TraceID{}) }, false},
	}
	for name, one := range cases {
		t.Run(name, func(t *testing.T) {
			td := request("", span(1, 1, 0))
			ss := td.ResourceSpans().At(0).ScopeSpans().At(0)
			ss.Spans().At(0).Attributes().PutStr("gen_ai.input", long)
			one.change(ss.Spans().At(0), ss.Scope())
			before := encoded(t, td)
			selected := s.Select(td)
			part, err := selected.Encode(td, selected.Places)
			if err != nil {
				t.Fatal(err)
			}
			if (string(part) != before) != one.leftOut {
				t.Fatalf("%d bytes of %d", len(part), len(before))
			}
			if encoded(t, td) != before {
				t.Fatal("the request was changed")
			}
		})
	}
}

// readCases are also those of the server's tests (tests/dialects/test_read_values.py).
type readCases struct {
	Unread []protocol.UnreadValue
	Read   []readCase
	Cases  []struct {
		Name       string
		Attributes map[string]any
		Read       []readCase // where others than for all
		LeftOut    []string   `json:"left_out"`
	}
}

type readCase struct {
	Key             string
	Markers         []string
	Fewest, Longest uint64
	Beside          string
	SamePlace       bool `json:"same_place"`
}

func TestWhatHoldsResultsOfToolsIsSent(t *testing.T) {
	text, err := os.ReadFile("testdata/read_values.json")
	if err != nil {
		t.Fatal(err)
	}
	var all readCases
	if err := json.Unmarshal(text, &all); err != nil || len(all.Cases) < 10 {
		t.Fatal(err, len(all.Cases))
	}
	for _, c := range all.Cases {
		t.Run(c.Name, func(t *testing.T) {
			d := protocol.Description{Revision: "1", SpanMarkers: []string{"gen_ai."}, UnreadValues: all.Unread}
			read := all.Read
			if c.Read != nil {
				read = c.Read
			}
			for _, r := range read {
				d.ReadValues = append(d.ReadValues, protocol.ReadValue(r))
			}
			s := New()
			s.Use(d)
			one := span(1, 1, 0)
			if err := one.Attributes().FromRaw(c.Attributes); err != nil {
				t.Fatal(err)
			}
			td := request("", one)
			selected := s.Select(td)
			part, err := selected.Encode(td, selected.Places)
			if err != nil {
				t.Fatal(err)
			}
			sent, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(part)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for key, value := range sent.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).Attributes().All() {
				if value.AsString() == leftOut {
					got = append(got, key)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, c.LeftOut) {
				t.Fatal(got)
			}
		})
	}
}

func TestATextThatIsNotUTF8IsLongerOnlyWhereItIsForSure(t *testing.T) {
	for text, want := range map[string]bool{
		strings.Repeat("\xe4\xbd", 100): false, // 100 characters to the server
		strings.Repeat("\xe4\xbd", 201): true,  // over 400 bytes are over 100 characters, whatever they are
		strings.Repeat("x", 101):        true,
	} {
		if longer(text, 100) != want {
			t.Fatalf("%d bytes", len(text))
		}
	}
}

func BenchmarkSelect(b *testing.B) {
	for _, percent := range []int{0, 10, 100} {
		b.Run(fmt.Sprintf("%d%%", percent), func(b *testing.B) {
			s := described("agentops.span.kind", "ai.operationId", "gen_ai.", "llm.", "openinference.span.kind", "traceloop.span.kind")
			var spans []ptrace.Span
			for i := range 512 {
				one := span(byte(i/16), byte(i), 0)
				for k := range 17 {
					one.Attributes().PutStr(fmt.Sprintf("http.attribute.%d", k), "value-of-some-length")
				}
				if i*100 < 512*percent {
					one.Attributes().PutStr("gen_ai.request.model", "gpt-4o")
				}
				spans = append(spans, one)
			}
			td := request("", spans...)
			for b.Loop() {
				s.Select(td)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/512, "ns/span")
		})
	}
}
