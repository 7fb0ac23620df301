package client

import (
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/confmap"
)

// read a configuration as the Collector does, and check it.
func read(values map[string]any) (*Config, error) {
	cfg := NewConfig()
	var into any = &cfg
	if err := confmap.NewFromStringMap(values).Unmarshal(&into); err != nil {
		return nil, err
	}
	return &cfg, confmap.Validate(&cfg)
}

func TestWhatCannotWorkIsNoConfiguration(t *testing.T) {
	for name, one := range map[string]struct {
		says   string
		values map[string]any
	}{
		"in flight over what counts":     {"max_in_flight_mib", map[string]any{"max_in_flight_mib": 9999999999999}},
		"a product that overflows":       {"max_message_mib", map[string]any{"max_message_mib": 8796093022208, "max_in_flight_mib": 8796093022208}},
		"an answer over 2 GiB":           {"max_message_mib", map[string]any{"max_message_mib": 512, "max_in_flight_mib": 1024}},
		"less than a message":            {"max_in_flight_mib", map[string]any{"max_in_flight_mib": 31}},
		"a part of a MiB in flight":      {"max_in_flight_mib", map[string]any{"max_in_flight_mib": 64.5}},
		"a part of a MiB of a message":   {"max_message_mib", map[string]any{"max_message_mib": 1.5}},
		"a timeout without its unit":     {"timeout", map[string]any{"timeout": 2}},
		"a timeout that ends every call": {"timeout", map[string]any{"timeout": "9ms"}},
		"a cooldown without its unit":    {"cooldown", map[string]any{"cooldown": 1}},
		"zstd":                           {"compression", map[string]any{"compression": "zstd"}},
		"snappy":                         {"compression", map[string]any{"compression": "snappy"}},
		"lz4":                            {"compression", map[string]any{"compression": "lz4"}},
		"no endpoint":                    {"endpoint", map[string]any{"endpoint": ""}},
		"another scheme":                 {"endpoint", map[string]any{"endpoint": "tcp://enricher:4321"}},
		"a port that cannot be":          {"99999", map[string]any{"endpoint": "enricher:99999"}},
		"port 0":                         {"port 0", map[string]any{"endpoint": "http://enricher:0"}},
		"one behind a resolver":          {"99999", map[string]any{"endpoint": "dns:///enricher:99999"}},
		"a path":                         {"port", map[string]any{"endpoint": "http://enricher:4321/v1"}},
		"a header without a name":        {"metadata_keys", map[string]any{"metadata_keys": []string{""}}},
		"a pseudo-header":                {"metadata_keys", map[string]any{"metadata_keys": []string{":path"}}},
		"the token":                      {"metadata_keys", map[string]any{"metadata_keys": []string{"Authorization"}}},
		"no timeout":                     {"timeout", map[string]any{"timeout": "0s"}},
		"no message":                     {"max_message_mib", map[string]any{"max_message_mib": 0}},
		"a cooldown in the past":         {"cooldown", map[string]any{"cooldown": "-1s"}},
		"another on_error":               {"on_error", map[string]any{"on_error": "drop"}},
	} {
		if _, err := read(one.values); err == nil || !strings.Contains(err.Error(), one.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatWorksIsAConfiguration(t *testing.T) {
	for name, values := range map[string]map[string]any{
		"nothing":          {},
		"whole numbers":    {"max_in_flight_mib": 64.0, "max_message_mib": 16},
		"the largest":      {"max_in_flight_mib": 1 << 20, "max_message_mib": 511},
		"the shortest":     {"timeout": "10ms", "cooldown": "0s"},
		"gzip":             {"compression": "gzip"},
		"no compression":   {"compression": "none"},
		"a socket":         {"endpoint": "unix:///run/spanledger:1/enricher:99999"},
		"IPv6":             {"endpoint": "[::1]:4321"},
		"as of OTLP":       {"endpoint": "http://enricher:4321"},
		"as of OTLP, TLS":  {"endpoint": "https://enricher:4321"},
		"a resolver":       {"endpoint": "dns:///enricher:4321"},
		"a server of it":   {"endpoint": "dns://9.9.9.9/enricher:65535"},
		"names of headers": {"metadata_keys": []string{"X-Tenant", "x_tenant", "user-agent", "x!y"}},
	} {
		cfg, err := read(values)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if cfg.Timeout < 10*time.Millisecond {
			t.Error(name, cfg.Timeout)
		}
	}
}
