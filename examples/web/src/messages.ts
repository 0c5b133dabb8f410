// What the service has stored, as the AI SDK's messages: a user's text, or a reply with the tool calls before it.
import type { DynamicToolUIPart, UIMessage } from "ai";

import type { StoredMessage } from "./api";

/** The service ends each stream with this. */
export type Turn = { conversation_id: number; replayed: boolean };
export type Message = UIMessage<Turn>;

export function toMessages(stored: StoredMessage[]): Message[] {
  const messages: Message[] = [];
  for (const row of stored) {
    if (row.role === "user") {
      messages.push({ id: String(row.id), role: "user", parts: [{ type: "text", text: row.content }] });
      continue;
    }
    if (messages.at(-1)?.role !== "assistant") messages.push({ id: String(row.id), role: "assistant", parts: [] });
    addTo(messages.at(-1)!.parts, row);
  }
  return messages;
}

/** The text of a message of the AI SDK's or of assistant-ui's. */
export function textOf(message: { parts: readonly { type: string; text?: string }[] } | undefined): string {
  return message?.parts.map((part) => (part.type === "text" ? part.text : "")).join("") ?? "";
}

function addTo(parts: Message["parts"], { role, content, metadata }: StoredMessage): void {
  if (role === "tool") {
    const id = metadata?.["call_id"] ?? metadata?.["tool_call_id"];
    const call = parts.findLastIndex((part) => part.type === "dynamic-tool" && part.toolCallId === id);
    if (call >= 0) parts[call] = answered(parts[call] as DynamicToolUIPart, content);
    return;
  }
  for (const call of callsOf(metadata)) {
    // A call whose output nobody stored must not look as if it still ran.
    parts.push({ type: "dynamic-tool", ...call, state: "output-error", errorText: "No output was stored." });
  }
  if (content) parts.push({ type: "text", text: content });
}

function answered({ toolName, toolCallId, input }: DynamicToolUIPart, output: string): DynamicToolUIPart {
  return { type: "dynamic-tool", toolName, toolCallId, input, state: "output-available", output };
}

type Call = { toolName: string; toolCallId: string; input: unknown };
type StoredCall = { name?: string; arguments?: string };

/** A message's calls, in either form of OpenAI's: an item of the Responses API, or `tool_calls` of chat completions. */
function callsOf(metadata: StoredMessage["metadata"]): Call[] {
  const item = metadata as (StoredCall & { call_id?: string; type?: string }) | null;
  if (item?.call_id) return [toCall(item.call_id, { name: item.type ?? "tool", ...item })];
  const calls = metadata?.["tool_calls"] as { id: string; function?: StoredCall }[] | undefined;
  return Array.isArray(calls) ? calls.map(({ id, function: called }) => toCall(id, called)) : [];
}

function toCall(toolCallId: string, called: StoredCall = {}): Call {
  return { toolName: called.name ?? "tool", toolCallId, input: parsed(called.arguments ?? "{}") };
}

function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return json;
  }
}
