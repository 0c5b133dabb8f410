// The conversations, the one that was used last first; each can be opened, renamed and deleted.
import {
  ThreadListItemMorePrimitive,
  ThreadListItemPrimitive,
  ThreadListPrimitive,
  useAui,
  useAuiState,
} from "@assistant-ui/react";
import { useState, type FormEvent, type KeyboardEvent } from "react";

import { Problem } from "./Problem";

type ThreadListProps = { problem: string; onRetry: () => void; onChoose: () => void };

export function ThreadList({ problem, onRetry, onChoose }: ThreadListProps) {
  return (
    <ThreadListPrimitive.Root className="threads" aria-label="Conversations">
      <ThreadListPrimitive.New className="primary" onClick={onChoose}>
        New conversation
      </ThreadListPrimitive.New>
      <Problem problem={problem} onRetry={onRetry} />
      <ThreadListPrimitive.Items>{() => <Item onChoose={onChoose} />}</ThreadListPrimitive.Items>
    </ThreadListPrimitive.Root>
  );
}

function Item({ onChoose }: { onChoose: () => void }) {
  const [isRenaming, setIsRenaming] = useState<boolean>();
  const aui = useAui();
  const title = useAuiState((state) => state.threadListItem.title);
  const isUnsent = useAuiState((state) => state.threadListItem.custom?.["isUnsent"]);

  function deleteItem() {
    if (confirm(`Delete “${title}” with all of its messages?`)) void aui.threadListItem.delete();
  }

  if (isRenaming) return <Rename onDone={() => setIsRenaming(false)} />;
  return (
    <ThreadListItemPrimitive.Root className="thread-item">
      <ThreadListItemPrimitive.Trigger className="thread-title" autoFocus={isRenaming === false} onClick={onChoose}>
        <ThreadListItemPrimitive.Title fallback="Untitled" />
      </ThreadListItemPrimitive.Trigger>
      {isUnsent === true && <span className="not-sent">not sent</span>}
      <ThreadListItemMorePrimitive.Root>
        <ThreadListItemMorePrimitive.Trigger className="icon" aria-label={`Options of ${title}`}>
          ⋯
        </ThreadListItemMorePrimitive.Trigger>
        <ThreadListItemMorePrimitive.Content className="menu" align="end">
          <ThreadListItemMorePrimitive.Item onSelect={() => setIsRenaming(true)}>Rename</ThreadListItemMorePrimitive.Item>
          <ThreadListItemMorePrimitive.Item onSelect={deleteItem}>Delete</ThreadListItemMorePrimitive.Item>
        </ThreadListItemMorePrimitive.Content>
      </ThreadListItemMorePrimitive.Root>
    </ThreadListItemPrimitive.Root>
  );
}

function Rename({ onDone }: { onDone: () => void }) {
  const aui = useAui();
  const title = useAuiState((state) => state.threadListItem.title);
  const [problem, setProblem] = useState("");

  async function rename(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    try {
      await aui.threadListItem.rename(String(new FormData(event.currentTarget).get("title")));
    } catch (error) {
      return setProblem(`Not renamed: ${(error as Error).message}`);
    }
    onDone();
  }

  function leave(event: KeyboardEvent) {
    if (event.key !== "Escape") return;
    event.preventDefault(); // The drawer stays open.
    onDone();
  }

  return (
    <form className="thread-item" onSubmit={rename}>
      <input
        name="title"
        aria-label="Title"
        defaultValue={title}
        maxLength={200}
        required
        pattern=".*\S.*"
        title="The title must not be blank"
        autoFocus
        onKeyDown={leave}
      />
      <button className="link">Save</button>
      {problem && <p role="alert">{problem}</p>}
    </form>
  );
}
