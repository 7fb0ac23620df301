// Package metadata holds what spanledgerprocessor/metadata.yaml and spanledgerconnector/metadata.yaml declare, in the
// form that the Collector's mdatagen gives it. Written by hand: the generator is not in the Go module proxy at 0.160. A
// test holds it to those files.
package metadata

import "go.opentelemetry.io/collector/component"

// Type of both components in configurations.
var Type = component.MustNewType("spanledger")

// ScopeName of the module's own telemetry.
const ScopeName = "github.com/spanledger/spanledger/processor/collector"

// Stability of the components.
const (
	TracesStability       = component.StabilityLevelDevelopment
	LogsToTracesStability = component.StabilityLevelDevelopment
)
