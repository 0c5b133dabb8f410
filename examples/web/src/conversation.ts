// One conversation in the page: a Chat of the AI SDK that sends through the service.
import { Chat } from "@ai-sdk/react";
import { DefaultChatTransport, type CreateUIMessage } from "ai";

import type { Message, Turn } from "./messages";
import type { Outbox, Sent } from "./outbox";
import { fetchStream } from "./stream";

/** In characters. JavaScript counts some as two, so the page refuses only what is twice as long; the service decides. */
const LONGEST = 100_000;
const TOO_LONG = `A message has at most ${LONGEST} characters: shorten it, or send it in parts.`;

export type Stored = { id: number; title: string; replayed: boolean };

export class Conversation {
  /** Names the conversation in the page, as `id` is null until its first turn is stored. */
  readonly key: string;
  id: number | null;
  readonly token: string;
  readonly outbox: Outbox;
  readonly onChange: (stored?: Stored) => void;
  readonly chat: Chat<Message>;
  /** Does the chat begin with all that was stored when the conversation was opened? */
  isWhole: boolean;
  /** How many of the chat's messages were read from the service. */
  #read: number;
  /** A text that was taken back, and the id under which it may have been stored after all. */
  #takenBack: { id: string; text: string } | null = null;

  /** `messages` is null until the history could be read. */
  constructor(
    key: string,
    id: number | null,
    messages: Message[] | null,
    token: string,
    outbox: Outbox,
    onChange: (stored?: Stored) => void,
  ) {
    this.key = key;
    this.id = id;
    this.token = token;
    this.outbox = outbox;
    this.onChange = onChange;
    this.isWhole = messages !== null;
    this.#read = messages?.length ?? 0;
    this.chat = new Chat<Message>({
      messages: messages ?? [],
      transport: new DefaultChatTransport({
        api: "/api/chat",
        fetch: fetchStream,
        prepareSendMessagesRequest: (request) => this.#request(request.messages.at(-1)!),
      }),
      onFinish: ({ message, isError }) => {
        if (message.metadata && !isError) this.#finish(message.metadata);
        else this.onChange();
      },
    });
  }

  /** What the first message says in its first line: the title of a new conversation. No emoji is cut in two. */
  get title(): string {
    return Array.from(textOf(this.chat.messages[0]).trim().split("\n")[0]!).slice(0, 60).join("");
  }

  /** The name under which the draft is kept. The conversations in which nothing was said share one. */
  get draftName(): string {
    return String(this.id ?? (this.chat.messages.length ? this.key : "new"));
  }

  /** Has what was sent not been stored yet, as far as the page knows? */
  get isUnsettled(): boolean {
    return this.chat.status !== "ready";
  }

  get isUnsent(): boolean {
    return this.chat.status === "error";
  }

  /** The service has the history, so only the new message is sent. Its id is its key: sent again, it is stored once. */
  #request(message: Message) {
    const text = textOf(message);
    // The service refuses a body of more than 1 MiB and closes the connection, so a proxy may lose the reason.
    if (text.length > LONGEST * 2) throw new Error(TOO_LONG);
    this.outbox.put({ id: message.id, text, conversationId: this.id });
    this.onChange();
    return {
      headers: { Accept: "text/event-stream", Authorization: `Bearer ${this.token}`, "Idempotency-Key": message.id },
      body: { message: text, conversation_id: this.id, ...(this.id === null && { title: this.title }) },
    };
  }

  /** The turn is stored: only the end of a whole stream says so. */
  #finish({ conversation_id, replayed }: Turn): void {
    this.id = conversation_id;
    this.#takenBack = null; // The same text said once more is another message.
    this.forget();
    this.onChange({ id: this.id, title: this.title, replayed });
  }

  /** Sends what an earlier visit to the page had sent: its turn goes on, or is found, or begins. */
  resend({ id, text }: Sent): Promise<void> {
    this.chat.messages = [...this.chat.messages, { id, role: "user", parts: [{ type: "text", text }] }];
    return this.chat.regenerate();
  }

  /** Shows the history before the message on its way. It may hold that message too, so it is read again afterwards. */
  show(stored: Message[]): void {
    if (this.isWhole) return;
    this.chat.messages = [...stored, ...this.chat.messages.slice(this.#read)];
    this.#read = stored.length;
  }

  get #sent(): Message | undefined {
    return this.chat.messages.findLast(({ role }) => role === "user");
  }

  /** A user's new message. A text that was taken back and is sent unchanged keeps its id, so it is not stored twice. */
  create(text: string): CreateUIMessage<Message> {
    const message = { role: "user", parts: [{ type: "text", text }] } satisfies CreateUIMessage<Message>;
    return this.#takenBack?.text === text ? { ...message, id: this.#takenBack.id } : message;
  }

  /** Goes on with what is stored, if it could be read, and returns the text that could not be sent, unless it was. */
  takeBack(stored: Message[] | null): string {
    const { id } = this.#sent!;
    const text = textOf(this.#sent);
    const before = stored ?? this.chat.messages.slice(0, this.chat.messages.indexOf(this.#sent!));
    // The turns of a history that was never read cannot be compared: the text is kept rather than lost.
    const isStored = this.isWhole && countOfTurns(before) >= countOfTurns(this.chat.messages);
    this.#takenBack = isStored ? null : { id, text };
    this.forget();
    this.chat.messages = before;
    this.#read = before.length;
    this.isWhole ||= stored !== null;
    this.chat.clearError();
    return isStored ? "" : text;
  }

  /** A message on its way is not sent again by the next visit to the page. */
  forget(): void {
    if (this.#sent) this.outbox.remove(this.#sent.id);
  }
}

function countOfTurns(messages: Message[]): number {
  return messages.filter(({ role }) => role === "user").length;
}

/** The text of a message of the AI SDK's or of assistant-ui's. */
export function textOf(message: { parts: readonly { type: string; text?: string }[] } | undefined): string {
  return message?.parts.map((part) => (part.type === "text" ? part.text : "")).join("") ?? "";
}
