import "./style.css";

import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";

import { useSession } from "./auth";
import { ChatPage } from "./ChatPage";
import { SignIn } from "./SignIn";

function App() {
  const { data, isPending } = useSession();
  const [isKnown, setIsKnown] = useState(false);
  if (!isPending && !isKnown) setIsKnown(true);
  // better-auth asks again whenever the tab is shown; what was typed into the form outlives that.
  if (!isKnown) return null;
  if (!data) return <SignIn />;
  return <ChatPage key={data.session.token} token={data.session.token} user={data.user} />;
}

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
