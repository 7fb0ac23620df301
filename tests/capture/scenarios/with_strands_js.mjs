/**
 * Strands for JavaScript, whose spans name the service as the provider: a tool loop of OpenAI's model, and an answer of
 * Anthropic's.
 *
 * into: strands-js/tools
 * requires-npm: @strands-agents/sdk@1.16.0 openai@6.49.0 @anthropic-ai/sdk@1.14.0 @modelcontextprotocol/sdk@1.32.2 zod@4.6.7
 */

import { Agent, tool } from "@strands-agents/sdk";
import { AnthropicModel } from "@strands-agents/sdk/models/anthropic";
import { OpenAIModel } from "@strands-agents/sdk/models/openai";
import { z } from "zod";
import { provider } from "./telemetry.mjs";

const traces = provider();
const shared = { printer: false, traceAttributes: { "session.id": process.env.SESSION_ID } };
const weather = tool({
  name: "get_weather",
  description: "Tell the weather.",
  inputSchema: z.object({ city: z.string(), days: z.number() }),
  callback: () => "sunny",
});
const openai = { modelId: "gpt-4o", apiKey: "none", api: "chat", clientConfig: { baseURL: process.env.OPENAI_BASE_URL } };
await new Agent({ ...shared, model: new OpenAIModel(openai), tools: [weather] }).invoke("weather?");
const anthropic = { modelId: "claude-sonnet-4-5", apiKey: "none", clientConfig: { baseURL: process.env.ANTHROPIC_BASE_URL } };
await new Agent({ ...shared, model: new AnthropicModel(anthropic) }).invoke("weather?");
await traces.forceFlush();
await traces.shutdown();
