// The entries of assistant-ui's thread list.
import type { ListedConversation } from "./api";
import type { Conversation } from "./conversation";

export type Thread = { status: "regular"; id: string; title: string; custom: { isUnsent: boolean } };

/** What is stored, and before it the new conversations whose first message is still on its way. */
export function threadsOf(kept: Conversation[], listed: ListedConversation[]): Thread[] {
  const begun = kept.filter(({ id, chat }) => id === null && chat.messages.length > 0);
  return [
    ...begun.map((conversation) => toThread(conversation.key, conversation.title, conversation)),
    ...listed.map(({ id, title }) => {
      const open = kept.find((conversation) => conversation.id === id);
      return toThread(open?.key ?? String(id), title ?? "", open);
    }),
  ];
}

function toThread(id: string, title: string, kept: Conversation | undefined): Thread {
  return { status: "regular", id, title, custom: { isUnsent: kept?.isUnsent ?? false } };
}
