// The open conversation: its messages, what went wrong with the last one, and the composer.
// A stored turn is never changed and never asked for again, so no message offers to be edited or regenerated.
// The service finishes and stores a turn whoever listens, so there is no button that stops it either.
import { ComposerPrimitive, MessagePrimitive, ThreadPrimitive, useAui, useAuiState } from "@assistant-ui/react";
import { useAISDKChat } from "@assistant-ui/react-ai-sdk";
import { MarkdownTextPrimitive } from "@assistant-ui/react-markdown";
import { useEffect, useRef, type ComponentProps, type ReactNode } from "react";
import remarkGfm from "remark-gfm";

import type { Conversation } from "./conversation";
import type { Drafts } from "./drafts";
import { Earlier } from "./Earlier";
import { Problem } from "./Problem";
import { ToolCall } from "./ToolCall";

type ThreadProps = {
  open: Conversation;
  drafts: Drafts;
  problem: string;
  onRetry: () => void;
  takeBack: () => Promise<string>;
  readEarlier: () => Promise<void>;
};

export function Thread({ open, drafts, problem, onRetry, takeBack, readEarlier }: ThreadProps) {
  const isRunning = useAuiState(({ thread }) => thread.isRunning);
  const isShown = useAuiState(({ threads }) => threads.mainThreadId === open.key); // One render after it was opened.
  return (
    <ThreadPrimitive.Root className="thread">
      <ThreadPrimitive.Viewport className="viewport">
        <Problem problem={problem} onRetry={onRetry} />
        <ThreadPrimitive.Empty>{!problem && <h1 className="welcome">What is on your mind?</h1>}</ThreadPrimitive.Empty>
        {isShown && <Earlier key={open.key} isThere={Boolean(open.history?.earlier)} read={readEarlier} />}
        <div className="messages" role="log" aria-label="Messages" aria-busy={isRunning}>
          <ThreadPrimitive.Messages>
            {({ message }) => (message.role === "user" ? <UserMessage /> : <AssistantMessage />)}
          </ThreadPrimitive.Messages>
        </div>
        <Unsent isGone={open.isGone} takeBack={takeBack} />
      </ThreadPrimitive.Viewport>
      {isShown && <Draft key={open.key} name={open.draftName} drafts={drafts} />}
      <ComposerPrimitive.Root className="composer">
        <ComposerPrimitive.Input aria-label="Message" placeholder="Write a message" addAttachmentOnPaste={false} autoFocus />
        <ComposerPrimitive.Send className="primary" aria-label="Send">
          ↑
        </ComposerPrimitive.Send>
      </ComposerPrimitive.Root>
    </ThreadPrimitive.Root>
  );
}

/**
 * Puts the draft into the composer, then keeps what is typed. The draft's name changes when the first message is sent,
 * and again when it is stored.
 */
function Draft({ name, drafts }: { name: string; drafts: Drafts }) {
  const aui = useAui();
  const text = useAuiState(({ composer }) => composer.text);
  const keptAs = useRef<string>(undefined);
  useEffect(() => {
    if (keptAs.current === undefined) aui.composer.setText(drafts.of(name));
    else drafts.keep(name, text);
    if (keptAs.current !== undefined && keptAs.current !== name) drafts.keep(keptAs.current, "");
    keptAs.current = name;
  }, [aui, drafts, name, text]);
  return null;
}

function UserMessage() {
  return (
    <MessagePrimitive.Root className="user" role="article" aria-label="You">
      <MessagePrimitive.Parts />
    </MessagePrimitive.Root>
  );
}

function AssistantMessage() {
  const isWaiting = useAuiState(({ message }) => message.parts.length === 0 && message.status?.type === "running");
  return (
    <MessagePrimitive.Root className="assistant" role="article" aria-label="Assistant">
      {isWaiting && <span className="waiting" role="status" aria-label="The reply is on its way" />}
      <MessagePrimitive.Parts>
        {({ part }) => {
          if (part.type === "text") return <MarkdownTextPrimitive remarkPlugins={PLUGINS} components={MARKDOWN} />;
          return part.type === "tool-call" ? <ToolCall {...part} /> : null;
        }}
      </MessagePrimitive.Parts>
    </MessagePrimitive.Root>
  );
}

/** Tables, lists of tasks and bare addresses. One tilde strikes nothing out, because it often means "about". */
const PLUGINS: ComponentProps<typeof MarkdownTextPrimitive>["remarkPlugins"] = [[remarkGfm, { singleTilde: false }]];

/** A picture becomes a link, because the address from which a page fetches one can carry away what was said. */
const MARKDOWN = {
  a: ({ href, children }: ComponentProps<"a">) => <Link href={href}>{children}</Link>,
  img: ({ src, alt }: ComponentProps<"img">) => <Link href={String(src)}>{alt || String(src)}</Link>,
};

/** A link opens a tab of its own, so the page stays. react-markdown takes the address from one that runs a script. */
function Link({ href, children }: { href: string | undefined; children?: ReactNode }) {
  if (!href) return children;
  return (
    <a href={href} target="_blank" rel="noopener noreferrer">
      {children}
    </a>
  );
}

/** Why the last message could not be sent. Its id is its Idempotency-Key: sent again, it is never stored twice. */
function Unsent({ isGone, takeBack }: { isGone: boolean; takeBack: () => Promise<string> }) {
  const chat = useAISDKChat();
  const aui = useAui();
  if (chat?.status !== "error") return null;
  // A browser has its own words for a connection that broke, and says them in a TypeError.
  const reason = chat.error instanceof TypeError ? "The connection broke off." : chat.error?.message;

  async function takeIntoComposer() {
    const text = await takeBack();
    if (isGone) return;
    const typed = aui.composer.getState().text;
    aui.composer.setText(text && typed ? `${text}\n${typed}` : text || typed);
  }

  return (
    <div className="unsent" role="alert">
      <p>
        Not sent: {reason}
        {isGone && " It was deleted: “Take back” puts the text into a new one."}
      </p>
      {!isGone && (
        <button className="primary" onClick={() => chat.regenerate()}>
          Try again
        </button>
      )}
      <button className={isGone ? "primary" : "link"} onClick={takeIntoComposer}>
        Take back
      </button>
    </div>
  );
}
