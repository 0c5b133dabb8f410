// A conversation for assistant-ui's external-store runtime:
// `const runtime = useConversationRuntime(store)`, then `<AssistantRuntimeProvider runtime={runtime}>`.
import { useExternalStoreRuntime, type AppendMessage, type ThreadMessageLike } from "@assistant-ui/react";
import { useSyncExternalStore } from "react";

import type { Conversations } from "../conversations.js";

type State = { messages: readonly ThreadMessageLike[]; isLoading: boolean; isRunning: boolean };

/** What the page shows of one conversation, a new one without an id. Make it once, outside of the components. */
export class ConversationStore {
  #state: State = { messages: [], isLoading: false, isRunning: false };
  readonly #listeners = new Set<() => void>();
  /** A message that has no answer: its key must be used again, as it may have been stored. */
  #failed: { text: string; key: string } | null = null;

  constructor(
    readonly conversations: Conversations,
    public conversationId: number | null = null,
  ) {}

  readonly getState = (): State => this.#state;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  async load(): Promise<void> {
    if (this.conversationId === null) return;
    this.#change({ isLoading: true });
    try {
      const said = await this.conversations.history(this.conversationId);
      this.#change({ messages: said.map(({ id, role, text }) => ({ id, role, content: text })) });
    } finally {
      this.#change({ isLoading: false });
    }
  }

  /** Shows the message at once and the answer when both are stored; takes the message back if they are not. */
  async send(text: string): Promise<void> {
    const key = this.#failed?.text === text ? this.#failed.key : crypto.randomUUID();
    const { messages } = this.#state;
    const sent: ThreadMessageLike[] = [...messages, { id: key, role: "user", content: text }];
    this.#change({ messages: sent, isRunning: true });
    try {
      const turn = await this.conversations.send(text, this.conversationId, key);
      this.conversationId = turn.conversation_id;
      this.#failed = null;
      const answer = { id: `${key}-answer`, role: "assistant", content: turn.assistant_message } as const;
      this.#change({ messages: [...sent, answer] });
    } catch (error) {
      this.#failed = { text, key };
      this.#change({ messages });
      throw error;
    } finally {
      this.#change({ isRunning: false });
    }
  }

  #change(change: Partial<State>): void {
    this.#state = { ...this.#state, ...change };
    for (const listener of this.#listeners) listener();
  }
}

export function useConversationRuntime(store: ConversationStore) {
  const state = useSyncExternalStore(store.subscribe, store.getState, store.getState);
  return useExternalStoreRuntime<ThreadMessageLike>({
    ...state,
    convertMessage: (message) => message,
    onNew: (message) => store.send(textOf(message)),
  });
}

function textOf(message: AppendMessage): string {
  return message.content.map((part) => (part.type === "text" ? part.text : "")).join("");
}
