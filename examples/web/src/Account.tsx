// Who is signed in, and the ways out.
import { useState } from "react";

import { deleteUser, signOut } from "./auth";

export function Account({ name }: { name: string }) {
  const [problem, setProblem] = useState("");

  async function deleteAccount() {
    if (!confirm("Delete your account and all of your conversations?")) return;
    const { error } = await deleteUser();
    setProblem(error ? (error.message ?? "The server cannot be reached.") : "");
  }

  return (
    <footer className="account">
      {problem && <p role="alert">{problem}</p>}
      <span>{name}</span>
      <button className="link" onClick={() => signOut()}>
        Sign out
      </button>
      <button className="link" onClick={deleteAccount}>
        Delete account
      </button>
    </footer>
  );
}
