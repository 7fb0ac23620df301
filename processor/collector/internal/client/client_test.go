package client

import (
	"context"
	"errors"
	"maps"
	"math"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sender "go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/spanledger/spanledger/processor/collector/internal/enrichertest"
	"github.com/spanledger/spanledger/processor/collector/internal/protocol"
)

// host keeps the events of the component's status.
type host struct {
	component.Host
	events []componentstatus.Status
}

func (h *host) Report(event *componentstatus.Event) { h.events = append(h.events, event.Status()) }

// started returns a client with a long timeout and an endless cooldown, its host, and what it logs.
func started(t *testing.T, endpoint string, changes ...func(*Config)) (*Client, *host, *observer.ObservedLogs) {
	t.Helper()
	cfg := NewConfig()
	cfg.Endpoint, cfg.Timeout, cfg.Cooldown = endpoint, time.Minute, time.Hour
	for _, change := range changes {
		change(&cfg)
	}
	core, logs := observer.New(zap.InfoLevel)
	set := componenttest.NewNopTelemetrySettings()
	set.Logger = zap.New(core)
	c := New(&cfg, set, func(protocol.Description) {})
	h := &host{Host: componenttest.NewNopHost()}
	if err := c.Start(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Shutdown(context.Background()) })
	return c, h, logs
}

func enricher(t *testing.T) *enrichertest.Server {
	t.Helper()
	return enrichertest.Start(t, "tcp", "127.0.0.1:0", &enrichertest.Server{
		Answer: func(context.Context, string, string, []byte) ([]byte, error) { return nil, nil },
	})
}

// ask for the telemetry "traces", whatever the answer says.
func ask(ctx context.Context, c *Client) *Missed {
	return c.Call(ctx, protocol.EnrichTraces, "1", []byte("traces"), func([]byte) (bool, error) { return false, nil })
}

// overloaded is the answer of an enricher that may be asked again after a while.
func overloaded(t *testing.T, after time.Duration) error {
	t.Helper()
	s, err := status.New(codes.ResourceExhausted, "too much is in flight").
		WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

func TestItDialsSoOftenThatTheOutageEndsWithinTwoSeconds(t *testing.T) {
	params := redial()
	between := float64(params.Backoff.MaxDelay) * (1 + params.Backoff.Jitter)
	// A call that came just before the connection leaves the enricher alone for the cooldown.
	if longest := time.Duration(between) + NewConfig().Cooldown; longest > 2*time.Second {
		t.Fatal(longest)
	}
	if first := params.Backoff.BaseDelay; first > params.Backoff.MaxDelay {
		t.Fatal(first)
	}
}

func TestWhatFindsNoPlaceInTimeIsOverloaded(t *testing.T) {
	c, _, _ := started(t, "127.0.0.1:9", func(cfg *Config) {
		cfg.Timeout, cfg.Cooldown, cfg.MaxInFlightMiB, cfg.MaxMessageMiB = 10*time.Millisecond, 0, 1, 1
	})
	for _, taken := range []int64{mib, mib - 1} { // as others have who wait for their answers
		if !c.room.TryAcquire(taken) {
			t.Fatal(taken)
		}
		if missed := ask(t.Context(), c); missed == nil || missed.Reason != Overloaded || missed.Permanent {
			t.Fatal(missed)
		}
		c.room.Release(taken)
	}
	// What is larger than all places together is let in alone, and fails for another reason here.
	read := func([]byte) (bool, error) { return false, nil }
	missed := c.Call(t.Context(), protocol.EnrichTraces, "1", make([]byte, 2*mib), read)
	if missed == nil || missed.Reason == Overloaded || missed.Reason == TooLarge {
		t.Fatal(missed)
	}
	if !c.room.TryAcquire(mib) {
		t.Fatal("a place was not given back")
	}
}

func TestAnOverloadedEnricherIsAskedAgainWithinTheTimeout(t *testing.T) {
	var tries atomic.Int32
	s := enrichertest.Start(t, "tcp", "127.0.0.1:0", &enrichertest.Server{
		Answer: func(context.Context, string, string, []byte) ([]byte, error) {
			if tries.Add(1) < 3 {
				return nil, overloaded(t, time.Millisecond)
			}
			return nil, nil
		},
	})
	c, h, logs := started(t, s.Address)
	if missed := ask(t.Context(), c); missed != nil || tries.Load() != 3 {
		t.Fatal(missed, tries.Load())
	}
	if len(h.events) != 0 || logs.Len() != 0 {
		t.Fatal("nothing was missed", h.events, logs.All())
	}
}

func TestOneRequestThatTheEnricherHasNoRoomForStopsNoOther(t *testing.T) {
	s := enricher(t)
	c, _, _ := started(t, s.Address)
	for asked, after := range []time.Duration{time.Hour, math.MaxInt64} { // longer than a request can wait
		s.Refuse(overloaded(t, after))
		if missed := ask(t.Context(), c); missed == nil || missed.Reason != Overloaded || missed.Permanent {
			t.Fatal(missed)
		}
		if calls := s.Calls("EnrichTraces"); calls != asked+1 {
			t.Fatal(calls)
		}
	}
	s.Refuse(nil)
	if missed := ask(t.Context(), c); missed != nil {
		t.Fatal("the enricher is alive, and is left alone for an hour", missed)
	}
}

func TestOnlyACallThatHadMostOfTheTimeoutShowsASlowEnricher(t *testing.T) {
	late := status.Error(codes.DeadlineExceeded, "late")
	for _, one := range []struct {
		ago    time.Duration
		reason string
		rests  bool
	}{{time.Minute, Timeout, true}, {0, Overloaded, false}} {
		c, _, _ := started(t, "127.0.0.1:9")
		missed := c.missed(late, time.Now().Add(-one.ago))
		if missed.Reason != one.reason || (c.resting.Load() != nil) != one.rests {
			t.Fatal(one, missed)
		}
	}
}

func TestWhileTheEnricherIsLeftAloneTheReasonIsThatOfTheCause(t *testing.T) {
	for code, reason := range map[codes.Code]string{codes.DeadlineExceeded: Timeout, codes.Unavailable: NotConnected} {
		c, _, _ := started(t, "127.0.0.1:9")
		c.missed(status.Error(code, "the cause"), time.Now().Add(-time.Minute))
		if missed := ask(t.Context(), c); missed == nil || missed.Reason != reason || !strings.Contains(missed.Error(), "the cause") {
			t.Fatal(code, missed)
		}
	}
}

func TestNobodyWaitsLongerThanTheTimeoutForTheHandshakeOfOthers(t *testing.T) {
	s := enricher(t)
	c, _, _ := started(t, s.Address)
	_, missed := c.describe(t.Context(), time.Now().Add(-time.Minute))
	if missed == nil || missed.Reason != Overloaded || s.Calls("Describe") != 0 {
		t.Fatal(missed, s.Calls("Describe"))
	}
}

func TestAServerThatTakesMoreThanThereIsLeavesTheLimitAsItIs(t *testing.T) {
	c, _, _ := started(t, "127.0.0.1:9")
	for announced, want := range map[uint64]int{0: 32 * mib, 1 << 63: 32 * mib, 1 << 32: 32 * mib, 8 * mib: 8 * mib} {
		c.described.Store(&protocol.Description{MaxMessageBytes: announced})
		if got := c.MaxMessage() + 4096; got != want {
			t.Fatal(announced, got)
		}
	}
}

func TestHeadersThatGRPCCannotCarryGoBeside(t *testing.T) {
	for name, one := range map[string]struct {
		values []string
		plain  []string
		beside string
	}{
		"x-tenant":     {[]string{"acme", "b c"}, []string{"acme", "b c"}, ""},
		"x-empty":      {[]string{""}, []string{""}, ""},
		"x-none":       {nil, nil, ""},
		"x-umlaut":     {[]string{"M\u00fcller"}, nil, "x-umlaut:M\u00fcller\n"},
		"x-latin":      {[]string{"M\xfcller"}, nil, "x-latin:M\xfcller\n"},
		"x-one-of-two": {[]string{"a", "\u00e4"}, nil, "x-one-of-two:a\nx-one-of-two:\u00e4\n"},
		"x-tab":        {[]string{"a\tb"}, nil, "x-tab:a\tb\n"},
		"x-two-lines":  {[]string{"a\nx-tenant:b"}, nil, "x-two-lines:a x-tenant:b\n"},
		"x!odd":        {[]string{"a"}, nil, "x!odd:a\n"},
		"user-agent":   {[]string{"agent/1"}, nil, "user-agent:agent/1\n"},
		"grpc-tenant":  {[]string{"a"}, nil, "grpc-tenant:a\n"},
		"x-tenant-bin": {[]string{"YQ=="}, nil, "x-tenant-bin:YQ==\n"},
	} {
		s := enricher(t)
		described := enrichertest.Description()
		described.SenderHeaders = true
		s.Redescribe(described)
		c, _, _ := started(t, s.Address, func(cfg *Config) { cfg.MetadataKeys = []string{strings.ToUpper(name)} })
		ctx := sender.NewContext(t.Context(), sender.Info{Metadata: sender.NewMetadata(map[string][]string{name: one.values})})
		if _, missed := c.Describe(ctx); missed != nil {
			t.Fatal(name, missed)
		}
		if missed := ask(ctx, c); missed != nil {
			t.Fatal(name, missed)
		}
		got := s.Headers()
		if name != "user-agent" && !slices.Equal(got.Get(name), one.plain) || strings.Join(got.Get(protocol.SenderHeaders), "") != one.beside {
			t.Fatal(name, got)
		}
	}
}

func TestAnEnricherFromBeforeIsNotSentATenantItWouldNotSee(t *testing.T) {
	s := enricher(t)
	c, h, _ := started(t, s.Address, func(cfg *Config) { cfg.MetadataKeys = []string{"x-tenant"} })
	ctx := sender.NewContext(t.Context(), sender.Info{Metadata: sender.NewMetadata(map[string][]string{"x-tenant": {"M\u00fcller"}})})
	if _, missed := c.Describe(ctx); missed != nil {
		t.Fatal(missed)
	}
	missed := ask(ctx, c)
	if missed == nil || missed.Reason != Refused || missed.Permanent || s.Calls("EnrichTraces") != 0 || len(h.events) != 0 {
		t.Fatal(missed, s.Calls("EnrichTraces"), h.events)
	}
	described := enrichertest.Description()
	described.SenderHeaders = true
	s.Redescribe(described) // it was updated, and no connection was missed
	if _, missed := c.Describe(ctx); missed != nil {
		t.Fatal(missed)
	}
	if missed := ask(ctx, c); missed != nil {
		t.Fatal(missed)
	}
}

func TestOnlyAnOutageThatWasLoggedHasAnEndInTheLog(t *testing.T) {
	s := enricher(t)
	c, h, logs := started(t, s.Address, func(cfg *Config) { cfg.Cooldown = 0 })
	for range 3 { // within seconds of each other
		s.Refuse(status.Error(codes.Unavailable, "away"))
		_ = ask(t.Context(), c)
		s.Refuse(nil)
		_ = ask(t.Context(), c)
	}
	if begun, ended := logs.FilterMessage("telemetry is not enriched").Len(), logs.FilterMessage("the enricher answers again").Len(); begun != 1 || ended != 1 {
		t.Fatal(begun, ended)
	}
	if len(h.events) != 6 { // the status does not miss any
		t.Fatal(h.events)
	}
	s.Refuse(status.Error(codes.Internal, "another matter"))
	_ = ask(t.Context(), c)
	if logs.FilterMessage("telemetry is not enriched").Len() != 2 {
		t.Fatal("one reason hides another")
	}
}

func TestARequestThatIsRefusedForWhatItHoldsIsNoOutage(t *testing.T) {
	s := enricher(t)
	c, h, logs := started(t, s.Address)
	for range 3 { // one sender without its tenant, and one with
		s.Refuse(status.Error(codes.InvalidArgument, "no tenant"))
		if missed := ask(t.Context(), c); missed == nil || !missed.Permanent {
			t.Fatal(missed)
		}
		s.Refuse(nil)
		_ = ask(t.Context(), c)
	}
	if logs.Len() != 1 || len(h.events) != 0 {
		t.Fatal(logs.All(), h.events)
	}
}

func TestWhatIsTooLargeIsInTheLogAndNoOutage(t *testing.T) {
	c, h, logs := started(t, enricher(t).Address)
	for range 2 {
		if missed := c.NeverFits(); missed.Reason != TooLarge || !missed.Permanent {
			t.Fatal(missed)
		}
	}
	if logs.Len() != 1 || len(h.events) != 0 {
		t.Fatal(logs.All(), h.events)
	}
}

func TestHintsAreGivenWhereTheyAreSure(t *testing.T) {
	preface := func(text string) error {
		return status.Error(codes.Unavailable, `connection error: desc = "error reading server preface: `+text+`"`)
	}
	reset, large := preface("read tcp: connection reset by peer"), preface("http2: frame too large")
	asked := status.Error(codes.Unauthenticated, "no token")
	token := func(cfg *Config) {
		cfg.Headers = configopaque.MapList{{Name: "Authorization", Value: "Bearer another"}}
	}
	for name, one := range map[string]struct {
		err      error
		answered bool
		change   func(*Config)
		says     []string
	}{
		"an end before it ever answered": {reset, false, nil, []string{"if it is so each time", "tls"}},
		"an end of one that answered":    {reset, true, nil, nil},
		"bytes that are no gRPC":         {large, true, nil, []string{"TLS", "HTTP/1.1"}},
		"no token":                       {asked, false, nil, []string{"set headers"}},
		"another token":                  {asked, false, token, []string{"another token"}},
		"an outage":                      {status.Error(codes.Unavailable, "connection refused"), false, nil, nil},
	} {
		change := one.change
		if change == nil {
			change = func(*Config) {}
		}
		c, _, _ := started(t, "127.0.0.1:9", change)
		c.answered.Store(one.answered)
		explained := c.explained(one.err)
		if !errors.Is(explained, one.err) || len(one.says) == 0 && explained.Error() != one.err.Error() {
			t.Errorf("%s: %v", name, explained)
		}
		for _, text := range one.says {
			if !strings.Contains(explained.Error(), text) {
				t.Errorf("%s: %v", name, explained)
			}
		}
	}
}

func TestAnEndpointWrittenAsForOTLPIsReached(t *testing.T) {
	c, _, _ := started(t, "http://"+enricher(t).Address)
	if missed := ask(t.Context(), c); missed != nil {
		t.Fatal(missed)
	}
}

func TestTheHintForHTTPIsNotForTLSAlone(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n"))
		}
	}()
	c, _, _ := started(t, listener.Addr().String())
	_, missed := c.Describe(t.Context())
	if missed == nil || !strings.Contains(missed.Error(), "HTTP/1.1") {
		t.Fatal(missed)
	}
}

func TestADescriptionIsAskedForWithTheHeadersThatCanBeSent(t *testing.T) {
	s := enricher(t)
	c, _, _ := started(t, s.Address, func(cfg *Config) { cfg.MetadataKeys = []string{"x-tenant", "x-route"} })
	md := map[string][]string{"x-tenant": {"M\u00fcller"}, "x-route": {"1"}}
	ctx := sender.NewContext(t.Context(), sender.Info{Metadata: sender.NewMetadata(maps.Clone(md))})
	if _, missed := c.Describe(ctx); missed != nil {
		t.Fatal(missed)
	}
	var headers metadata.MD = s.Headers()
	if !slices.Equal(headers.Get("x-route"), md["x-route"]) || len(headers.Get(protocol.SenderHeaders)) != 0 {
		t.Fatal(headers)
	}
}
