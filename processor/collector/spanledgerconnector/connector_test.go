package spanledgerconnector

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/connector"
	"go.opentelemetry.io/collector/connector/connectortest"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/spanledger/spanledger/processor/collector/internal/client"
	"github.com/spanledger/spanledger/processor/collector/internal/enrichertest"
	"github.com/spanledger/spanledger/processor/collector/internal/metadata"
)

func started(t *testing.T, endpoint, onError string, sink *consumertest.TracesSink) connector.Logs {
	t.Helper()
	return startedWith(t, endpoint, onError, sink, componenttest.NewNopTelemetrySettings())
}

func startedWith(
	t *testing.T, endpoint, onError string, sink *consumertest.TracesSink, telemetry component.TelemetrySettings,
) connector.Logs {
	t.Helper()
	cfg := createDefaultConfig().(*Config)
	cfg.Endpoint, cfg.OnError, cfg.Timeout, cfg.Cooldown = endpoint, onError, 20*time.Second, 0
	cfg.MaxMessageMiB = 1
	set := connectortest.NewNopSettings(metadata.Type)
	set.TelemetrySettings = telemetry
	c, err := NewFactory().CreateLogsToTraces(t.Context(), set, cfg, sink)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context(), componenttest.NewNopHost()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Shutdown(context.Background()) })
	return c
}

func logs(names ...string) plog.Logs {
	ld := plog.NewLogs()
	records := ld.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords()
	for i, name := range names {
		record := records.AppendEmpty()
		switch i % 3 {
		case 0:
			record.SetEventName(name)
		case 1:
			record.Attributes().PutStr("event.name", name)
		case 2:
			record.Body().SetStr(name)
		}
	}
	return ld
}

// made answers with one span for each record.
var made = madeNamed("chat")

// madeNamed answers with one span of this name for each record.
func madeNamed(name string) func(context.Context, string, string, []byte) ([]byte, error) {
	return func(_ context.Context, _, _ string, telemetry []byte) ([]byte, error) {
		ld, err := (&plog.ProtoUnmarshaler{}).UnmarshalLogs(telemetry)
		if err != nil {
			return nil, err
		}
		td := ptrace.NewTraces()
		spans := td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans()
		for range ld.LogRecordCount() {
			spans.AppendEmpty().SetName(name)
		}
		body, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(td)
		answer := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(ld.LogRecordCount()))
		return protowire.AppendBytes(protowire.AppendTag(answer, 4, protowire.BytesType), body), err
	}
}

func TestSpansAreMadeFromMarkedRecordsOnly(t *testing.T) {
	s := enrichertest.Start(t, "tcp", "127.0.0.1:0", &enrichertest.Server{Answer: made})
	sink := &consumertest.TracesSink{}
	c := started(t, s.Address, client.OnErrorPass, sink)
	ld := logs("claude_code.api_request", "claude_code.api_request", "claude_code.api_request", "other", "other", "other")
	before, _ := (&plog.ProtoMarshaler{}).MarshalLogs(ld)
	if err := c.ConsumeLogs(t.Context(), ld); err != nil {
		t.Fatal(err)
	}
	if after, _ := (&plog.ProtoMarshaler{}).MarshalLogs(ld); string(before) != string(after) {
		t.Fatal("the logs were changed; they are shared")
	}
	if sink.SpanCount() != 3 {
		t.Fatal(sink.SpanCount())
	}
	if err := c.ConsumeLogs(t.Context(), logs("other")); err != nil || s.Calls("MakeSpans") != 1 {
		t.Fatal(err, s.Calls("MakeSpans"))
	}
}

func TestALargeRequestIsSplit(t *testing.T) {
	s := enrichertest.Start(t, "tcp", "127.0.0.1:0", &enrichertest.Server{Answer: made})
	sink := &consumertest.TracesSink{}
	ld := logs("claude_code.a", "claude_code.b", "claude_code.c", "claude_code.d", "claude_code.e")
	for _, record := range ld.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().All() {
		record.Attributes().PutStr("content", string(make([]byte, 400_000)))
	}
	if err := started(t, s.Address, client.OnErrorPass, sink).ConsumeLogs(t.Context(), ld); err != nil {
		t.Fatal(err)
	}
	if sink.SpanCount() != 5 || s.Calls("MakeSpans") < 3 {
		t.Fatal(sink.SpanCount(), s.Calls("MakeSpans"))
	}
}

func TestAnAnswerThatWasCutShortIsNotTakenForNoSpans(t *testing.T) {
	for name, cut := range map[string]func(whole []byte) []byte{
		"empty":        func([]byte) []byte { return nil },
		"counts alone": func([]byte) []byte { return []byte{8, 1} }, // one record seen, of two
	} {
		s := enrichertest.Start(t, "tcp", "127.0.0.1:0", &enrichertest.Server{
			Answer: func(ctx context.Context, method, revision string, telemetry []byte) ([]byte, error) {
				whole, err := made(ctx, method, revision, telemetry)
				return cut(whole), err
			},
		})
		sink := &consumertest.TracesSink{}
		err := started(t, s.Address, client.OnErrorRefuse, sink).ConsumeLogs(t.Context(), logs("claude_code.a", "claude_code.b"))
		if status.Code(err) != codes.Unavailable {
			t.Fatal(name, err)
		}
	}
}

func TestARecordThatIsTooLargeIsNotRefusedForEver(t *testing.T) {
	s := enrichertest.Start(t, "tcp", "127.0.0.1:0", &enrichertest.Server{Answer: made})
	sink := &consumertest.TracesSink{}
	ld := logs("claude_code.a", "claude_code.b")
	ld.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Attributes().PutStr("content", string(make([]byte, 2<<20)))
	if err := started(t, s.Address, client.OnErrorRefuse, sink).ConsumeLogs(t.Context(), ld); err != nil {
		t.Fatal(err)
	}
	if sink.SpanCount() != 1 {
		t.Fatal(sink.SpanCount())
	}
}

func TestARequestWithAnAnswerThatIsTooLargeIsSplit(t *testing.T) {
	for size, want := range map[int]int{1 << 20: 6, 5 << 20: 0} { // the largest answer is of 4 MiB
		for _, onError := range []string{client.OnErrorPass, client.OnErrorRefuse} {
			answer := madeNamed(strings.Repeat("x", size))
			s := enrichertest.Start(t, "tcp", "127.0.0.1:0", &enrichertest.Server{Answer: answer})
			sink := &consumertest.TracesSink{}
			ld := logs("claude_code.a", "claude_code.b", "claude_code.c", "claude_code.d", "claude_code.e", "claude_code.f")
			if err := started(t, s.Address, onError, sink).ConsumeLogs(t.Context(), ld); err != nil {
				t.Fatal(err)
			}
			if sink.SpanCount() != want {
				t.Fatal(size, onError, sink.SpanCount())
			}
		}
	}
}

func TestWhatWasMadeBeforeAnOutageGoesOn(t *testing.T) {
	for _, onError := range []string{client.OnErrorPass, client.OnErrorRefuse} {
		var asked atomic.Int32
		s := enrichertest.Start(t, "tcp", "127.0.0.1:0", &enrichertest.Server{
			Answer: func(ctx context.Context, method, revision string, telemetry []byte) ([]byte, error) {
				if asked.Add(1) > 1 {
					return nil, status.Error(codes.Unavailable, "going away")
				}
				return made(ctx, method, revision, telemetry)
			},
		})
		sink := &consumertest.TracesSink{}
		telemetry := componenttest.NewTelemetry()
		ld := logs("claude_code.a", "claude_code.b", "claude_code.c", "claude_code.d", "claude_code.e")
		for _, record := range ld.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().All() {
			record.Attributes().PutStr("content", string(make([]byte, 400_000)))
		}
		c := startedWith(t, s.Address, onError, sink, telemetry.NewTelemetrySettings())
		err := c.ConsumeLogs(t.Context(), ld)
		missed := enrichertest.Missed(t, telemetry, "otelcol_connector_spanledger_missed_records")
		if len(missed) != 1 || missed[client.NotConnected] != 3 {
			t.Fatal(onError, missed)
		}
		switch {
		case onError == client.OnErrorRefuse:
			if status.Code(err) != codes.Unavailable || sink.SpanCount() != 0 {
				t.Fatal("the sender tries again with all of it", err, sink.SpanCount())
			}
		case err != nil || sink.SpanCount() != 2:
			t.Fatal("the ledger holds two calls whose spans are lost", err, sink.SpanCount())
		}
	}
}

func TestRecordsThatCannotBeReadAreNotRefusedForEver(t *testing.T) {
	s := enrichertest.Start(t, "tcp", "127.0.0.1:0", &enrichertest.Server{
		Answer: func(context.Context, string, string, []byte) ([]byte, error) {
			return nil, status.Error(codes.InvalidArgument, "no logs")
		},
	})
	sink := &consumertest.TracesSink{}
	if err := started(t, s.Address, client.OnErrorRefuse, sink).ConsumeLogs(t.Context(), logs("claude_code.a")); err != nil {
		t.Fatal(err)
	}
	if sink.SpanCount() != 0 {
		t.Fatal(sink.SpanCount())
	}
}

func TestWithoutAnEnricher(t *testing.T) {
	for _, onError := range []string{client.OnErrorPass, client.OnErrorRefuse} {
		sink := &consumertest.TracesSink{}
		err := started(t, "127.0.0.1:9", onError, sink).ConsumeLogs(t.Context(), logs("claude_code.api_request"))
		if onError == client.OnErrorPass && err != nil || onError == client.OnErrorRefuse && status.Code(err) != codes.Unavailable {
			t.Fatal(onError, err)
		}
	}
}

func TestOnlyEventsAreCountedBeforeTheHandshake(t *testing.T) {
	for _, onError := range []string{client.OnErrorPass, client.OnErrorRefuse} {
		telemetry := componenttest.NewTelemetry()
		c := startedWith(t, "127.0.0.1:9", onError, &consumertest.TracesSink{}, telemetry.NewTelemetrySettings())
		ld := logs("claude_code.api_request", "claude_code.api_request")
		for range 100 {
			ld.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().AppendEmpty().Body().SetStr("GET / 200")
		}
		_ = c.ConsumeLogs(t.Context(), ld)
		missed := enrichertest.Missed(t, telemetry, "otelcol_connector_spanledger_missed_records")
		if len(missed) != 1 || missed[client.NotConnected] != 2 {
			t.Fatal(onError, missed)
		}
	}
}

func TestFactory(t *testing.T) {
	if err := componenttest.CheckConfigStruct(NewFactory().CreateDefaultConfig()); err != nil {
		t.Fatal(err)
	}
	c, err := NewFactory().CreateLogsToTraces(t.Context(), connectortest.NewNopSettings(metadata.Type),
		createDefaultConfig(), consumertest.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Shutdown(t.Context()); err != nil { // without a start
		t.Fatal(err)
	}
}
