// A better-auth server for the contract tests: email and password, bearer tokens, PostgreSQL, nothing else.
//
//   DATABASE_URL         postgresql://...
//   BETTER_AUTH_SECRET   the key of the token signatures
//   PORT                 0 or unset: any free one
//   ID_TYPE              unset: better-auth's own text ids; "uuid"; "serial"
//   SESSION_SECONDS      how long a session lives; unset: better-auth's own 7 days
//   HOOKS                a module whose `user` is better-auth's option of that name; unset: none
//
// When it is ready it prints one line, `listening on http://127.0.0.1:PORT`; SIGTERM stops it.
import { once } from "node:events";
import { createServer } from "node:http";

import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";
import { bearer } from "better-auth/plugins/bearer";
import { Pool } from "pg";

const { DATABASE_URL, BETTER_AUTH_SECRET, PORT, ID_TYPE, SESSION_SECONDS, HOOKS } = process.env;
if (!DATABASE_URL || !BETTER_AUTH_SECRET) {
  console.error("DATABASE_URL and BETTER_AUTH_SECRET must be set");
  process.exit(2);
}

// better-auth has to know its own address, and a free port is only known once the socket is open.
const server = createServer();
server.listen(Number(PORT ?? 0), "127.0.0.1");
await once(server, "listening");
const baseURL = `http://127.0.0.1:${server.address().port}`;

const options = {
  baseURL,
  secret: BETTER_AUTH_SECRET,
  database: new Pool({ connectionString: DATABASE_URL }),
  advanced: { database: { generateId: ID_TYPE || undefined } },
  session: { modelName: "user_sessions", expiresIn: SESSION_SECONDS ? Number(SESSION_SECONDS) : undefined },
  emailAndPassword: { enabled: true },
  user: HOOKS ? (await import(HOOKS)).user : undefined,
  plugins: [bearer()],
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
};

const { runMigrations } = await getMigrations(options);
await runMigrations();

server.on("request", toNodeHandler(betterAuth(options)));
// Clients keep connections open; waiting for them would make every test run end with a pause.
process.once("SIGTERM", () => process.exit(0));
console.log(`listening on ${baseURL}`);
