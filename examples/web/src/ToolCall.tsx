// A tool call of any agent: its name, and on a click what went in and what came out.
import type { ToolCallMessagePartProps } from "@assistant-ui/react";

type ToolCallProps = Pick<ToolCallMessagePartProps, "toolName" | "args" | "result" | "isError" | "status">;

export function ToolCall({ toolName, args, result, isError, status }: ToolCallProps) {
  const state = status.type === "running" ? "…" : isError ? "failed" : "done";
  return (
    <details className="tool-call">
      <summary>
        {toolName} <span>{state}</span>
      </summary>
      <pre aria-label="Input">{textOf(args)}</pre>
      {result !== undefined && <pre aria-label="Output">{textOf(result)}</pre>}
    </details>
  );
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}
