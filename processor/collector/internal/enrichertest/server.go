// Package enrichertest is an enricher for tests: it speaks the protocol and answers what a test says.
package enrichertest

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/spanledger/spanledger/processor/collector/internal/protocol"
)

// Server answers Describe with Description, and the other methods with Answer.
type Server struct {
	Address     string
	Description protocol.Description
	// Answer gets the method's short name and the encoded export request.
	Answer func(ctx context.Context, method string, revision string, telemetry []byte) ([]byte, error)

	mu      sync.Mutex
	refusal error
	calls   map[string]int
	headers metadata.MD
	grpc    *grpc.Server
}

// Description that the server has unless a test sets another.
func Description() protocol.Description {
	return protocol.Description{
		Protocol: protocol.Version, Revision: "1", SpanMarkers: []string{"gen_ai."},
		LogMarkers: []string{"claude_code."}, LinkKeys: []string{"session.id"},
	}
}

// Start a server on network and address until the test ends.
func Start(t testing.TB, network, address string, s *Server) *Server {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	if s.Description.Protocol == 0 {
		s.Description = Description()
	}
	s.calls = map[string]int{}
	s.Address = listener.Addr().String()
	if network == "unix" {
		s.Address = "unix://" + s.Address
	}
	s.grpc = grpc.NewServer(grpc.ForceServerCodecV2(raw{}), grpc.MaxRecvMsgSize(64<<20), grpc.UnknownServiceHandler(s.serve))
	go s.grpc.Serve(listener) //nolint:errcheck // ends with Stop
	t.Cleanup(s.Stop)
	return s
}

// Stop it at once.
func (s *Server) Stop() { s.grpc.Stop() }

// Calls of a method so far.
func (s *Server) Calls(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

// Headers of the last call.
func (s *Server) Headers() metadata.MD {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.headers
}

func (s *Server) serve(_ any, stream grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(stream)
	method := name[strings.LastIndex(name, "/")+1:]
	var in []byte
	if err := stream.RecvMsg(&in); err != nil {
		return err
	}
	s.mu.Lock()
	s.calls[method]++
	s.headers, _ = metadata.FromIncomingContext(stream.Context())
	description, refusal := s.Description, s.refusal
	s.mu.Unlock()
	if refusal != nil {
		return refusal
	}
	if method == "Describe" {
		out := describe(description)
		return stream.SendMsg(&out)
	}
	revision, telemetry := request(in)
	out, err := s.Answer(stream.Context(), method, revision, telemetry)
	if err != nil {
		return err
	}
	return stream.SendMsg(&out)
}

// Redescribe from now on.
func (s *Server) Redescribe(d protocol.Description) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Description = d
}

// Refuse every call with an error from now on.
func (s *Server) Refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusal = err
}

// Spans reads the trace request that a test was handed.
func Spans(telemetry []byte) []ptrace.Span {
	td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(telemetry)
	if err != nil {
		panic(err)
	}
	var spans []ptrace.Span
	for _, rs := range td.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, span := range ss.Spans().All() {
				spans = append(spans, span)
			}
		}
	}
	return spans
}

// Message builds an answer: counts, then entries.
func Message(seen, decided, failed int, stale bool, entries ...[]byte) []byte {
	out := varint(nil, 1, uint64(seen))
	out = varint(out, 2, uint64(decided))
	out = varint(out, 3, uint64(failed))
	out = varint(out, 4, protowire.EncodeBool(stale))
	for _, entry := range entries {
		out = bytes(out, 5, entry)
	}
	return out
}

// Entry that appends one text attribute to a span.
func Entry(span int, key, value string) []byte {
	return bytes(varint(nil, 1, uint64(span)), 2, Attribute(key, bytes(nil, 1, []byte(value))))
}

// Forged is an entry that appends one text attribute, and moves those at places aside.
func Forged(span int, key, value string, places ...uint64) []byte {
	var packed []byte
	for _, place := range places {
		packed = protowire.AppendVarint(packed, place)
	}
	return bytes(Entry(span, key, value), 4, packed)
}

// Failure is an entry for a span that the enricher could not read.
func Failure(span int, failure string) []byte {
	return bytes(varint(nil, 1, uint64(span)), 3, []byte(failure))
}

// Attribute encodes a Span.attributes field with an encoded AnyValue.
func Attribute(key string, value []byte) []byte {
	return bytes(nil, 9, bytes(bytes(nil, 1, []byte(key)), 2, value))
}

// Each answers every GenAI span with one attribute, and plain spans with nothing.
func Each(_ context.Context, _ string, _ string, telemetry []byte) ([]byte, error) {
	spans := Spans(telemetry)
	var entries [][]byte
	for i, span := range spans {
		for key := range span.Attributes().All() {
			if strings.HasPrefix(key, "gen_ai.") {
				entries = append(entries, Entry(i, "spanledger.kind", "llm"))
				break
			}
		}
	}
	return Message(len(spans), len(entries), 0, false, entries...), nil
}

func describe(d protocol.Description) []byte {
	out := varint(nil, 1, d.Protocol)
	out = bytes(out, 2, []byte(d.Revision))
	for number, list := range [][]string{d.SpanMarkers, d.LogMarkers, d.LinkKeys} {
		for _, text := range list {
			out = bytes(out, protowire.Number(3+number), []byte(text))
		}
	}
	out = varint(out, 6, d.MaxMessageBytes)
	out = varint(out, 8, protowire.EncodeBool(d.TrustedHop))
	return varint(out, 10, protowire.EncodeBool(d.SenderHeaders))
}

func request(in []byte) (revision string, telemetry []byte) {
	for len(in) > 0 {
		number, _, n := protowire.ConsumeTag(in)
		content, m := protowire.ConsumeBytes(in[n:])
		if number == 1 {
			revision = string(content)
		} else {
			telemetry = content
		}
		in = in[n+m:]
	}
	return revision, telemetry
}

// Missed returns what a metric counted as not enriched, by reason; it fails the test where one of the reasons does not
// begin at 0.
func Missed(t testing.TB, telemetry *componenttest.Telemetry, name string) map[string]int64 {
	t.Helper()
	metric, err := telemetry.GetMetric(name)
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]int64{}
	points := metric.Data.(metricdata.Sum[int64]).DataPoints
	for _, point := range points {
		if reason, _ := point.Attributes.Value("reason"); point.Value != 0 {
			counted[reason.AsString()] = point.Value
		}
	}
	if len(points) != 7 {
		t.Fatal(points)
	}
	return counted
}

func varint(out []byte, number protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(out, number, protowire.VarintType), value)
}

func bytes(out []byte, number protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(out, number, protowire.BytesType), content)
}

type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}
