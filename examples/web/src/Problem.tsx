// Why something could not be read, and the way to read it again.
export function Problem({ problem, onRetry }: { problem: string; onRetry: () => void }) {
  if (!problem) return null;
  return (
    <p role="alert">
      {problem}{" "}
      <button className="link" onClick={onRetry}>
        Try again
      </button>
    </p>
  );
}
