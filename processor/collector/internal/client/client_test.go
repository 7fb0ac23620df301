package client

import (
	"testing"
	"time"
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
