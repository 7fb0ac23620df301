/**
 * Anthropic's streaming helper, told by the SDK's own spans and by OpenInference's: one trace each, no id in common.
 *
 * into: openinference-js/anthropic-stream+native
 * requires-npm: @anthropic-ai/sdk@1.13.0 @arizeai/openinference-instrumentation-anthropic@0.2.8
 * requires-npm: @opentelemetry/instrumentation@0.223.0
 */
import Anthropic from "@anthropic-ai/sdk";
import { AnthropicInstrumentation } from "@arizeai/openinference-instrumentation-anthropic";
import { provider } from "./telemetry.mjs";

const tracing = provider();
new AnthropicInstrumentation({ tracerProvider: tracing }).manuallyInstrument(Anthropic);
const client = new Anthropic();
for (let call = 0; call < 3; call += 1) {
  const message = { role: "user", content: "What is the weather like?" };
  await client.messages.stream({ model: "claude-sonnet-4-5", max_tokens: 100, messages: [message] }).finalMessage();
}
await tracing.shutdown();
