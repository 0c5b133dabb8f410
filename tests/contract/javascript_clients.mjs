// What the stock clients make of the service's streams, as JSON for `test_javascript_clients.py`.
//
// Node reads this from its standard input in the folder `examples/web`, so that it finds the packages there.
import { Chat } from "@ai-sdk/react";
import { DefaultChatTransport, parseJsonEventStream, readUIMessageStream, uiMessageChunkSchema } from "ai";
import { AssistantMessageAccumulator, UIMessageStreamDecoder } from "assistant-stream";

const { ECHO_URL, AGENT_URL, AUTHORIZATION } = process.env;
const headers = { Accept: "text/event-stream", Authorization: AUTHORIZATION };
const text = "What time is it?";
const seen = {};

/** A message's id is its key, and the conversation is the one that the last reply named. */
const createTransport = (url) =>
  new DefaultChatTransport({
    api: `${url}/api/chat`,
    prepareSendMessagesRequest: ({ messages }) => ({
      headers: { ...headers, "Idempotency-Key": messages.at(-1).id },
      body: {
        message: messages.at(-1).parts[0].text,
        conversation_id: messages.findLast(({ metadata }) => metadata)?.metadata.conversation_id ?? null,
      },
    }),
  });

function createChat() {
  const ends = [];
  const onFinish = ({ message, messages, ...end }) => ends.push(end);
  return Object.assign(new Chat({ transport: createTransport(AGENT_URL), onFinish }), { ends });
}

/** Keep what the chat shows after this step. */
function keep(step, { status, error, messages, ends }) {
  const shown = messages.map(({ id, ...message }) => message);
  seen[step] = { status, error: error?.message, messages: shown, end: ends.at(-1) };
}

const post = (url) =>
  fetch(`${url}/api/chat`, {
    method: "POST",
    headers: { ...headers, "Content-Type": "application/json" },
    body: JSON.stringify({ message: text }),
  });

async function collect(stream) {
  const all = [];
  for await (const one of stream) all.push(one);
  return all;
}

async function until(isSo) {
  for (let tries = 0; tries < 1000; tries++) {
    if (await isSo()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`It never became true: ${isSo}`);
}

async function countConversations() {
  const response = await fetch(`${AGENT_URL}/api/conversations`, { headers });
  return (await response.json()).length;
}

const chat = createChat();
await chat.sendMessage({ text });
keep("sent", chat);
await chat.regenerate();
keep("regenerated", chat);
await chat.sendMessage({ text: "Thanks" });
keep("sent again", chat);

const stopped = createChat();
const count = await countConversations();
const sending = stopped.sendMessage({ text });
await until(() => stopped.lastMessage?.parts.some((part) => part.text === "Half past "));
await stopped.stop();
await sending;
keep("stopped", stopped);
await until(async () => (await countConversations()) > count);
await stopped.regenerate();
keep("stopped, then regenerated", stopped);

for (const step of ["refused", "failed"]) {
  const chat = createChat();
  await chat.sendMessage({ text });
  keep(step, chat);
  await chat.regenerate();
  keep(`${step}, then regenerated`, chat);
}

for (const step of ["read by assistant-stream", "failed in assistant-stream"]) {
  const { body } = await post(AGENT_URL);
  const messages = body.pipeThrough(new UIMessageStreamDecoder()).pipeThrough(new AssistantMessageAccumulator());
  const { status, parts } = (await collect(messages)).at(-1);
  const shown = parts.map(({ type, text, toolName, args, result }) => ({ type, text, toolName, args, result }));
  seen[step] = { status, parts: shown };
}

const messages = [{ id: "1", role: "user", parts: [{ type: "text", text }] }];
const stream = await createTransport(ECHO_URL).sendMessages({ chatId: "1", messages, trigger: "submit-message" });
seen["read by readUIMessageStream"] = (await collect(readUIMessageStream({ stream, terminateOnError: true }))).at(-1);

const parsed = parseJsonEventStream({ stream: (await post(ECHO_URL)).body, schema: uiMessageChunkSchema });
seen["parsed by parseJsonEventStream"] = await collect(parsed);

console.log(JSON.stringify(seen));
