// The messages on their way, kept for the case that the page is reloaded before the service has stored them.
const DAY = 24 * 60 * 60 * 1000; // The service knows a key for so long.

export type Sent = { id: string; text: string; conversationId: number | null };
type Kept = Sent & { at: number };

export type Outbox = ReturnType<typeof createOutbox>;

/** Each user has one, as a tab can see several users come and go. */
export function createOutbox(userId: string) {
  const name = `sent by ${userId}`;

  function write(kept: Kept[]): void {
    sessionStorage.setItem(name, JSON.stringify(kept));
  }

  /** The one that was sent last is the last. */
  function read(): Kept[] {
    const kept = JSON.parse(sessionStorage.getItem(name) ?? "[]") as Kept[];
    return kept.filter(({ at }) => Date.now() - at < DAY);
  }

  function others(id: string): Kept[] {
    return read().filter((kept) => kept.id !== id);
  }

  return {
    read: (): Sent[] => read(),
    put: (sent: Sent): void => write([...others(sent.id), { ...sent, at: Date.now() }]),
    /** Forgets this message, and no other. */
    remove: (id: string): void => write(others(id)),
  };
}
