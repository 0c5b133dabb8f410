// What was typed and not sent, kept for each conversation: it outlives a change of conversation, a reload and a sign-in.
export type Drafts = ReturnType<typeof createDrafts>;

/** Each user has their own, because several users may sign in to the same tab, one after the other. */
export function createDrafts(userId: string) {
  const name = `typed by ${userId}`;
  const texts = new Map<string, string>(JSON.parse(sessionStorage.getItem(name) ?? "[]") as [string, string][]);

  return {
    of: (conversation: string): string => texts.get(conversation) ?? "",

    /** Keeps the text in place of the one before. An empty text leaves none. */
    keep(conversation: string, text: string): void {
      if (text) texts.set(conversation, text);
      else texts.delete(conversation);
      try {
        sessionStorage.setItem(name, JSON.stringify([...texts]));
      } catch {
        // The browser's storage is full. The text stays in the page, but a reload finds the one before.
      }
    },
  };
}
