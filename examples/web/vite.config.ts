import react from "@vitejs/plugin-react";
import { defineConfig, type ProxyOptions } from "vite";

const { AI_AGENT_URL = "http://127.0.0.1:8000" } = process.env;

/** What the page shows while nothing answers there, in the service's own form of an error. */
const AWAY = JSON.stringify({ detail: `The chat service does not answer at ${AI_AGENT_URL}. Is it running?` });

const service: ProxyOptions = {
  target: AI_AGENT_URL,
  configure(proxy) {
    proxy.on("error", (_error, _request, response) => {
      if ("writeHead" in response && !response.headersSent) {
        response.writeHead(503, { "Content-Type": "application/json" }).end(AWAY);
      }
    });
    // Vite would leave the page waiting for the rest of a response that broke off.
    proxy.on("proxyRes", (serviceResponse, _request, response) => {
      serviceResponse.once("close", () => serviceResponse.complete || response.destroy());
    });
  },
};

// The page and the service share an origin here, as behind a proxy in production, so no CORS is needed.
// Each path is named because better-auth answers at /api/auth.
export default defineConfig({
  plugins: [react()],
  server: { proxy: { "/api/chat": service, "/api/conversations": service } },
});
