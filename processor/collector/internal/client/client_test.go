package client

import (
	"testing"
	"time"

	"go.opentelemetry.io/collector/component/componenttest"

	"github.com/spanledger/spanledger/processor/collector/internal/protocol"
)

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
	cfg := NewConfig()
	cfg.Endpoint, cfg.Timeout, cfg.MaxInFlightMiB, cfg.MaxMessageMiB = "127.0.0.1:9", 10*time.Millisecond, 1, 1
	c := New(&cfg, componenttest.NewNopTelemetrySettings(), func(protocol.Description) {})
	if err := c.Start(t.Context(), componenttest.NewNopHost()); err != nil {
		t.Fatal(err)
	}
	defer c.Shutdown(t.Context()) //nolint:errcheck // nothing is under way
	read := func([]byte) (bool, error) { return false, nil }
	for _, taken := range []int64{mib, mib - 1} { // as others have who wait for their answers
		if !c.room.TryAcquire(taken) {
			t.Fatal(taken)
		}
		missed := c.Call(t.Context(), protocol.EnrichTraces, "1", []byte("traces"), read)
		if missed == nil || missed.Reason != Overloaded || missed.Permanent {
			t.Fatal(missed)
		}
		c.room.Release(taken)
	}
	// What is larger than all places together is let in alone, and fails for another reason here.
	missed := c.Call(t.Context(), protocol.EnrichTraces, "1", make([]byte, 2*mib), read)
	if missed == nil || missed.Reason == Overloaded || missed.Reason == TooLarge {
		t.Fatal(missed)
	}
	if !c.room.TryAcquire(mib) {
		t.Fatal("a place was not given back")
	}
}
