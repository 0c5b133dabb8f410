// The service's list and history as a signed-in user reads and changes them, typed by its contract.
import createClient from "openapi-fetch";

import type { components, paths } from "./openapi";

export type ListedConversation = Pick<components["schemas"]["ConversationListResponse"], "id" | "title">;
export type StoredMessage = components["schemas"]["MessageResponse"];
export type Api = ReturnType<typeof createApi>;

/** The newest messages of a conversation, the oldest first, and the cursor of the page before them. */
export type History = { rows: StoredMessage[]; earlier: string | null };

/** In messages: what a person looks at, and what a browser shows at once. */
const PAGE = 100;

/** `baseUrl` is the service's origin: the page's own here, or another one that the service's CORS_ORIGINS names. */
export function createApi(token: string, baseUrl = location.origin) {
  const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` }, fetch: orExplain });

  async function page(id: number, cursor: string | null): Promise<History> {
    const { data, response } = await client.GET("/api/conversations/{conversation_id}", {
      params: { path: { conversation_id: id }, query: { limit: PAGE, ...(cursor !== null && { cursor }) } },
    });
    return { rows: data!.messages, earlier: nextCursor(response) };
  }

  return {
    /** All conversations, the one that was used last first. */
    async list(): Promise<ListedConversation[]> {
      const listed: ListedConversation[] = [];
      let cursor: string | null = null;
      do {
        const query: { cursor?: string } = cursor === null ? {} : { cursor };
        const { data, response } = await client.GET("/api/conversations", { params: { query } });
        listed.push(...data!);
        cursor = nextCursor(response);
      } while (cursor !== null);
      return listed;
    },

    /** The newest page of what was said; or what is known of it, and all that was said since. Ids ascend. */
    async history(id: number, known: History | null): Promise<History> {
      const newest = await page(id, null);
      if (known === null) return newest;
      const last = known.rows.at(-1)?.id ?? 0;
      let { rows, earlier } = newest;
      while (earlier !== null && rows[0]!.id > last) {
        const before = await page(id, earlier);
        rows = [...before.rows, ...rows];
        earlier = before.earlier;
      }
      return { rows: [...known.rows, ...rows.filter((row) => row.id > last)], earlier: known.earlier };
    },

    /** The page before what was read. */
    earlier: (id: number, cursor: string): Promise<History> => page(id, cursor),

    async rename(id: number, title: string): Promise<void> {
      await client.PATCH("/api/conversations/{conversation_id}", {
        params: { path: { conversation_id: id } },
        body: { title },
      });
    },

    async remove(id: number): Promise<void> {
      await client.DELETE("/api/conversations/{conversation_id}", { params: { path: { conversation_id: id } } });
    },
  };
}

function nextCursor(response: Response): string | null {
  const next = response.headers.get("Link")?.match(/<([^>]+)>; rel="next"/)?.[1];
  return next ? new URL(next).searchParams.get("cursor") : null;
}

/** Fetches, and makes an error of every answer but a success: a sentence that can be shown. */
export async function orExplain(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
  const response = await fetch(input, init).catch((error: Error) => {
    throw error.name === "AbortError" ? error : new Error("The service cannot be reached.");
  });
  if (response.ok) return response;
  if (response.status === 401) throw new Error("Your session has ended. Sign in again.");
  const body: unknown = await response.json().catch(() => null);
  const reason = detailOf(body) ?? `The service answered with status ${response.status}.`;
  throw new Error(reason, { cause: response.status });
}

function detailOf(body: unknown): string | undefined {
  const detail = (body as { detail?: string | { msg: string }[] } | null)?.detail;
  return typeof detail === "string" ? detail : detail?.map(({ msg }) => msg).join("; ");
}
