package spanledgerprocessor

import (
	"context"
	"fmt"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sender "go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/processortest"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/processor/collector/internal/client"
	"github.com/spanledger/spanledger/processor/collector/internal/enrichertest"
	"github.com/spanledger/spanledger/processor/collector/internal/metadata"
)

type answerer = func(ctx context.Context, method, revision string, telemetry []byte) ([]byte, error)

func enricher(t testing.TB, answer answerer) *enrichertest.Server {
	return enrichertest.Start(t, "tcp", "127.0.0.1:0", &enrichertest.Server{Answer: answer})
}

func started(t testing.TB, cfg *Config, sink *consumertest.TracesSink) processor.Traces {
	t.Helper()
	p, err := NewFactory().CreateTraces(t.Context(), processortest.NewNopSettings(metadata.Type), cfg, sink)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context(), componenttest.NewNopHost()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Shutdown(context.Background()) })
	return p
}

func config(endpoint string) *Config {
	cfg := createDefaultConfig().(*Config)
	cfg.Endpoint = endpoint
	cfg.Cooldown = 0
	cfg.Timeout = 20 * time.Second
	return cfg
}

// traces of n spans over two resources; every fourth is a GenAI span when mixed, every one when not.
func traces(n int, mixed bool) ptrace.Traces {
	td := ptrace.NewTraces()
	for r := range 2 {
		rs := td.ResourceSpans().AppendEmpty()
		rs.Resource().Attributes().PutInt("r", int64(r))
		spans := rs.ScopeSpans().AppendEmpty().Spans()
		for i := range n / 2 {
			s := spans.AppendEmpty()
			s.SetName(fmt.Sprintf("s-%d-%d", r, i))
			s.SetTraceID([16]byte{byte(r + 1), byte(i), byte(i >> 8), 1})
			s.SetSpanID([8]byte{byte(i), byte(i >> 8), 1})
			s.Attributes().PutStr("app.attribute", "value")
			if !mixed || i%4 == 0 {
				s.Attributes().PutStr("gen_ai.request.model", "gpt-4o")
			}
		}
	}
	return td
}

func count(sink *consumertest.TracesSink, key string) (n int, values map[string]int) {
	values = map[string]int{}
	for _, td := range sink.AllTraces() {
		for _, rs := range td.ResourceSpans().All() {
			for _, ss := range rs.ScopeSpans().All() {
				for _, span := range ss.Spans().All() {
					if value, ok := span.Attributes().Get(key); ok {
						n++
						values[value.Str()]++
					}
				}
			}
		}
	}
	return n, values
}

func TestFactory(t *testing.T) {
	if err := componenttest.CheckConfigStruct(NewFactory().CreateDefaultConfig()); err != nil {
		t.Fatal(err)
	}
	if NewFactory().TracesStability() != component.StabilityLevelDevelopment {
		t.Fatal("stability")
	}
}

func TestLifecycle(t *testing.T) {
	for range 2 {
		sink := &consumertest.TracesSink{}
		cfg := NewFactory().CreateDefaultConfig().(*Config)
		cfg.Endpoint, cfg.Timeout = "127.0.0.1:9", 100*time.Millisecond
		p := started(t, cfg, sink)
		if err := p.ConsumeTraces(t.Context(), traces(8, true)); err != nil {
			t.Fatal(err)
		}
		if err := p.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	p, _ := NewFactory().CreateTraces(t.Context(), processortest.NewNopSettings(metadata.Type),
		NewFactory().CreateDefaultConfig(), consumertest.NewNop())
	if err := p.Shutdown(t.Context()); err != nil { // without a start
		t.Fatal(err)
	}
	if !p.Capabilities().MutatesData {
		t.Fatal("it changes what it is handed")
	}
}

func TestConfig(t *testing.T) {
	conf := confmap.NewFromStringMap(map[string]any{
		"endpoint": "unix:///x.sock", "timeout": "3s", "on_error": "refuse", "max_message_mib": 8,
		"metadata_keys": []string{"x-tenant"}, "tls": map[string]any{"insecure": true},
	})
	cfg := createDefaultConfig().(*Config)
	if err := conf.Unmarshal(cfg); err != nil {
		t.Fatal(err)
	}
	if err := cfg.Validate(); err != nil || cfg.OnError != client.OnErrorRefuse || cfg.MaxMessageMiB != 8 {
		t.Fatal(err, cfg)
	}
	cfg.Timeout, cfg.Compression = 0, "zstd"
	problems := strings.Split(confmap.Validate(cfg).Error(), "\n")
	if len(problems) != 2 { // each is told once
		t.Fatal(problems)
	}
}

func TestNothingButTheAnswerIsAppended(t *testing.T) {
	for _, mixed := range []bool{true, false} {
		for _, network := range []string{"unix", "tcp"} {
			address := map[string]string{"unix": filepath.Join(t.TempDir(), "s"), "tcp": "127.0.0.1:0"}[network]
			s := enrichertest.Start(t, network, address, &enrichertest.Server{Answer: enrichertest.Each})
			sink := &consumertest.TracesSink{}
			p := started(t, config(s.Address), sink)
			if err := p.ConsumeTraces(t.Context(), traces(200, mixed)); err != nil {
				t.Fatal(err)
			}
			want := 200
			if mixed {
				want = 50
			}
			if got, _ := count(sink, "spanledger.kind"); got != want {
				t.Fatalf("%d spans enriched, want %d", got, want)
			}
			got := sink.AllTraces()[0]
			for _, rs := range got.ResourceSpans().All() {
				for _, span := range rs.ScopeSpans().At(0).Spans().All() {
					span.Attributes().Remove("spanledger.kind")
				}
			}
			a, _ := (&ptrace.ProtoMarshaler{}).MarshalTraces(traces(200, mixed))
			b, _ := (&ptrace.ProtoMarshaler{}).MarshalTraces(got)
			if string(a) != string(b) {
				t.Fatal("something else changed")
			}
		}
	}
}

func TestPlainSpansNeverLeave(t *testing.T) {
	s := enricher(t, enrichertest.Each)
	sink := &consumertest.TracesSink{}
	p := started(t, config(s.Address), sink)
	td := ptrace.NewTraces()
	td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty().SetName("GET /")
	if err := p.ConsumeTraces(t.Context(), td); err != nil {
		t.Fatal(err)
	}
	if s.Calls("EnrichTraces") != 0 || sink.SpanCount() != 1 {
		t.Fatal(s.Calls("EnrichTraces"), sink.SpanCount())
	}
}

func TestABadAnswerTouchesNoSpanButItsMark(t *testing.T) {
	cases := map[string]struct {
		answer answerer
		reason string
	}{
		"garbage": {func(context.Context, string, string, []byte) ([]byte, error) { return []byte("garbage"), nil }, client.BadAnswer},
		"nothing": {func(context.Context, string, string, []byte) ([]byte, error) { return nil, nil }, client.BadAnswer},
		"too few": {func(_ context.Context, _, _ string, b []byte) ([]byte, error) {
			return enrichertest.Message(len(enrichertest.Spans(b)), 2, 0, false, enrichertest.Entry(0, "a", "b")), nil
		}, client.BadAnswer},
		"cut": {func(_ context.Context, _, _ string, b []byte) ([]byte, error) {
			whole := enrichertest.Message(len(enrichertest.Spans(b)), 1, 0, false, enrichertest.Entry(0, "a", "b"))
			return whole[:len(whole)-1], nil
		}, client.BadAnswer},
		"a span twice": {func(_ context.Context, _, _ string, b []byte) ([]byte, error) {
			entry := enrichertest.Entry(0, "a", "b")
			return enrichertest.Message(len(enrichertest.Spans(b)), 2, 0, false, entry, entry), nil
		}, client.BadAnswer},
		"no attribute": {func(_ context.Context, _, _ string, b []byte) ([]byte, error) {
			entries := [][]byte{enrichertest.Entry(0, "a", "b"), enrichertest.Entry(1, "", "b")}
			return enrichertest.Message(len(enrichertest.Spans(b)), 2, 0, false, entries...), nil
		}, client.BadAnswer},
		"no answer": {func(ctx context.Context, _, _ string, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, client.Timeout},
		"an error": {func(context.Context, string, string, []byte) ([]byte, error) {
			return nil, status.Error(codes.Internal, "a bug")
		}, client.Refused},
	}
	for name, one := range cases {
		t.Run(name, func(t *testing.T) {
			s := enricher(t, one.answer)
			cfg := config(s.Address)
			if one.reason == client.Timeout {
				cfg.Timeout = 300 * time.Millisecond
			}
			sink := &consumertest.TracesSink{}
			p := started(t, cfg, sink)
			if err := p.ConsumeTraces(t.Context(), traces(16, true)); err != nil {
				t.Fatal(err)
			}
			missed, reasons := count(sink, missedKey)
			if touched, _ := count(sink, "a"); touched != 0 || missed != 4 || reasons[one.reason] != 4 {
				t.Fatal(touched, missed, reasons)
			}
			cfg = config(s.Address)
			cfg.OnError = client.OnErrorRefuse
			if one.reason == client.Timeout {
				cfg.Timeout = 300 * time.Millisecond
			}
			sink = &consumertest.TracesSink{}
			err := started(t, cfg, sink).ConsumeTraces(t.Context(), traces(16, true))
			if status.Code(err) != codes.Unavailable || sink.SpanCount() != 0 {
				t.Fatal(err, sink.SpanCount())
			}
		})
	}
}

func TestAFailureInsideTheEnricherMarksItsSpanOnly(t *testing.T) {
	s := enricher(t, func(_ context.Context, _, _ string, b []byte) ([]byte, error) {
		return enrichertest.Message(len(enrichertest.Spans(b)), 1, 1, false,
			enrichertest.Entry(0, "spanledger.kind", "llm"), enrichertest.Failure(1, "KeyError")), nil
	})
	sink := &consumertest.TracesSink{}
	if err := started(t, config(s.Address), sink).ConsumeTraces(t.Context(), traces(8, false)); err != nil {
		t.Fatal(err)
	}
	missed, reasons := count(sink, missedKey)
	if kinds, _ := count(sink, "spanledger.kind"); kinds != 1 || missed != 1 || reasons["KeyError"] != 1 {
		t.Fatal(kinds, missed, reasons)
	}
}

func TestAFailureOfAWholeRequestMarksNoPlainSpanOfItsTraces(t *testing.T) {
	var asked atomic.Int32
	s := enricher(t, func(_ context.Context, _, _ string, b []byte) ([]byte, error) {
		n := len(enrichertest.Spans(b))
		asked.Store(int32(n))
		failures := make([][]byte, n)
		for span := range failures {
			failures[span] = enrichertest.Failure(span, "KeyError")
		}
		return enrichertest.Message(n, 0, n, false, failures...), nil
	})
	td := ptrace.NewTraces()
	spans := td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans()
	for i := range 3 { // one of a model, and two plain ones around it
		span := spans.AppendEmpty()
		span.SetTraceID([16]byte{1})
		span.SetSpanID([8]byte{byte(i + 1)})
		if i == 1 {
			span.Attributes().PutStr("gen_ai.request.model", "gpt-4o")
		}
	}
	sink := &consumertest.TracesSink{}
	if err := started(t, config(s.Address), sink).ConsumeTraces(t.Context(), td); err != nil {
		t.Fatal(err)
	}
	if missed, _ := count(sink, missedKey); asked.Load() != 3 || missed != 1 || sink.SpanCount() != 3 {
		t.Fatal(asked.Load(), missed, sink.SpanCount())
	}
}

func TestWithoutAHandshakeGenAISpansAreMarked(t *testing.T) {
	sink := &consumertest.TracesSink{}
	p := started(t, config("127.0.0.1:9"), sink)
	if err := p.ConsumeTraces(t.Context(), traces(16, true)); err != nil {
		t.Fatal(err)
	}
	if missed, reasons := count(sink, missedKey); missed != 4 || reasons[client.NotConnected] != 4 {
		t.Fatal(missed, reasons)
	}
}

func TestWhatIsRefusedBeforeTheHandshakeIsCounted(t *testing.T) {
	telemetry := componenttest.NewTelemetry()
	set := processortest.NewNopSettings(metadata.Type)
	set.TelemetrySettings = telemetry.NewTelemetrySettings()
	cfg := config("127.0.0.1:9")
	cfg.OnError = client.OnErrorRefuse
	sink := &consumertest.TracesSink{}
	p, err := NewFactory().CreateTraces(t.Context(), set, cfg, sink)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context(), componenttest.NewNopHost()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Shutdown(context.Background()) })
	td := traces(16, true)
	if err := p.ConsumeTraces(t.Context(), td); status.Code(err) != codes.Unavailable || sink.SpanCount() != 0 {
		t.Fatal(err, sink.SpanCount())
	}
	a, _ := (&ptrace.ProtoMarshaler{}).MarshalTraces(traces(16, true))
	if b, _ := (&ptrace.ProtoMarshaler{}).MarshalTraces(td); string(a) != string(b) {
		t.Fatal("the spans were touched; their sender keeps them")
	}
	missed := enrichertest.Missed(t, telemetry, "otelcol_processor_spanledger_missed_spans")
	if len(missed) != 1 || missed[client.NotConnected] != 4 {
		t.Fatal(missed)
	}
}

func TestWhatIsMissedCarriesNoForgedAttribute(t *testing.T) {
	garbage := func(context.Context, string, string, []byte) ([]byte, error) { return []byte("garbage"), nil }
	trusted := enrichertest.Description()
	trusted.SpanMarkers, trusted.LinkKeys = []string{"gen_ai.", "spanledger."}, []string{"spanledger.session.id"}
	trusted.TrustedHop = true
	described := trusted
	described.TrustedHop = false
	for name, one := range map[string]struct {
		endpoint string
		kept     int
	}{
		"undescribed": {"127.0.0.1:9", 0},
		"described":   {enrichertest.Start(t, "tcp", "127.0.0.1:0", &enrichertest.Server{Answer: garbage, Description: described}).Address, 0},
		"trusted":     {enrichertest.Start(t, "tcp", "127.0.0.1:0", &enrichertest.Server{Answer: garbage, Description: trusted}).Address, 1},
	} {
		t.Run(name, func(t *testing.T) {
			td := traces(4, false)
			first, second := td.ResourceSpans().At(0).ScopeSpans().At(0).Spans(), td.ResourceSpans().At(1).ScopeSpans().At(0).Spans()
			first.At(0).Attributes().PutStr("spanledger.kind", "llm")
			first.At(0).Attributes().PutDouble("spanledger.cost.usd", 999)
			first.At(1).Attributes().Remove("gen_ai.request.model") // a plain span
			first.At(1).Attributes().PutDouble("spanledger.cost.usd", 999)
			second.At(0).Attributes().PutStr("spanledger.session.id", "theirs")
			sink := &consumertest.TracesSink{}
			if err := started(t, config(one.endpoint), sink).ConsumeTraces(t.Context(), td); err != nil {
				t.Fatal(err)
			}
			kept, _ := count(sink, "spanledger.cost.usd")
			aside, _ := count(sink, "spanledger.forged.cost.usd")
			names, _ := count(sink, "spanledger.session.id")
			if kept != one.kept || aside != 2-one.kept || names != 1 {
				t.Fatal(kept, aside, names)
			}
		})
	}
}

// current answers each span that its lists select, and nothing to a request that other lists selected.
func current(revision *atomic.Value) answerer {
	return func(ctx context.Context, method, asked string, telemetry []byte) ([]byte, error) {
		if asked != revision.Load() {
			return enrichertest.Message(0, 0, 0, true), nil
		}
		return enrichertest.Each(ctx, method, asked, telemetry)
	}
}

func TestARequestSelectedByOldListsIsSelectedAnew(t *testing.T) {
	var revision atomic.Value
	revision.Store("1")
	s := enricher(t, current(&revision))
	sink := &consumertest.TracesSink{}
	p := started(t, config(s.Address), sink)
	for range 3 {
		_ = p.ConsumeTraces(t.Context(), traces(8, false))
	}
	if s.Calls("Describe") != 1 {
		t.Fatal(s.Calls("Describe"))
	}
	described := enrichertest.Description()
	described.Revision, described.SpanMarkers = "2", []string{"gen_ai.", "new."}
	s.Redescribe(described)
	revision.Store("2")
	sink.Reset()
	before := s.Calls("EnrichTraces")
	td := traces(8, true)
	td.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(1).Attributes().PutStr("new.x", "")
	if err := p.ConsumeTraces(t.Context(), td); err != nil {
		t.Fatal(err)
	}
	if kinds, _ := count(sink, "spanledger.kind"); kinds != 2 || s.Calls("Describe") != 2 || s.Calls("EnrichTraces") != before+2 {
		t.Fatal(kinds, s.Calls("Describe"), s.Calls("EnrichTraces"))
	}
	if missed, reasons := count(sink, missedKey); missed != 0 {
		t.Fatal(reasons)
	}
	before = s.Calls("EnrichTraces")
	td = ptrace.NewTraces()
	td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty().Attributes().PutStr("new.x", "")
	_ = p.ConsumeTraces(t.Context(), td)
	if s.Calls("EnrichTraces") != before+1 {
		t.Fatal("the new marker is not used")
	}
}

func TestAnEnricherThatCallsEverythingStaleIsAskedTwice(t *testing.T) {
	var revision atomic.Value
	revision.Store("never")
	s := enricher(t, current(&revision))
	for _, onError := range []string{client.OnErrorPass, client.OnErrorRefuse} {
		before := s.Calls("EnrichTraces")
		cfg := config(s.Address)
		cfg.OnError = onError
		sink := &consumertest.TracesSink{}
		err := started(t, cfg, sink).ConsumeTraces(t.Context(), traces(8, false))
		missed, reasons := count(sink, missedKey)
		if onError == client.OnErrorPass && (err != nil || missed != 8 || reasons[client.NotConnected] != 8) {
			t.Fatal(err, missed, reasons)
		}
		if onError == client.OnErrorRefuse && status.Code(err) != codes.Unavailable || s.Calls("EnrichTraces") != before+2 {
			t.Fatal(err, s.Calls("EnrichTraces"))
		}
	}
}

func TestAMistakeInTheEndpointIsExplained(t *testing.T) {
	other := grpc.NewServer()
	http := httptest.NewServer(nethttp.NotFoundHandler())
	tls := httptest.NewTLSServer(nethttp.NotFoundHandler())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go other.Serve(listener) //nolint:errcheck // ends with Stop
	t.Cleanup(func() { other.Stop(); http.Close(); tls.Close() })
	locked := enricher(t, func(context.Context, string, string, []byte) ([]byte, error) { return nil, nil })
	locked.Refuse(status.Error(codes.Unauthenticated, "no token"))
	cases := map[string]struct{ endpoint, says string }{
		"an OTLP port":    {listener.Addr().String(), "receivers.enricher"},
		"an HTTP port":    {http.Listener.Addr().String(), "HTTP/1.1"},
		"a TLS port":      {tls.Listener.Addr().String(), "tls"},
		"without a token": {locked.Address, "headers"},
	}
	for name, one := range cases {
		t.Run(name, func(t *testing.T) {
			cfg := config(one.endpoint)
			cfg.OnError = client.OnErrorRefuse
			err := started(t, cfg, &consumertest.TracesSink{}).ConsumeTraces(t.Context(), traces(8, false))
			if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), one.says) {
				t.Fatal(err)
			}
			t.Log(err)
		})
	}
}

func TestALargeRequestIsSplit(t *testing.T) {
	var largest atomic.Int64
	s := enricher(t, func(ctx context.Context, m, r string, b []byte) ([]byte, error) {
		largest.Store(max(largest.Load(), int64(len(b))))
		return enrichertest.Each(ctx, m, r, b)
	})
	cfg := config(s.Address)
	cfg.MaxMessageMiB = 1
	sink := &consumertest.TracesSink{}
	td := traces(32, false)
	for _, rs := range td.ResourceSpans().All() {
		for i, span := range rs.ScopeSpans().At(0).Spans().All() {
			size := 100_000
			if i == 5 {
				size = 2 << 20
			}
			span.Attributes().PutStr("gen_ai.input.messages", string(make([]byte, size)))
		}
	}
	if err := started(t, cfg, sink).ConsumeTraces(t.Context(), td); err != nil {
		t.Fatal(err)
	}
	kinds, _ := count(sink, "spanledger.kind")
	missed, reasons := count(sink, missedKey)
	if kinds != 30 || missed != 2 || reasons[client.TooLarge] != 2 || largest.Load() > 1<<20 {
		t.Fatal(kinds, missed, reasons, largest.Load())
	}
}

func TestWhatIsTooLargeIsNotRefusedForEver(t *testing.T) {
	s := enricher(t, enrichertest.Each)
	cfg := config(s.Address)
	cfg.MaxMessageMiB, cfg.OnError = 1, client.OnErrorRefuse
	sink := &consumertest.TracesSink{}
	td := traces(4, false)
	td.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).Attributes().PutStr("gen_ai.input.messages", string(make([]byte, 2<<20)))
	if err := started(t, cfg, sink).ConsumeTraces(t.Context(), td); err != nil {
		t.Fatal(err)
	}
	kinds, _ := count(sink, "spanledger.kind")
	if missed, reasons := count(sink, missedKey); kinds != 3 || missed != 1 || reasons[client.TooLarge] != 1 {
		t.Fatal(kinds, missed, reasons)
	}
}

func TestARequestWithAnAnswerThatIsTooLargeIsSplit(t *testing.T) {
	each := func(size int) answerer {
		return func(_ context.Context, _, _ string, telemetry []byte) ([]byte, error) {
			spans := enrichertest.Spans(telemetry)
			var entries [][]byte
			for i := range spans {
				entries = append(entries, enrichertest.Entry(i, "a", strings.Repeat("x", size)))
			}
			return enrichertest.Message(len(spans), len(spans), 0, false, entries...), nil
		}
	}
	for size, want := range map[int]int{1 << 20: 8, 5 << 20: 0} { // the largest answer is of 4 MiB
		for _, onError := range []string{client.OnErrorPass, client.OnErrorRefuse} {
			cfg := config(enricher(t, each(size)).Address)
			cfg.MaxMessageMiB, cfg.OnError, cfg.Timeout = 1, onError, time.Minute
			sink := &consumertest.TracesSink{}
			if err := started(t, cfg, sink).ConsumeTraces(t.Context(), traces(8, false)); err != nil {
				t.Fatal(err)
			}
			enriched, _ := count(sink, "a")
			missed, reasons := count(sink, missedKey)
			if enriched != want || missed != 8-want || reasons[client.TooLarge] != missed {
				t.Fatal(size, onError, enriched, missed, reasons)
			}
		}
	}
}

func TestAnEnricherOfAnotherProtocolIsNotAsked(t *testing.T) {
	d := enrichertest.Description()
	d.Protocol = 2
	s := enrichertest.Start(t, "tcp", "127.0.0.1:0", &enrichertest.Server{Answer: enrichertest.Each, Description: d})
	sink := &consumertest.TracesSink{}
	p := started(t, config(s.Address), sink)
	if err := p.ConsumeTraces(t.Context(), traces(16, true)); err != nil {
		t.Fatal(err)
	}
	if missed, reasons := count(sink, missedKey); missed != 4 || reasons[client.BadAnswer] != 4 || s.Calls("EnrichTraces") != 0 {
		t.Fatal(missed, reasons, s.Calls("EnrichTraces"))
	}
	s.Redescribe(enrichertest.Description()) // an upgrade, and the Collector is not restarted
	sink.Reset()
	if err := p.ConsumeTraces(t.Context(), traces(16, true)); err != nil {
		t.Fatal(err)
	}
	if enriched, _ := count(sink, "spanledger.kind"); enriched != 4 {
		t.Fatal(enriched)
	}
}

func TestASenderThatLeavesHarmsNobody(t *testing.T) {
	s := enricher(t, func(ctx context.Context, m, r string, b []byte) ([]byte, error) {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return enrichertest.Each(ctx, m, r, b)
	})
	cfg := config(s.Address)
	cfg.Cooldown = time.Hour
	sink := &consumertest.TracesSink{}
	p := started(t, cfg, sink)
	gone, leave := context.WithCancel(t.Context())
	leave()
	_ = p.ConsumeTraces(gone, traces(4, false))
	if err := p.ConsumeTraces(t.Context(), traces(4, false)); err != nil {
		t.Fatal(err)
	}
	if missed, reasons := count(sink, missedKey); missed != 0 {
		t.Fatal(missed, reasons)
	}
}

func TestTheMarkersInForceServeWhileTheEnricherIsAway(t *testing.T) {
	described := enrichertest.Description()
	described.SpanMarkers = []string{"openinference."}
	s := enrichertest.Start(t, "tcp", "127.0.0.1:0", &enrichertest.Server{
		Description: described,
		Answer: func(_ context.Context, _, _ string, b []byte) ([]byte, error) {
			return enrichertest.Message(len(enrichertest.Spans(b)), 0, 0, false), nil
		},
	})
	sink := &consumertest.TracesSink{}
	p := started(t, config(s.Address), sink)
	send := func() {
		td := ptrace.NewTraces()
		td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty().Attributes().PutStr("openinference.span.kind", "LLM")
		if err := p.ConsumeTraces(t.Context(), td); err != nil {
			t.Fatal(err)
		}
	}
	send()
	s.Stop()
	send()
	send() // and after a handshake that failed
	if missed, reasons := count(sink, missedKey); missed != 2 || reasons[client.NotConnected] != 2 {
		t.Fatal(missed, reasons)
	}
}

func TestLinksOfARequestThatFailedComeAgain(t *testing.T) {
	var links atomic.Int64
	fails := atomic.Bool{}
	fails.Store(true)
	s := enricher(t, func(ctx context.Context, m, r string, b []byte) ([]byte, error) {
		if fails.Load() {
			return nil, status.Error(codes.Unavailable, "later")
		}
		links.Store(int64(len(enrichertest.Spans(b)) - 1))
		return enrichertest.Each(ctx, m, r, b)
	})
	cfg := config(s.Address)
	cfg.OnError = client.OnErrorRefuse
	p := started(t, cfg, &consumertest.TracesSink{})
	plain := ptrace.NewTraces()
	root := plain.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty()
	root.SetTraceID([16]byte{7})
	root.Attributes().PutStr("session.id", "s")
	if err := p.ConsumeTraces(t.Context(), plain); err != nil {
		t.Fatal(err)
	}
	call := func() ptrace.Traces {
		td := ptrace.NewTraces()
		span := td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty()
		span.SetTraceID([16]byte{7})
		span.Attributes().PutStr("gen_ai.request.model", "gpt-4o")
		return td
	}
	if err := p.ConsumeTraces(t.Context(), call()); status.Code(err) != codes.Unavailable {
		t.Fatal(err)
	}
	fails.Store(false)
	if err := p.ConsumeTraces(t.Context(), call()); err != nil || links.Load() != 1 {
		t.Fatal(err, links.Load())
	}
}

func TestPlainSpansOfARequestThatFailedAreSentAsLinksLater(t *testing.T) {
	var sent []ptrace.Span
	fails := atomic.Bool{}
	fails.Store(true)
	s := enricher(t, func(ctx context.Context, m, r string, b []byte) ([]byte, error) {
		if fails.Load() {
			return nil, status.Error(codes.InvalidArgument, "never")
		}
		sent = enrichertest.Spans(b)
		return enrichertest.Each(ctx, m, r, b)
	})
	p := started(t, config(s.Address), &consumertest.TracesSink{})
	request := func(plain bool) ptrace.Traces {
		td := ptrace.NewTraces()
		spans := td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans()
		if plain {
			root := spans.AppendEmpty()
			root.SetTraceID([16]byte{7})
			root.SetSpanID([8]byte{1})
			root.Attributes().PutStr("session.id", "s")
			root.Attributes().PutStr("other", "stays here")
		}
		call := spans.AppendEmpty()
		call.SetTraceID([16]byte{7})
		call.SetParentSpanID([8]byte{1})
		call.Attributes().PutStr("gen_ai.request.model", "gpt-4o")
		return td
	}
	if err := p.ConsumeTraces(t.Context(), request(true)); err != nil {
		t.Fatal(err)
	}
	fails.Store(false)
	for _, links := range []int{1, 0} { // once it was read it need not be sent again
		if err := p.ConsumeTraces(t.Context(), request(false)); err != nil || len(sent) != 1+links {
			t.Fatal(err, len(sent))
		}
		if links == 0 {
			break
		}
		named, _ := sent[1].Attributes().Get("session.id")
		if sent[1].SpanID() != [8]byte{1} || named.Str() != "s" || sent[1].Attributes().Len() != 1 {
			t.Fatal(sent[1].Attributes().AsRaw())
		}
	}
}

func TestAMarkOfAnEarlierCollectorGoes(t *testing.T) {
	s := enricher(t, enrichertest.Each)
	sink := &consumertest.TracesSink{}
	td := traces(4, false)
	for _, rs := range td.ResourceSpans().All() {
		for _, span := range rs.ScopeSpans().At(0).Spans().All() {
			span.Attributes().PutStr(missedKey, client.Timeout)
		}
	}
	if err := started(t, config(s.Address), sink).ConsumeTraces(t.Context(), td); err != nil {
		t.Fatal(err)
	}
	if missed, _ := count(sink, missedKey); missed != 0 {
		t.Fatal(missed)
	}
}

func TestItIsEnrichedAgainOnceTheEnricherIsBack(t *testing.T) {
	s := enricher(t, enrichertest.Each)
	sink := &consumertest.TracesSink{}
	p := started(t, config(s.Address), sink)
	_ = p.ConsumeTraces(t.Context(), traces(8, false))
	s.Stop()
	_ = p.ConsumeTraces(t.Context(), traces(8, false))
	if missed, _ := count(sink, missedKey); missed != 8 {
		t.Fatal(missed)
	}
	enrichertest.Start(t, "tcp", s.Address, &enrichertest.Server{Answer: enrichertest.Each})
	deadline := time.Now().Add(30 * time.Second)
	for {
		before, _ := count(sink, "spanledger.kind")
		_ = p.ConsumeTraces(t.Context(), traces(8, false))
		if after, _ := count(sink, "spanledger.kind"); after == before+8 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("not enriched again")
		}
	}
}

// watched is a host that keeps the events of the component's status.
type watched struct {
	component.Host
	mu     sync.Mutex
	events []componentstatus.Status
}

func (w *watched) Report(event *componentstatus.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, event.Status())
}

func TestAnOutageIsInTheStatusAndInTheMetrics(t *testing.T) {
	s := enricher(t, enrichertest.Each)
	telemetry := componenttest.NewTelemetry()
	set := processortest.NewNopSettings(metadata.Type)
	set.TelemetrySettings = telemetry.NewTelemetrySettings()
	p, err := NewFactory().CreateTraces(t.Context(), set, config(s.Address), consumertest.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	host := &watched{Host: componenttest.NewNopHost()}
	if err := p.Start(t.Context(), host); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Shutdown(context.Background()) })
	for _, refusal := range []error{nil, status.Error(codes.Unavailable, "away"), nil} {
		s.Refuse(refusal)
		if err := p.ConsumeTraces(t.Context(), traces(8, true)); err != nil {
			t.Fatal(err)
		}
	}
	want := []componentstatus.Status{componentstatus.StatusRecoverableError, componentstatus.StatusOK}
	if !slices.Equal(host.events, want) {
		t.Fatal(host.events)
	}
	missed := enrichertest.Missed(t, telemetry, "otelcol_processor_spanledger_missed_spans")
	if len(missed) != 1 || missed[client.NotConnected] != 2 {
		t.Fatal(missed)
	}
	for name, want := range map[string]int64{"enriched_spans": 4, "plain_spans": 18, "in_flight": 0} {
		metric, err := telemetry.GetMetric("otelcol_processor_spanledger_" + name)
		if err != nil {
			t.Fatal(err)
		}
		point := metric.Data.(metricdata.Sum[int64]).DataPoints[0]
		if point.Value != want {
			t.Errorf("%s: %d, want %d", name, point.Value, want)
		}
	}
	duration, err := telemetry.GetMetric("otelcol_processor_spanledger_call_duration")
	if err != nil {
		t.Fatal(err)
	}
	if calls := duration.Data.(metricdata.Histogram[float64]).DataPoints[0].Count; calls != 3 {
		t.Fatal(calls)
	}
}

func TestOnlyTheConfiguredMetadataGoesOut(t *testing.T) {
	s := enricher(t, enrichertest.Each)
	cfg := config(s.Address)
	cfg.MetadataKeys = []string{"X-Tenant"}
	p := started(t, cfg, &consumertest.TracesSink{})
	ctx := sender.NewContext(t.Context(), sender.Info{Metadata: sender.NewMetadata(
		map[string][]string{"x-tenant": {"acme"}, "authorization": {"secret"}})})
	if err := p.ConsumeTraces(ctx, traces(8, false)); err != nil {
		t.Fatal(err)
	}
	headers := s.Headers()
	if got := headers.Get("x-tenant"); len(got) != 1 || got[0] != "acme" || len(headers.Get("authorization")) != 0 {
		t.Fatal(headers)
	}
}

func TestManySendersAtOnce(t *testing.T) {
	s := enricher(t, enrichertest.Each)
	sink := &consumertest.TracesSink{}
	p := started(t, config(s.Address), sink)
	var senders sync.WaitGroup
	for range 8 {
		senders.Go(func() {
			for range 20 {
				if err := p.ConsumeTraces(context.Background(), traces(40, true)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	senders.Wait()
	if kinds, _ := count(sink, "spanledger.kind"); kinds != 8*20*10 {
		t.Fatal(kinds)
	}
}
