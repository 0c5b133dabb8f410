// better-auth in the browser. The service takes its session's token: `useSession().data.session.token`.
import { createAuthClient } from "better-auth/react";

export const { deleteUser, signIn, signOut, signUp, useSession } = createAuthClient({
  fetchOptions: { customFetchImpl: (...request) => fetch(...request).catch(unreachable) },
});

/** better-auth would throw, and the page would have to catch what each browser says in its own words. */
function unreachable(): Response {
  return Response.json({ message: "The server cannot be reached. Try again." }, { status: 503 });
}

/** Why better-auth did not do it, to be shown; empty if it did. */
export function reasonOf(error: { message?: string | undefined; statusText: string } | null): string {
  return error ? (error.message ?? error.statusText) : "";
}
