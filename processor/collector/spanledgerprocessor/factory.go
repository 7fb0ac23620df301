// Package spanledgerprocessor asks `spanledger serve` beside the Collector what GenAI spans cost, which session and run
// they belong to, and appends the answer to them.
package spanledgerprocessor

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/processorhelper"

	"github.com/spanledger/spanledger/processor/collector/internal/client"
	"github.com/spanledger/spanledger/processor/collector/internal/metadata"
)

// Config of the processor. The two components are configured alike.
type Config = client.Config

// NewFactory of the processor.
func NewFactory() processor.Factory {
	return processor.NewFactory(metadata.Type, createDefaultConfig,
		processor.WithTraces(createTraces, metadata.TracesStability))
}

func createDefaultConfig() component.Config {
	cfg := client.NewConfig()
	return &cfg
}

func createTraces(
	ctx context.Context, set processor.Settings, cfg component.Config, next consumer.Traces,
) (processor.Traces, error) {
	p, err := newProcessor(ctx, cfg.(*Config), set.TelemetrySettings)
	if err != nil {
		return nil, err
	}
	return processorhelper.NewTraces(ctx, set, cfg, next, p.process,
		processorhelper.WithStart(p.client.Start),
		processorhelper.WithShutdown(p.client.Shutdown),
		processorhelper.WithCapabilities(consumer.Capabilities{MutatesData: true}))
}
