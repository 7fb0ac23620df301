/**
 * TanStack AI's middleware around a tool loop of Anthropic's model.
 *
 * into: tanstack/anthropic
 * requires-npm: @tanstack/ai@0.58.0 @tanstack/ai-anthropic@0.18.11 zod@4.6.7
 */
import { chat, maxIterations, toolDefinition } from "@tanstack/ai";
import { createAnthropicChat } from "@tanstack/ai-anthropic";
import { otelMiddleware } from "@tanstack/ai/middlewares/otel";
import { z } from "zod";
import { provider } from "./telemetry.mjs";

const traces = provider();
const tracer = traces.getTracer("weather-app");
const weather = toolDefinition({
  name: "get_weather",
  description: "Tell the weather.",
  inputSchema: z.object({ city: z.string(), days: z.number() }),
}).server(async () => "sunny");
const session = { "session.id": process.env.SESSION_ID };
const answer = chat({
  adapter: createAnthropicChat("claude-sonnet-4-5", "none", { baseURL: process.env.ANTHROPIC_BASE_URL }),
  messages: [{ role: "user", content: "weather?" }],
  tools: [weather],
  middleware: [otelMiddleware({ tracer, captureContent: true, attributeEnricher: () => session })],
  agentLoopStrategy: maxIterations(8),
});
for await (const _ of answer);
await traces.shutdown();
