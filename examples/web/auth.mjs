// better-auth on the service's database: its options are all that the service asks of it.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

import { APIError, betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { Pool } from "pg";

const { AI_AGENT_URL = "http://127.0.0.1:8000" } = process.env;
const { DATABASE_URL, BETTER_AUTH_SECRET } = process.env.DATABASE_URL ? process.env : trial();
if (!BETTER_AUTH_SECRET) throw new Error("BETTER_AUTH_SECRET must be set, as DATABASE_URL is.");

const database = new Pool({ connectionString: DATABASE_URL });
// Unheard, this would end the page when the database is restarted; the next request connects again.
database.on("error", ({ message }) => console.error(`A connection to the database ended: ${message}`));

export const auth = betterAuth({
  // Where the page is.
  baseURL: process.env.BETTER_AUTH_URL ?? { allowedHosts: ["localhost:*", "127.0.0.1:*"], protocol: "http" },
  database,
  secret: BETTER_AUTH_SECRET,
  emailAndPassword: { enabled: true },
  session: { modelName: "user_sessions" }, // The table in which the service looks tokens up.
  user: { deleteUser: { enabled: true, beforeDelete: deleteConversations } },
  telemetry: { enabled: false },
});

/** Make those of better-auth's tables and columns that are missing. */
export async function migrate() {
  const { runMigrations } = await getMigrations(auth.options);
  await runMigrations();
}

/**
 * A person's conversations go with the account, and first: when this fails, the account stays and can be deleted again.
 * @param {unknown} _user
 * @param {Request | undefined} request
 */
async function deleteConversations(_user, request) {
  const signedIn = await auth.api.getSession({ headers: request?.headers ?? new Headers() });
  const deleted = await fetch(`${AI_AGENT_URL}/api/conversations?all=true`, {
    method: "DELETE",
    headers: { Authorization: `Bearer ${signedIn?.session.token}` },
  }).catch(() => null);
  if (deleted?.ok) return;
  const message = "The conversations could not be deleted, so the account stays. Try again later.";
  throw new APIError("SERVICE_UNAVAILABLE", { message });
}

/** `uv run ai-agent` keeps its database's URL in this file. The password in it is random, so it makes a good secret. */
function trial() {
  const url = readFileSync(new URL("../../.trial/database-url", import.meta.url), "utf8").trim();
  const secret = createHash("sha256").update(new URL(url).password).digest("hex");
  return { DATABASE_URL: url, BETTER_AUTH_SECRET: secret };
}
