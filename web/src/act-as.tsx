import { ChevronDownIcon, DropdownMenu, useGraphiQL } from "@graphiql/react";
import { useEffect, useRef, useState } from "react";
import { type Account, accounts, bearer, isDemo, owner, remember } from "./config";
import { authorizationIn, parseHeaders, writeHeaders } from "./headers";
import { SignIn } from "./sign-in";
import { storage } from "./storage";

const NOBODY = "";
const CHOICE = "act-as";

/** The account that was chosen last, by its address: the token is never stored and may have changed since. */
function remembered(): Account | undefined {
  const choice = storage.getItem(CHOICE);
  if (choice === NOBODY) {
    return undefined;
  }
  return accounts.find((account) => account.email === choice) ?? accounts[0];
}

/** The text that the headers editor starts with. */
export const initialHeaders = writeHeaders({}, bearer(remembered()));

/**
 * Keeps one identity for all tabs, in the headers editor where everybody can see and change it, and shows who it is:
 * a menu of the accounts of a demo, or of those that signed in, and elsewhere the way to sign in.
 */
export function ActAs() {
  const editor = useGraphiQL((state) => state.headerEditor);
  const current = useRef<string | undefined>(bearer(remembered()));
  const [label, setLabel] = useState("Nobody");
  const [signsIn, setSignsIn] = useState(false);

  useEffect(() => {
    if (!editor) {
      return;
    }
    const read = (replaced: boolean) => {
      const text = editor.getValue();
      const headers = parseHeaders(text);
      if (!headers) {
        return; // in the middle of typing
      }
      let authorization = authorizationIn(headers);
      // A tab or an entry of the history was opened. Neither remembers who asked (see storage.ts), or it
      // remembers an account that has been left since: the identity stays what it was.
      if (replaced && (!text.trim() || owner(authorization)) && authorization !== current.current) {
        authorization = current.current;
        editor.setValue(writeHeaders(headers, authorization));
      }
      current.current = authorization;
      setLabel(owner(authorization)?.name ?? (authorization ? "Own token" : "Nobody"));
    };
    read(true);
    const listener = editor.onDidChangeModelContent((change) => queueMicrotask(() => read(change.isFlush)));
    return () => listener.dispose();
  }, [editor]);

  const choose = (account: Account | undefined) => {
    storage.setItem(CHOICE, account?.email ?? NOBODY);
    current.current = bearer(account);
    editor?.setValue(writeHeaders(parseHeaders(editor.getValue()) ?? {}, current.current));
  };

  const dialog = isDemo ? null : (
    <SignIn
      open={signsIn}
      onOpenChange={setSignsIn}
      onSignedIn={(account) => {
        remember(account);
        choose(account);
      }}
    />
  );
  if (!accounts.length) {
    return (
      <>
        <button type="button" className="act-as graphiql-un-styled" onClick={() => setSignsIn(true)}>
          <span className="act-as-name">Sign in</span>
        </button>
        {dialog}
      </>
    );
  }
  return (
    <>
      <DropdownMenu>
        <DropdownMenu.Button className="act-as" aria-label={`Act as: ${label}`}>
          <span className="act-as-hint">Act as</span>
          <span className="act-as-name">{label}</span>
          <ChevronDownIcon aria-hidden="true" />
        </DropdownMenu.Button>
        <DropdownMenu.Content align="end" className="act-as-menu">
          {accounts.map((account) => (
            <DropdownMenu.Item key={account.email} onSelect={() => choose(account)} data-account={account.email}>
              <span className="act-as-who">
                <span>{account.name}</span>
                <span className="act-as-email">{account.email}</span>
              </span>
              <span className="act-as-role">{account.role}</span>
            </DropdownMenu.Item>
          ))}
          <DropdownMenu.Item onSelect={() => choose(undefined)} data-account="">
            <span className="act-as-who">
              <span>Nobody</span>
              <span className="act-as-email">not signed in</span>
            </span>
          </DropdownMenu.Item>
          {!isDemo && (
            <DropdownMenu.Item onSelect={() => setSignsIn(true)} data-action="sign-in">
              Sign in as somebody else…
            </DropdownMenu.Item>
          )}
        </DropdownMenu.Content>
      </DropdownMenu>
      {dialog}
    </>
  );
}
