// What every JavaScript scenario shares: spans sent by OTLP/HTTP, one request a batch.
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { BatchSpanProcessor, NodeTracerProvider } from "@opentelemetry/sdk-trace-node";

/** A tracer provider that is the global one; await its `shutdown()` at the end. */
export function provider() {
  const made = new NodeTracerProvider({ spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())] });
  made.register();
  return made;
}
