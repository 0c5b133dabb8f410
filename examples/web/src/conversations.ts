// All conversations of the signed-in user: the list, and the one that is open.
import type { CreateUIMessage } from "ai";

import { createApi, type Api, type History, type ListedConversation } from "./api";
import { Conversation, type Stored } from "./conversation";
import type { Message } from "./messages";
import { createOutbox, type Outbox, type Sent } from "./outbox";
import { threadsOf, type Thread } from "./threads";

/** `problem` says why the last thing that was asked for could not be done. */
type State = { threads: Thread[]; open: Conversation | null; problem: string };

const NOTHING: History = { rows: [], earlier: null };

export class Conversations {
  readonly #token: string;
  readonly #api: Api;
  readonly #outbox: Outbox;
  readonly #kept = new Map<string, Conversation>();
  readonly #listeners = new Set<() => void>();
  #listed: ListedConversation[] = [];
  #wanted = "";
  #begun = 0;
  #state: State = { threads: [], open: null, problem: "" };

  constructor(token: string, userId: string) {
    this.#token = token;
    this.#api = createApi(token);
    this.#outbox = createOutbox(userId);
  }

  readonly getState = (): State => this.#state;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly refresh = (): Promise<unknown> =>
    this.#attempt(async () => {
      this.#listed = await this.#api.list();
    });

  /** Sends on what was left on its way, and begins with this conversation, else with what was sent last, else anew. */
  readonly begin = async (id: number | null): Promise<void> => {
    if (this.#state.open) return;
    const resumed = this.#outbox.read().map((sent) => this.#resume(sent));
    const first = id === null ? resumed.at(-1) : (this.#kept.get(String(id)) ?? this.#keep(String(id), id, null));
    this.#show(first ?? this.#keepNew());
    await this.refresh();
    if (first?.id) await this.#readFirst(first);
  };

  /** Reads again what could not be read. */
  readonly retry = async (): Promise<void> => {
    await this.refresh();
    const { open } = this.#state;
    if (this.#wanted !== open?.key || !open.isRead) await this.open(this.#wanted);
  };

  readonly openNew = (): void => {
    this.#show(this.#keepNew());
  };

  /** Opens a conversation as it is stored now, or as it was left if a message of it is still on its way. */
  readonly open = async (key: string): Promise<void> => {
    this.#wanted = key;
    const kept = this.#kept.get(key);
    const isKept = kept && (kept.isUnsettled || kept.id === null);
    if (isKept) this.#show(kept);
    if (!isKept || !kept.isRead) await this.#attempt(() => this.#read(key));
  };

  /** Opens the conversation that an address names. */
  readonly openId = (id: number): Promise<void> =>
    this.open([...this.#kept.values()].find((conversation) => conversation.id === id)?.key ?? String(id));

  /** A user's new message. The page stays in its conversation, even if another one is being read. */
  readonly create = (conversation: Conversation, text: string): CreateUIMessage<Message> => {
    this.#wanted = conversation.key;
    return conversation.create(text);
  };

  /** Throws the reason if it fails: the form keeps the title, and shows why. */
  readonly rename = async (key: string, title: string): Promise<void> => {
    const id = this.#idOf(key);
    if (id === null) throw new Error("A conversation can be renamed once its first message is stored.");
    await this.#api.rename(id, title);
    await this.refresh();
  };

  readonly remove = async (key: string): Promise<void> => {
    await this.#attempt(async () => {
      const id = this.#idOf(key);
      if (id !== null) await this.#api.remove(id);
      this.#kept.get(key)?.forget();
      this.#listed = this.#listed.filter((conversation) => conversation.id !== id);
      this.#kept.delete(key);
      if (this.#state.open?.key === key) this.openNew();
    });
  };

  /** Gives back the text of the message that could not be sent; nothing if it turns out to be stored. */
  readonly takeBack = async (conversation: Conversation): Promise<string> => {
    let stored: History | null = null;
    await this.#attempt(async () => {
      this.#listed = await this.#api.list();
      stored = conversation.id === null ? NOTHING : await this.#api.history(conversation.id, conversation.history);
    });
    const text = conversation.takeBack(stored);
    this.#change({});
    return text;
  };

  /** Leaves a conversation that was deleted elsewhere, for a new one. */
  readonly leave = (conversation: Conversation): void => {
    conversation.forget();
    this.#kept.delete(conversation.key);
    this.openNew();
    void this.refresh();
  };

  /** Reads the page before what is shown of the conversation. */
  readonly readEarlier = async (conversation: Conversation): Promise<void> => {
    const { id, history } = conversation;
    const earlier = history?.earlier ?? null;
    if (id === null || earlier === null) return;
    await this.#attempt(async () => conversation.showEarlier(await this.#api.earlier(id, earlier), earlier));
  };

  #keep(key: string, id: number | null, history: History | null): Conversation {
    const onChange = (stored?: Stored) => (stored ? this.#settle(key, stored) : this.#change({}));
    const conversation = new Conversation(key, id, history, this.#token, this.#outbox, onChange);
    this.#kept.set(key, conversation);
    return conversation;
  }

  #keepNew(): Conversation {
    return this.#keep(`new-${++this.#begun}`, null, NOTHING);
  }

  #show(open: Conversation): void {
    this.#wanted = open.key;
    this.#change({ open, problem: "" });
  }

  /** Sends what an earlier visit to the page left on its way, each message in its own conversation. */
  #resume(sent: Sent): Conversation {
    const id = sent.conversationId;
    const conversation = id === null ? this.#keepNew() : this.#keep(String(id), id, null);
    void conversation.resend(sent);
    return conversation;
  }

  /** The address may name a conversation that was deleted, or another user's: a new one takes its place. */
  async #readFirst(first: Conversation): Promise<void> {
    const status = await this.#attempt(() => this.#read(first.key));
    if (status !== 404 || first.isUnsettled || this.#state.open !== first) return;
    const { problem } = this.#state;
    this.#kept.delete(first.key);
    this.openNew();
    this.#change({ problem });
  }

  async #read(key: string): Promise<void> {
    const id = this.#idOf(key)!;
    const { open } = this.#state;
    // What is open keeps the earlier messages that it shows.
    const history = await this.#api.history(id, open?.key === key ? open.history : null);
    const kept = this.#kept.get(key);
    if (kept?.isUnsettled) kept.show(history);
    else if (this.#wanted === key) this.#show(this.#keep(key, id, history));
  }

  /** A turn is stored. If an earlier try had stored it, the page may show it twice, and reads the history again. */
  #settle(key: string, { id, title, replayed }: Stored): void {
    if (!this.#listed.some((conversation) => conversation.id === id)) this.#listed = [{ id, title }, ...this.#listed];
    this.#change({});
    void this.refresh();
    const { open } = this.#state;
    if (open?.key === key && (replayed || !open.isRead)) void this.open(key);
  }

  /** Does what may fail, and shows why it did; returns the status of the service's refusal. */
  async #attempt(work: () => Promise<void>): Promise<unknown> {
    try {
      await work();
      this.#change({ problem: "" });
      return null;
    } catch (error) {
      this.#change({ problem: (error as Error).message });
      return (error as Error).cause;
    }
  }

  #change(change: Partial<State>): void {
    this.#state = { ...this.#state, ...change, threads: threadsOf([...this.#kept.values()], this.#listed) };
    for (const listener of this.#listeners) listener();
  }

  #idOf(key: string): number | null {
    return this.#kept.has(key) ? this.#kept.get(key)!.id : Number(key);
  }
}
