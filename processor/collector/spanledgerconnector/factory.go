// Package spanledgerconnector makes spans from the log events with which clients such as Claude Code and Codex report
// their calls, priced and grouped like all others.
package spanledgerconnector

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/connector"
	"go.opentelemetry.io/collector/consumer"

	"github.com/spanledger/spanledger/processor/collector/internal/client"
	"github.com/spanledger/spanledger/processor/collector/internal/metadata"
	"github.com/spanledger/spanledger/processor/collector/internal/selection"
)

// Config of the connector. The two components are configured alike.
type Config = client.Config

// NewFactory of the connector.
func NewFactory() connector.Factory {
	return connector.NewFactory(metadata.Type, createDefaultConfig,
		connector.WithLogsToTraces(createLogsToTraces, metadata.LogsToTracesStability))
}

func createDefaultConfig() component.Config {
	cfg := client.NewConfig()
	return &cfg
}

func createLogsToTraces(
	ctx context.Context, set connector.Settings, cfg component.Config, next consumer.Traces,
) (connector.Logs, error) {
	telemetry, err := metadata.NewTelemetryBuilder(set.TelemetrySettings)
	if err != nil {
		return nil, err
	}
	c := &logsConnector{cfg: cfg.(*Config), records: selection.NewRecords(), telemetry: telemetry, next: next}
	c.client = client.New(c.cfg, set.TelemetrySettings, c.records.Use)
	for _, reason := range client.Reasons {
		c.count(ctx, reason, 0)
	}
	return c, nil
}
