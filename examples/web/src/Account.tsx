// Who is signed in, and the ways out.
import { useState } from "react";

import { deleteUser, reasonOf, signOut } from "./auth";

export function Account({ name }: { name: string }) {
  const [problem, setProblem] = useState("");

  async function leave() {
    const { error } = await signOut();
    end(reasonOf(error));
  }

  async function deleteAccount() {
    if (!confirm("Delete your account and all of your conversations?")) return;
    const { error } = await deleteUser();
    const isOld = error?.code === "SESSION_EXPIRED";
    end(isOld ? "You signed in long ago. Sign out, sign in, and delete your account then." : reasonOf(error));
  }

  function end(reason: string) {
    setProblem(reason);
    // Whoever signs in next does not begin with this person's conversation.
    if (!reason) history.replaceState(null, "", location.pathname);
  }

  return (
    <footer className="account">
      {problem && <p role="alert">{problem}</p>}
      <span>{name}</span>
      <button className="link" onClick={leave}>
        Sign out
      </button>
      <button className="link" onClick={deleteAccount}>
        Delete account
      </button>
    </footer>
  );
}
