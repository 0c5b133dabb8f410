// The service's stream, whole or an error: the AI SDK would take a stream that was cut short for a complete reply.
import { orExplain } from "./api";

export async function fetchStream(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
  const response = await orExplain(input, init);
  return new Response(response.body?.pipeThrough(untilDone()), response);
}

/** Passes everything on, and fails at the end if the last line is not the one that ends each stream. */
function untilDone(): TransformStream<Uint8Array, Uint8Array> {
  const decoder = new TextDecoder();
  let end = "";
  return new TransformStream({
    transform(chunk, controller) {
      end = (end + decoder.decode(chunk, { stream: true })).slice(-32);
      controller.enqueue(chunk);
    },
    flush(controller) {
      if (!end.includes("data: [DONE]")) controller.error(new Error("The reply broke off."));
    },
  });
}
