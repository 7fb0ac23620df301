package metadata

import (
	"os"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// declared are the metrics of a metadata.yaml: description, unit and kind by name.
func declared(t *testing.T, path string) map[string][3]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	retrieved, err := confmap.NewRetrievedFromYAML(text)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := retrieved.AsConf()
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := parsed.Sub("telemetry::metrics")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][3]string{}
	for name, value := range metrics.ToStringMap() {
		fields := value.(map[string]any)
		kind := "histogram"
		if sum, ok := fields["sum"].(map[string]any); ok {
			kind = map[bool]string{true: "counter", false: "updowncounter"}[sum["monotonic"].(bool)]
		}
		found["otelcol_"+name] = [3]string{fields["description"].(string), fields["unit"].(string), kind}
	}
	return found
}

func kindOf(data metricdata.Aggregation) string {
	switch sum := data.(type) {
	case metricdata.Sum[int64]:
		return map[bool]string{true: "counter", false: "updowncounter"}[sum.IsMonotonic]
	default:
		return "histogram"
	}
}

func TestTheInstrumentsAreThoseOfTheMetadata(t *testing.T) {
	want := declared(t, "../../spanledgerprocessor/metadata.yaml")
	for name, one := range declared(t, "../../spanledgerconnector/metadata.yaml") {
		want[name] = one
	}
	telemetry := componenttest.NewTelemetry()
	b, err := NewTelemetryBuilder(telemetry.NewTelemetrySettings())
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	b.EnrichedSpans.Add(ctx, 1)
	b.MissedSpans.Add(ctx, 1)
	b.PlainSpans.Add(ctx, 1)
	b.MissedRecords.Add(ctx, 1)
	b.CallDuration.Record(ctx, 1)
	b.InFlight.Add(ctx, 1)
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, one := range want {
		metric, err := telemetry.GetMetric(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := [3]string{metric.Description, metric.Unit, kindOf(metric.Data)}; got != one {
			t.Fatalf("%s: %v, and %v in metadata.yaml", name, got, one)
		}
		if !strings.Contains(string(readme), "`"+name+"`") {
			t.Fatalf("README.md has no %s", name)
		}
	}
	if len(want) != 6 {
		t.Fatal(want)
	}
}
