// The signed-in user's page: assistant-ui's thread list and thread, on the AI SDK's chat of the open conversation.
import { useChat } from "@ai-sdk/react";
import { AssistantRuntimeProvider } from "@assistant-ui/react";
import { useAISDKRuntime } from "@assistant-ui/react-ai-sdk";
import { useEffect, useState, useSyncExternalStore } from "react";

import { Account } from "./Account";
import type { Conversation } from "./conversation";
import { Conversations } from "./conversations";
import { Drawer } from "./Drawer";
import { createDrafts, type Drafts } from "./drafts";
import { textOf } from "./messages";
import { Thread } from "./Thread";
import { ThreadList } from "./ThreadList";

type User = { id: string; name: string };

export function ChatPage({ token, user }: { token: string; user: User }) {
  const [conversations] = useState(() => new Conversations(token, user.id));
  const [drafts] = useState(() => createDrafts(user.id));
  const { open } = useSyncExternalStore(conversations.subscribe, conversations.getState);

  // The address holds the conversation's id, so that a reload finds it. A changed address opens its conversation.
  useEffect(() => void conversations.begin(addressed()), [conversations]);
  const id = open?.id;
  useEffect(() => {
    if (id !== undefined) history.replaceState(null, "", id === null ? location.pathname : `#${id}`);
  }, [id]);
  useEffect(() => {
    function follow() {
      const wanted = addressed();
      if (wanted !== null) void conversations.openId(wanted);
    }
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, [conversations]);

  return open && <OpenPage conversations={conversations} open={open} drafts={drafts} user={user} />;
}

/** The id of the conversation that the address names, if it names one. */
function addressed(): number | null {
  const id = Number(location.hash.slice(1));
  return Number.isSafeInteger(id) && id > 0 ? id : null;
}

type OpenPageProps = { conversations: Conversations; open: Conversation; drafts: Drafts; user: User };

function OpenPage({ conversations, open, drafts, user }: OpenPageProps) {
  const { threads, problem } = useSyncExternalStore(conversations.subscribe, conversations.getState);
  const chat = useChat({ chat: open.chat });
  const runtime = useAISDKRuntime(chat, {
    // The option is generic over all kinds of messages; this chat has one.
    toCreateMessage: ({ content }) => conversations.create(open, textOf({ parts: content })) as never,
    isSendDisabled: chat.status === "error", // First the message that could not be sent is sent, or taken back.
    adapters: {
      threadList: {
        threadId: open.key,
        threads,
        onSwitchToNewThread: conversations.openNew,
        onSwitchToThread: conversations.open,
        onRename: conversations.rename,
        onDelete: conversations.remove,
      },
    },
  });

  /** Gives back the text that was not sent. Where its conversation is gone, the text is a new one's draft instead. */
  async function takeBack(): Promise<string> {
    if (!open.isGone) return conversations.takeBack(open);
    const unsent = textOf(chat.messages.findLast(({ role }) => role === "user"));
    const texts = [drafts.of("new"), unsent, drafts.of(open.draftName)];
    drafts.keep("new", texts.filter(Boolean).join("\n"));
    drafts.keep(open.draftName, "");
    conversations.leave(open);
    return "";
  }

  return (
    <AssistantRuntimeProvider runtime={runtime}>
      <div className="page">
        <Drawer>
          {(close) => (
            <>
              <ThreadList problem={problem} onRetry={conversations.retry} onChoose={close} />
              <Account name={user.name} />
            </>
          )}
        </Drawer>
        <Thread
          open={open}
          drafts={drafts}
          problem={problem}
          onRetry={conversations.retry}
          takeBack={takeBack}
          readEarlier={() => conversations.readEarlier(open)}
        />
      </div>
    </AssistantRuntimeProvider>
  );
}
