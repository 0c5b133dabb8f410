import "./style.css";

import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { useSession } from "./auth";
import { ChatPage } from "./ChatPage";
import { SignIn } from "./SignIn";

function App() {
  const { data, isPending } = useSession();
  if (isPending) return null;
  if (!data) return <SignIn />;
  return <ChatPage key={data.session.token} token={data.session.token} user={data.user} />;
}

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
