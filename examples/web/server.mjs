// One Node server: better-auth at /api/auth, the page from Vite, and the service through Vite's proxy.
//
//   DATABASE_URL         the service's database; unset: the trial's
//   BETTER_AUTH_SECRET   the key of the cookies' signatures; with DATABASE_URL it has to be set
//   AI_AGENT_URL         the service; unset: http://127.0.0.1:8000
//   PORT                 5173 if unset; 0: any free one
//   BETTER_AUTH_URL      the page's address; unset: localhost, on any port
//   BROWSER              `none` opens no page
import { once } from "node:events";
import { createServer } from "node:http";

import { toNodeHandler } from "better-auth/node";
import { createServer as createVite } from "vite";

const { auth, migrate } = await import("./auth.mjs").catch(needDatabase);
await migrate().catch(needDatabase);

const handleAuth = toNodeHandler(auth);
const server = createServer((request, response) => {
  if (request.url?.startsWith("/api/auth/")) handleAuth(request, response).catch((error) => refuse(response, error));
  else vite.middlewares(request, response);
});
const vite = await createVite({ root: import.meta.dirname, server: { middlewareMode: true, ws: { server } } });
server.listen(Number(process.env.PORT ?? 5173), "localhost");
await once(server, "listening").catch((error) => stop(error, "Let PORT name another port."));

const address = server.address();
const url = `http://localhost:${typeof address === "object" ? address?.port : ""}/`;
vite.resolvedUrls = { local: [url], network: [] }; // Vite opens the page, and does not know who listens for it.
vite.openBrowser();
console.log(`\n  Chat at ${url}\n\n  Ctrl-C stops the page; the service goes on.\n`);

/**
 * better-auth throws when a request names a host that it does not know, and unhandled that would end the server.
 * @param {import("node:http").ServerResponse} response
 * @param {Error} error
 */
function refuse(response, { message }) {
  if (response.headersSent) response.destroy();
  else response.writeHead(400, { "Content-Type": "application/json" }).end(JSON.stringify({ message }));
}

/**
 * @param {Error} error
 * @returns {never}
 */
function needDatabase(error) {
  return stop(error, "It needs the service's database: start `uv run ai-agent` first, or set DATABASE_URL.");
}

/**
 * @param {Error & { code?: string }} error
 * @param {string} remedy
 * @returns {never}
 */
function stop(error, remedy) {
  console.error(`The page cannot be served: ${error.message || error.code}\n${remedy}`);
  process.exit(1);
}
