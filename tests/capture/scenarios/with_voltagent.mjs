/**
 * VoltAgent: a call in five steps with a tool, whose usage stands on the agent's span, and two in one step, one streamed.
 *
 * into: voltagent/steps
 * requires-npm: @voltagent/core@2.10.0 ai@6.0.326 @ai-sdk/openai@3.0.141 zod@4.6.7
 */
import { createOpenAI } from "@ai-sdk/openai";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { BatchSpanProcessor } from "@opentelemetry/sdk-trace-node";
import { Agent, createTool, VoltAgentObservability } from "@voltagent/core";
import { z } from "zod";

const observability = new VoltAgentObservability({ spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())] });
const openai = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL });
const weather = createTool({
  name: "get_weather",
  description: "The weather of a city",
  parameters: z.object({ city: z.string(), days: z.number() }),
  execute: async () => "fine",
});
const whose = { conversationId: process.env.SESSION_ID, userId: "me" };
const reporter = new Agent({ name: "reporter", instructions: "Tell the weather.", model: openai("gpt-5.1"), tools: [weather], observability });
const helper = new Agent({ name: "helper", instructions: "Be brief.", model: openai("gpt-4o"), observability });
await reporter.generateText("What is the weather?", whose);
const answer = await reporter.streamText("And now?", whose);
for await (const _ of answer.textStream);
await helper.generateText("Thank you.", whose);
await observability.shutdown();
process.exit(0); // its store's timer would keep the process alive
