// A conversation for the AI SDK's `useChat`: `const chat = await openChat(conversations, id)`, then `useChat({ chat })`.
import { Chat } from "@ai-sdk/react";
import type { ChatTransport, UIMessage, UIMessageChunk } from "ai";

import type { Conversations } from "../conversations.js";

/** The chat with what was said so far, or a new one. */
export async function openChat(
  conversations: Conversations,
  conversationId: number | null = null,
): Promise<Chat<UIMessage>> {
  const said = conversationId === null ? [] : await conversations.history(conversationId);
  return new Chat<UIMessage>({
    generateId: () => crypto.randomUUID(),
    messages: said.map(({ id, role, text }) => ({ id, role, parts: [{ type: "text", text }] })),
    transport: new ConversationTransport(conversations, conversationId),
  });
}

/** Sends the last message only: the service has the others. The message's id is its key, so a retry is safe. */
export class ConversationTransport implements ChatTransport<UIMessage> {
  /** Where each message was sent first, as a retry must say the same; a new conversation is null. */
  readonly #sentTo = new Map<string, number | null>();

  constructor(
    readonly conversations: Conversations,
    public conversationId: number | null = null,
  ) {}

  async sendMessages({
    messages,
    abortSignal,
  }: Parameters<ChatTransport<UIMessage>["sendMessages"]>[0]): Promise<ReadableStream<UIMessageChunk>> {
    const message = messages.at(-1);
    if (message?.role !== "user") throw new Error("Only a user's message can be sent.");
    if (!this.#sentTo.has(message.id)) this.#sentTo.set(message.id, this.conversationId);
    const target = this.#sentTo.get(message.id) ?? null;
    const turn = await this.conversations.send(textOf(message), target, message.id, abortSignal);
    this.conversationId = turn.conversation_id;
    return streamOf(turn.assistant_message);
  }

  /** Nothing is left to stream: the service answers when the turn is stored. */
  async reconnectToStream(): Promise<null> {
    return null;
  }
}

function textOf(message: UIMessage): string {
  return message.parts.map((part) => (part.type === "text" ? part.text : "")).join("");
}

function streamOf(text: string): ReadableStream<UIMessageChunk> {
  return new ReadableStream({
    start(controller) {
      controller.enqueue({ type: "start" });
      controller.enqueue({ type: "text-start", id: "answer" });
      controller.enqueue({ type: "text-delta", id: "answer", delta: text });
      controller.enqueue({ type: "text-end", id: "answer" });
      controller.enqueue({ type: "finish" });
      controller.close();
    },
  });
}
