import { Button, Dialog } from "@graphiql/react";
import { type FormEvent, useState } from "react";
import type { Account } from "./config";
import { ask } from "./fetcher";

const SIGN_IN = `mutation SignIn($email: String!, $password: String!) {
  signIn(input: { email: $email, password: $password }) {
    user { name email role }
    secret
    errors { message }
  }
}`;

interface Props {
  open: boolean;
  onOpenChange(open: boolean): void;
  onSignedIn(account: Account): void;
}

/** A form for an address and a password. What is typed is sent to the server and kept nowhere. */
export function SignIn({ open, onOpenChange, onSignedIn }: Props) {
  const [problem, setProblem] = useState("");
  const [isBusy, setBusy] = useState(false);

  const submit = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.currentTarget));
    setBusy(true);
    try {
      const account = await signedIn(given);
      setProblem("");
      onOpenChange(false);
      onSignedIn(account);
    } catch (error) {
      setProblem((error as Error).message);
    }
    setBusy(false);
  };

  return (
    <Dialog open={open} onOpenChange={onOpenChange}>
      <div className="graphiql-dialog-header">
        <Dialog.Title className="graphiql-dialog-title">Sign in</Dialog.Title>
        <Dialog.Close />
      </div>
      <form className="sign-in-form" onSubmit={(event) => void submit(event)}>
        <label>
          Address
          <input name="email" type="email" autoComplete="username" required autoFocus />
        </label>
        <label>
          Password
          <input name="password" type="password" autoComplete="current-password" required />
        </label>
        {problem && (
          <p className="sign-in-problem" role="alert">
            {problem}
          </p>
        )}
        <Button type="submit" disabled={isBusy}>
          Sign in
        </Button>
      </form>
    </Dialog>
  );
}

/** The account that an address and a password open. Raises what the server says against them. */
async function signedIn(given: Record<string, unknown>): Promise<Account> {
  const { data, errors } = await ask(SIGN_IN, given);
  const payload = data?.signIn as
    | { user: Omit<Account, "token"> | null; secret: string | null; errors: { message: string }[] }
    | undefined;
  const problem = errors?.[0] ?? payload?.errors[0];
  if (problem || !payload?.user || !payload.secret) {
    throw new Error(problem?.message ?? "The server did not say who this is.");
  }
  return { ...payload.user, token: payload.secret };
}
