// better-auth in the browser. The service takes its session's token: `useSession().data.session.token`.
import { createAuthClient } from "better-auth/react";

export const { deleteUser, signIn, signOut, signUp, useSession } = createAuthClient();
