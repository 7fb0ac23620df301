// Package client speaks to the enricher: one connection, a handshake, bounds and a cooldown.
package client

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/config/configcompression"
	"go.opentelemetry.io/collector/config/configgrpc"
	"go.opentelemetry.io/collector/confmap"
)

const (
	// OnErrorPass lets spans go on without what they should have gained, marked and counted.
	OnErrorPass = "pass"
	// OnErrorRefuse answers the sender with a retryable error.
	OnErrorRefuse = "refuse"

	mib = 1 << 20
	// An answer may be four times as large, and gRPC's implementations count the bytes of a message in 32 bits with a sign.
	largestMessageMiB = math.MaxInt32 / 4 / mib
	// 1 TiB: more than a machine has that a Collector runs on.
	largestInFlightMiB = 1 << 20
	// A loaded machine takes milliseconds for a call. A number without a unit is one of nanoseconds.
	shortestTimeout  = 10 * time.Millisecond
	shortestCooldown = time.Millisecond
)

var (
	// The schemes that the Collector and gRPC know: of others they try to resolve the whole text as a name.
	schemes = []string{"http", "https", "unix", "dns", "passthrough"}
	// What HTTP takes as a header's name.
	headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
	// Those that receivers.enricher reads, gRPC in Python being what listens there.
	compressions = []configcompression.Type{"", "none", configcompression.TypeGzip}
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

// Unmarshal refuses parts of a MiB, which decoding would cut off.
func (c *Config) Unmarshal(conf *confmap.Conf) error {
	for _, key := range []string{"max_in_flight_mib", "max_message_mib"} {
		if given, ok := conf.Get(key).(float64); ok && given != math.Trunc(given) {
			return fmt.Errorf("%s: %v is no whole number", key, given)
		}
	}
	return conf.Unmarshal(c)
}

// Validate is called by the Collector, and by its `validate` command.
func (c *Config) Validate() error {
	errs := []error{c.checkEndpoint()}
	if c.Timeout < shortestTimeout {
		errs = append(errs, fmt.Errorf("timeout: must be at least %s; write it with a unit, such as 2s", shortestTimeout))
	}
	if c.MaxMessageMiB <= 0 || c.MaxMessageMiB > largestMessageMiB {
		errs = append(errs, fmt.Errorf("max_message_mib: must be from 1 to %d", largestMessageMiB))
	}
	if c.MaxInFlightMiB < c.MaxMessageMiB || c.MaxInFlightMiB > largestInFlightMiB {
		errs = append(errs, fmt.Errorf("max_in_flight_mib: must be from max_message_mib to %d", largestInFlightMiB))
	}
	if c.Cooldown != 0 && c.Cooldown < shortestCooldown {
		errs = append(errs, fmt.Errorf("cooldown: must be 0 or at least %s; write it with a unit, such as 1s", shortestCooldown))
	}
	if !slices.Contains([]string{OnErrorPass, OnErrorRefuse}, c.OnError) {
		errs = append(errs, fmt.Errorf("on_error: %q is neither %q nor %q", c.OnError, OnErrorPass, OnErrorRefuse))
	}
	if !slices.Contains(compressions, c.Compression) {
		errs = append(errs, fmt.Errorf("compression: the enricher reads gzip and none, not %s", c.Compression))
	}
	for _, key := range c.MetadataKeys {
		switch {
		case !headerName.MatchString(key):
			errs = append(errs, fmt.Errorf("metadata_keys: %q is no name of a header", key))
		case strings.EqualFold(key, "authorization"):
			errs = append(errs, errors.New("metadata_keys: authorization is the token by which the enricher knows the"+
				" Collector (headers); no tenant is told by it"))
		}
	}
	return errors.Join(errs...)
}

// checkEndpoint finds what configgrpc lets pass, and nothing could be reached by.
func (c *Config) checkEndpoint() error {
	if c.Endpoint == "" {
		return errors.New("endpoint: must be set, host:port or unix:///path")
	}
	scheme, address, found := strings.Cut(c.Endpoint, "://")
	if !found {
		address = c.Endpoint
	} else if !slices.Contains(schemes, scheme) {
		return fmt.Errorf("endpoint: %q has a scheme that is not known; write host:port or unix:///path", c.Endpoint)
	}
	if scheme == "dns" || scheme == "passthrough" {
		if target, err := url.Parse(c.Endpoint); err == nil {
			address = strings.TrimPrefix(target.Path, "/")
		}
	}
	if _, port, err := net.SplitHostPort(address); err == nil && (!found || scheme != "unix") {
		if number, err := strconv.Atoi(port); err == nil && (number < 1 || number > math.MaxUint16) {
			return fmt.Errorf("endpoint: port %s is not from 1 to %d", port, math.MaxUint16)
		}
	}
	return nil
}
