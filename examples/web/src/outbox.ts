// The message on its way, kept for the case that the page is reloaded before the service has stored it.
const DAY = 24 * 60 * 60 * 1000; // The service knows a key for so long.

export type Sent = { id: string; text: string; conversationId: number | null };

export type Outbox = ReturnType<typeof createOutbox>;

/** Each user has one, as a tab can see several users come and go. */
export function createOutbox(userId: string) {
  const name = `sent by ${userId}`;

  function read(): Sent | null {
    const { at = 0, ...sent } = JSON.parse(sessionStorage.getItem(name) ?? "{}") as Partial<Sent> & { at?: number };
    return Date.now() - at < DAY ? (sent as Sent) : null;
  }

  return {
    read,
    put(sent: Sent): void {
      sessionStorage.setItem(name, JSON.stringify({ ...sent, at: Date.now() }));
    },
    /** Forgets this message, and no other that was sent after it. */
    remove(id: string): void {
      if (read()?.id === id) sessionStorage.removeItem(name);
    },
  };
}
