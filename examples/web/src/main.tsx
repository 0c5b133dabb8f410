import "./style.css";

import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";

import { reasonOf, useSession } from "./auth";
import { ChatPage } from "./ChatPage";
import { Problem } from "./Problem";
import { SignIn } from "./SignIn";

function App() {
  const { data, error, isPending, refetch } = useSession();
  const [isKnown, setIsKnown] = useState(false);
  if (!isPending && !error && !isKnown) setIsKnown(true);
  // better-auth asks again whenever the tab is shown; what was typed into the form outlives that.
  if (!isKnown) return error && <NoSession reason={reasonOf(error)} onRetry={() => void refetch()} />;
  if (!data) return <SignIn />;
  return <ChatPage key={data.session.token} token={data.session.token} user={data.user} />;
}

/** Whoever is signed in is not to take a server that is away for a sign-out. */
function NoSession({ reason, onRetry }: { reason: string; onRetry: () => void }) {
  return (
    <main className="sign-in">
      <Problem problem={`Whether you are signed in is not known: ${reason}`} onRetry={onRetry} />
    </main>
  );
}

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
