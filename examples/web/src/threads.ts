// The entries of assistant-ui's thread list.
import type { ListedConversation } from "./api";
import type { Conversation } from "./conversation";

export type Thread = { status: "regular"; id: string; title: string };

/** What is stored, and before it the new conversations whose first message is still on its way. */
export function threadsOf(kept: Conversation[], listed: ListedConversation[]): Thread[] {
  const begun = kept.filter(({ id, chat }) => id === null && chat.messages.length > 0);
  const keyOf = (id: number) => kept.find((conversation) => conversation.id === id)?.key ?? String(id);
  return [
    ...begun.map(({ key, title }) => ({ status: "regular" as const, id: key, title })),
    ...listed.map(({ id, title }) => ({ status: "regular" as const, id: keyOf(id), title: title ?? "" })),
  ];
}
