// The button that reads the messages before the first one. They come in front, and what is read stays where it is.
import { useAuiState } from "@assistant-ui/react";
import { Component, createRef, useState, type ReactNode } from "react";

export function Earlier({ isThere, read }: { isThere: boolean; read: () => Promise<void> }) {
  const [isReading, setIsReading] = useState(false);
  const first = useAuiState(({ thread }) => thread.messages[0]?.id);

  async function readOnce() {
    if (isReading) return;
    setIsReading(true);
    await read();
    setIsReading(false);
  }

  return (
    <Place first={first}>
      {isThere && (
        <button className="link" aria-busy={isReading} onClick={readOnce}>
          {isReading ? "Reading …" : "Earlier messages"}
        </button>
      )}
    </Place>
  );
}

type PlaceProps = { first: string | undefined; children: ReactNode };

/** Keeps the distance to the end of the thread. Only a class sees the page between two renders. */
class Place extends Component<PlaceProps> {
  readonly #top = createRef<HTMLDivElement>();

  override getSnapshotBeforeUpdate({ first }: PlaceProps): number | null {
    const thread = this.#top.current!.parentElement!;
    return first === this.props.first ? null : thread.scrollHeight - thread.scrollTop;
  }

  override componentDidUpdate(_props: PlaceProps, _state: unknown, distance: number | null): void {
    const thread = this.#top.current!.parentElement!;
    if (distance !== null) thread.scrollTop = thread.scrollHeight - distance;
  }

  override render(): ReactNode {
    return (
      <div ref={this.#top} className="earlier">
        {this.props.children}
      </div>
    );
  }
}
