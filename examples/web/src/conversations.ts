// All conversations of the signed-in user: the list, and the one that is open.
import { createApi, type Api, type ListedConversation } from "./api";
import { Conversation, type Stored } from "./conversation";
import { toMessages, type Message } from "./messages";
import { createOutbox, type Outbox, type Sent } from "./outbox";

/** `problem` says why the last thing that was asked for could not be done. */
type State = { threads: Thread[]; open: Conversation | null; problem: string };
/** An entry of assistant-ui's thread list. */
type Thread = { status: "regular"; id: string; title: string };

export class Conversations {
  readonly #api: Api;
  readonly #outbox: Outbox;
  readonly #kept = new Map<string, Conversation>();
  readonly #listeners = new Set<() => void>();
  #listed: ListedConversation[] = [];
  #wanted = "";
  #begun = 0;
  /** What an earlier visit to the page left unfinished. */
  #left: Sent | null;
  #state: State = { threads: [], open: null, problem: "" };

  constructor(
    readonly token: string,
    userId: string,
  ) {
    this.#api = createApi(token);
    this.#outbox = createOutbox(userId);
    this.#left = this.#outbox.read();
  }

  readonly getState = (): State => this.#state;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly refresh = (): Promise<void> =>
    this.#attempt(async () => {
      this.#listed = await this.#api.list();
    });

  /** Begins with the message that was on its way when the page was left, else with this conversation, else anew. */
  readonly begin = async (id: number | null): Promise<void> => {
    if (this.#state.open) return;
    const first = this.#left ? this.#left.conversationId : id;
    this.openNew();
    await this.refresh();
    if (first !== null) await this.open(String(first));
  };

  /** Reads again what could not be read. */
  readonly retry = async (): Promise<void> => {
    await this.refresh();
    if (this.#wanted !== this.#state.open?.key) await this.open(this.#wanted);
  };

  readonly openNew = (): void => {
    this.#wanted = `new-${++this.#begun}`;
    this.#open(this.#wanted, null, []);
  };

  /** Opens a conversation as it is stored now, or as it was left if a message of it is still on its way. */
  readonly open = async (key: string): Promise<void> => {
    this.#wanted = key;
    const kept = this.#kept.get(key);
    if (kept && (kept.isUnsettled || kept.id === null)) return this.#change({ open: kept });
    await this.#attempt(async () => {
      const id = kept?.id ?? Number(key);
      const messages = toMessages(await this.#api.history(id));
      if (this.#wanted === key) this.#open(key, id, messages);
    });
  };

  readonly rename = (key: string, title: string): Promise<void> =>
    this.#attempt(async () => {
      const id = this.#idOf(key);
      if (id === null) throw new Error("A conversation can be renamed once its first message is stored.");
      await this.#api.rename(id, title);
      this.#listed = await this.#api.list();
    });

  readonly remove = (key: string): Promise<void> =>
    this.#attempt(async () => {
      const id = this.#idOf(key);
      if (id !== null) await this.#api.remove(id);
      this.#kept.get(key)?.forget();
      this.#listed = this.#listed.filter((conversation) => conversation.id !== id);
      this.#kept.delete(key);
      if (this.#state.open?.key === key) this.openNew();
    });

  /** Gives back the text of the message that could not be sent; nothing if it turns out to be stored. */
  readonly takeBack = async (conversation: Conversation): Promise<string> => {
    let stored: Message[] | undefined;
    await this.#attempt(async () => {
      this.#listed = await this.#api.list();
      stored = conversation.id === null ? [] : toMessages(await this.#api.history(conversation.id));
    });
    const text = conversation.takeBack(stored);
    this.#change({});
    return text;
  };

  #open(key: string, id: number | null, messages: Message[]): void {
    const onChange = (stored?: Stored) => (stored ? this.#settle(key, stored) : this.#change({}));
    const conversation = new Conversation(key, id, messages, this.token, this.#outbox, onChange);
    this.#kept.set(key, conversation);
    this.#change({ open: conversation, problem: "" });
    if (this.#left?.conversationId !== id) return;
    void conversation.resend(this.#left);
    this.#left = null;
  }

  /** A turn is stored. If an earlier try had stored it, the page may show it twice, and reads the history again. */
  #settle(key: string, { id, title, replayed }: Stored): void {
    if (!this.#listed.some((conversation) => conversation.id === id)) this.#listed = [{ id, title }, ...this.#listed];
    this.#change({});
    void this.refresh();
    if (replayed && this.#state.open?.key === key) void this.open(key);
  }

  /** Does what may fail, and shows why it did. */
  async #attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work();
      this.#change({ problem: "" });
    } catch (error) {
      this.#change({ problem: (error as Error).message });
    }
  }

  #change(change: Partial<State>): void {
    this.#state = { ...this.#state, ...change, threads: this.#threads() };
    for (const listener of this.#listeners) listener();
  }

  /** What is stored, and before it the new conversations whose first message is still on its way. */
  #threads(): Thread[] {
    const kept = [...this.#kept.values()];
    const begun = kept.filter(({ id, chat }) => id === null && chat.messages.length > 0);
    const keyOf = (id: number) => kept.find((conversation) => conversation.id === id)?.key ?? String(id);
    return [
      ...begun.map(({ key, title }) => ({ status: "regular" as const, id: key, title })),
      ...this.#listed.map(({ id, title }) => ({ status: "regular" as const, id: keyOf(id), title: title ?? "" })),
    ];
  }

  #idOf(key: string): number | null {
    return this.#kept.has(key) ? this.#kept.get(key)!.id : Number(key);
  }
}
