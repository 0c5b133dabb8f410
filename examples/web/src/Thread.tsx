// The open conversation: its messages, what went wrong with the last one, and the composer.
// A stored turn is never changed and never asked for again, so no message offers to be edited or regenerated.
// The service finishes and stores a turn whoever listens, so there is no button that stops it either.
import { ComposerPrimitive, MessagePrimitive, ThreadPrimitive, useAui, useAuiState } from "@assistant-ui/react";
import { useAISDKChat } from "@assistant-ui/react-ai-sdk";
import { MarkdownTextPrimitive } from "@assistant-ui/react-markdown";

import { Problem } from "./Problem";
import { ToolCall } from "./ToolCall";

type ThreadProps = { problem: string; onRetry: () => void; takeBack: () => Promise<string> };

export function Thread({ problem, onRetry, takeBack }: ThreadProps) {
  const isRunning = useAuiState(({ thread }) => thread.isRunning);
  return (
    <ThreadPrimitive.Root className="thread">
      <ThreadPrimitive.Viewport className="viewport">
        <Problem problem={problem} onRetry={onRetry} />
        <ThreadPrimitive.Empty>{!problem && <h1 className="welcome">What is on your mind?</h1>}</ThreadPrimitive.Empty>
        <div className="messages" role="log" aria-label="Messages" aria-busy={isRunning}>
          <ThreadPrimitive.Messages>
            {({ message }) => (message.role === "user" ? <UserMessage /> : <AssistantMessage />)}
          </ThreadPrimitive.Messages>
        </div>
        <Unsent takeBack={takeBack} />
      </ThreadPrimitive.Viewport>
      <ComposerPrimitive.Root className="composer">
        <ComposerPrimitive.Input aria-label="Message" placeholder="Write a message" addAttachmentOnPaste={false} autoFocus />
        <ComposerPrimitive.Send className="primary" aria-label="Send">
          ↑
        </ComposerPrimitive.Send>
      </ComposerPrimitive.Root>
    </ThreadPrimitive.Root>
  );
}

function UserMessage() {
  return (
    <MessagePrimitive.Root className="user">
      <MessagePrimitive.Parts />
    </MessagePrimitive.Root>
  );
}

function AssistantMessage() {
  const isWaiting = useAuiState(({ message }) => message.parts.length === 0 && message.status?.type === "running");
  return (
    <MessagePrimitive.Root className="assistant">
      {isWaiting && <span className="waiting" role="status" aria-label="The reply is on its way" />}
      <MessagePrimitive.Parts>
        {({ part }) => {
          if (part.type === "text") return <MarkdownTextPrimitive />;
          return part.type === "tool-call" ? <ToolCall {...part} /> : null;
        }}
      </MessagePrimitive.Parts>
    </MessagePrimitive.Root>
  );
}

/** Why the last message could not be sent. Its id is its Idempotency-Key: sent again, it is never stored twice. */
function Unsent({ takeBack }: { takeBack: () => Promise<string> }) {
  const chat = useAISDKChat();
  const aui = useAui();
  if (chat?.status !== "error") return null;
  // A browser has its own words for a connection that broke, and says them in a TypeError.
  const reason = chat.error instanceof TypeError ? "The connection broke off." : chat.error?.message;
  return (
    <div className="unsent" role="alert">
      <p>Not sent: {reason}</p>
      <button className="primary" onClick={() => chat.regenerate()}>
        Try again
      </button>
      <button className="link" onClick={async () => aui.composer.setText(await takeBack())}>
        Take back
      </button>
    </div>
  );
}
