// Package client speaks to the enricher: one connection, a handshake, bounds and a cooldown.
package client

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.opentelemetry.io/collector/config/configgrpc"
)

const (
	// OnErrorPass lets spans go on without what they should have gained, marked and counted.
	OnErrorPass = "pass"
	// OnErrorRefuse answers the sender with a retryable error.
	OnErrorRefuse = "refuse"

	mib = 1 << 20
)

// Config of the connection to `spanledger serve` with `receivers.enricher`; the processor and the connector share it.
type Config struct {
	configgrpc.ClientConfig `mapstructure:",squash"`

	// Timeout of one call, waiting for a place in max_in_flight_mib included.
	Timeout time.Duration `mapstructure:"timeout"`
	// MaxInFlightMiB bounds what is being enriched at once, as encoded; what comes on top waits, up to Timeout.
	MaxInFlightMiB int `mapstructure:"max_in_flight_mib"`
	// MaxMessageMiB is the largest request sent; a larger one is split.
	MaxMessageMiB int `mapstructure:"max_message_mib"`
	// OnError says what happens to telemetry when the enricher fails: pass or refuse.
	OnError string `mapstructure:"on_error"`
	// Cooldown is how long the enricher is left alone after it could not be reached or did not answer in time.
	Cooldown time.Duration `mapstructure:"cooldown"`
	// MetadataKeys of the sender's request that the enricher sees, for tenants by header.
	MetadataKeys []string `mapstructure:"metadata_keys"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// NewConfig returns the defaults: an enricher beside the Collector on the loopback interface, in plain text.
func NewConfig() Config {
	grpc := configgrpc.NewDefaultClientConfig()
	grpc.Endpoint = "127.0.0.1:4321"
	grpc.TLS.Insecure = true
	return Config{
		ClientConfig:   grpc,
		Timeout:        2 * time.Second,
		MaxInFlightMiB: 64,
		MaxMessageMiB:  32,
		OnError:        OnErrorPass,
		Cooldown:       time.Second,
	}
}

// Validate is called by the Collector, and by its `validate` command.
func (c *Config) Validate() error {
	var errs []error
	if c.Endpoint == "" {
		errs = append(errs, errors.New("endpoint: must be set, host:port or unix:///path"))
	}
	if c.Timeout <= 0 {
		errs = append(errs, errors.New("timeout: must be positive"))
	}
	if c.MaxMessageMiB <= 0 {
		errs = append(errs, errors.New("max_message_mib: must be positive"))
	}
	if c.MaxInFlightMiB < c.MaxMessageMiB {
		errs = append(errs, errors.New("max_in_flight_mib: must be at least max_message_mib"))
	}
	if c.Cooldown < 0 {
		errs = append(errs, errors.New("cooldown: must not be negative"))
	}
	if !slices.Contains([]string{OnErrorPass, OnErrorRefuse}, c.OnError) {
		errs = append(errs, fmt.Errorf("on_error: %q is neither %q nor %q", c.OnError, OnErrorPass, OnErrorRefuse))
	}
	return errors.Join(errs...)
}
