/**
 * The AI SDK 4 with a tool in several steps: old names of usage, caches and reasoning in the provider's metadata.
 *
 * into: vercel-ai-sdk-v4/openai-tools
 * requires-npm: ai@4.3.19 @ai-sdk/openai@1.3.24 zod@3.25.76
 */
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, tool } from "ai";
import { z } from "zod";
import { provider } from "./telemetry.mjs";

const tracing = provider();
const openai = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL, compatibility: "strict" });
await generateText({
  model: openai("gpt-5.1"),
  prompt: "What is the weather like in alpha and beta?",
  tools: {
    get_weather: tool({
      description: "The weather of a city",
      parameters: z.object({ city: z.string(), days: z.number() }),
      execute: async () => "fine",
    }),
  },
  maxSteps: 8,
  experimental_telemetry: { isEnabled: true, metadata: { sessionId: process.env.SESSION_ID } },
});
await tracing.shutdown();
