// One conversation in the page: a Chat of the AI SDK that sends through the service.
import { Chat } from "@ai-sdk/react";
import { DefaultChatTransport, type CreateUIMessage } from "ai";

import type { History } from "./api";
import { textOf, toMessages, type Message, type Turn } from "./messages";
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
  /** Does the chat begin with the newest messages that were stored when the conversation was opened? */
  isRead: boolean;
  /** What was read from the service, with which the chat begins; null if nothing was. */
  history: History | null;
  /** How many of the chat's messages are known to be in the service's history. */
  #read: number;
  /** A text that was taken back, and the id under which it may have been stored after all. */
  #takenBack: { id: string; text: string } | null = null;

  /** `history` is null until it could be read. */
  constructor(
    key: string,
    id: number | null,
    history: History | null,
    token: string,
    outbox: Outbox,
    onChange: (stored?: Stored) => void,
  ) {
    this.key = key;
    this.id = id;
    this.token = token;
    this.outbox = outbox;
    this.onChange = onChange;
    this.isRead = history !== null;
    this.history = history;
    const messages = toMessages(history?.rows ?? []);
    this.#read = messages.length;
    this.chat = new Chat<Message>({
      messages,
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

  /** Was the conversation deleted elsewhere, so that it takes no message? */
  get isGone(): boolean {
    return this.isUnsent && this.chat.error?.cause === 404;
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
  show(history: History): void {
    if (this.isRead) return;
    const messages = toMessages(history.rows);
    this.chat.messages = [...messages, ...this.chat.messages.slice(this.#read)];
    this.history = history;
    this.#read = messages.length;
  }

  /** Shows the page that `cursor` led to before the others, unless it is shown already. */
  showEarlier({ rows, earlier }: History, cursor: string): void {
    if (this.history?.earlier !== cursor) return;
    const before = toMessages(this.history.rows).length;
    // A page may begin within a turn, so the messages are made anew of all rows.
    this.history = { rows: [...rows, ...this.history.rows], earlier };
    const messages = toMessages(this.history.rows);
    this.chat.messages = [...messages, ...this.chat.messages.slice(before)];
    this.#read += messages.length - before;
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
  takeBack(stored: History | null): string {
    const { id } = this.#sent!;
    const text = textOf(this.#sent);
    const before = stored ? toMessages(stored.rows) : this.chat.messages.slice(0, this.chat.messages.indexOf(this.#sent!));
    const isStored = stored !== null && this.#isStored(stored, text);
    this.#takenBack = isStored ? null : { id, text };
    this.forget();
    this.chat.messages = before;
    this.#read = before.length;
    this.history = stored ?? this.history;
    this.isRead ||= stored !== null;
    this.chat.clearError();
    return isStored ? "" : text;
  }

  /** Does the history hold the text as often as it was said here? One that was never read cannot be compared. */
  #isStored({ rows }: History, text: string): boolean {
    if (!this.isRead) return false; // The text is kept rather than lost.
    const known = this.history!.rows;
    const last = known.at(-1)?.id ?? 0;
    const said = this.chat.messages.slice(toMessages(known).length);
    return timesOf(text, toMessages(rows.filter(({ id }) => id > last))) >= timesOf(text, said);
  }

  /** A message on its way is not sent again by the next visit to the page. */
  forget(): void {
    if (this.#sent) this.outbox.remove(this.#sent.id);
  }
}

function timesOf(text: string, messages: Message[]): number {
  return messages.filter((message) => message.role === "user" && textOf(message) === text).length;
}
