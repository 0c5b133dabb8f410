// Sign-up and sign-in with better-auth: one form, which says why it was refused.
import { useState, type FormEvent } from "react";

import { reasonOf, signIn, signUp } from "./auth";

export function SignIn() {
  const [isNew, setIsNew] = useState(true);
  const [isBusy, setIsBusy] = useState(false);
  const [problem, setProblem] = useState("");

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const [name, email, password] = ["name", "email", "password"].map((field) => String(form.get(field) ?? ""));
    const account = { email: email!, password: password! };
    setIsBusy(true);
    const { error } = isNew ? await signUp.email({ ...account, name: name! }) : await signIn.email(account);
    setIsBusy(false);
    setProblem(reasonOf(error));
  }

  function change() {
    setIsNew(!isNew);
    setProblem("");
  }

  return (
    <main className="sign-in">
      <form onSubmit={submit}>
        <h1>{isNew ? "Create an account" : "Welcome back"}</h1>
        {isNew && (
          <label>
            Name
            <input name="name" autoComplete="name" required />
          </label>
        )}
        <label>
          Email
          <input name="email" type="email" autoComplete="email" required />
        </label>
        <label>
          Password
          <input
            name="password"
            type="password"
            autoComplete={isNew ? "new-password" : "current-password"}
            minLength={8}
            required
          />
        </label>
        {problem && <p role="alert">{problem}</p>}
        <button className="primary" disabled={isBusy}>
          {isNew ? "Sign up" : "Sign in"}
        </button>
        <button type="button" className="link" onClick={change}>
          {isNew ? "I have an account" : "I am new here"}
        </button>
      </form>
    </main>
  );
}
