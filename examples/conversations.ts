// The API as a signed-in user's front end calls it, typed by the service's contract; the other examples use it.
import createClient, { type Client } from "openapi-fetch";

import type { components, paths } from "./openapi.js";

export type Turn = components["schemas"]["ChatResponse"];
export type Said = { id: string; role: "user" | "assistant"; text: string };

const PAGE = 100;
const RETRY_DELAYS = [500, 2_000, 4_000]; // In milliseconds; a 503 of the service asks for 2 seconds.

export class Conversations {
  readonly #client: Client<paths>;

  /** `token` gives better-auth's session token, which its bearer plugin hands out in the header `set-auth-token`. */
  constructor(baseUrl: string, token: () => string, retryDelays = RETRY_DELAYS) {
    const signedIn = (request: Request) => {
      request.headers.set("Authorization", `Bearer ${token()}`);
      return fetchWithRetries(request, retryDelays);
    };
    this.#client = createClient<paths>({ baseUrl, fetch: signedIn });
  }

  /** Sends a message, in a new conversation if the id is null. The same key again never stores it twice. */
  async send(message: string, conversationId: number | null, key: string, signal?: AbortSignal): Promise<Turn> {
    const { data, error } = await this.#client.POST("/api/chat", {
      params: { header: { "Idempotency-Key": key } },
      body: { message, conversation_id: conversationId },
      signal: signal ?? null,
    });
    return data ?? fail(error);
  }

  /** All that was said, the oldest first; an agent's tool calls, and what the tools answered, are left out. */
  async history(conversationId: number): Promise<Said[]> {
    const said: Said[] = [];
    let cursor: string | null = null;
    do {
      const { data, error, response } = await this.#client.GET("/api/conversations/{conversation_id}", {
        params: { path: { conversation_id: conversationId }, query: { limit: PAGE, cursor } },
      });
      const { messages } = data ?? fail(error);
      said.unshift(
        ...messages.flatMap(({ id, role, content }) =>
          role === "tool" || !content ? [] : [{ id: String(id), role, text: content }],
        ),
      );
      cursor = nextCursor(response.headers.get("Link"));
    } while (cursor !== null);
    return said;
  }
}

function nextCursor(link: string | null): string | null {
  const next = link?.match(/<([^>]+)>; rel="next"/)?.[1];
  return next ? new URL(next).searchParams.get("cursor") : null;
}

function fail(error: unknown): never {
  const detail = (error as { detail?: unknown } | undefined)?.detail;
  throw new Error(typeof detail === "string" ? detail : JSON.stringify(error));
}

/** Sends again, with the same key, while the service cannot be reached or answers 503. */
async function fetchWithRetries(request: Request, delays: number[]): Promise<Response> {
  for (const delay of delays) {
    try {
      const response = await fetch(request.clone());
      if (response.status !== 503) return response;
    } catch (error) {
      if (request.signal.aborted) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, delay));
  }
  return fetch(request);
}
