/**
 * The AI SDK 6, streamed from Anthropic, with a tool in several steps: counts with caches, the split in the metadata.
 *
 * into: vercel-ai-sdk-v6/anthropic-stream
 * requires-npm: ai@6.0.326 @ai-sdk/anthropic@3.0.140 zod@4.6.7
 */
import { createAnthropic } from "@ai-sdk/anthropic";
import { stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { provider } from "./telemetry.mjs";

const tracing = provider();
const anthropic = createAnthropic({ baseURL: `${process.env.ANTHROPIC_BASE_URL}/v1` });
const answer = streamText({
  model: anthropic("claude-sonnet-4-5"),
  prompt: "What is the weather like in alpha and beta?",
  tools: {
    get_weather: tool({
      description: "The weather of a city",
      inputSchema: z.object({ city: z.string(), days: z.number() }),
      execute: async () => "fine",
    }),
  },
  stopWhen: stepCountIs(8),
  experimental_telemetry: { isEnabled: true, metadata: { sessionId: process.env.SESSION_ID } },
});
await answer.consumeStream();
await tracing.shutdown();
