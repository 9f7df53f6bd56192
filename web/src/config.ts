/** What the server tells the page, in a data block of the HTML. */
export interface Account {
  name: string;
  email: string;
  role: string;
  token: string;
}

interface Configuration {
  accounts?: Account[];
  explain?: boolean;
}

const block = document.getElementById("configuration")?.textContent;
const configuration: Configuration = JSON.parse(block || "{}");

/** Whether this is a demo, whose accounts anybody may act as. Elsewhere visitors sign in. */
export const isDemo = configuration.accounts !== undefined;

/** Whether the server says what an operation took: in development only. */
export const explains = configuration.explain === true;

const known: Account[] = [...(configuration.accounts ?? [])];

/** Accounts to act as: those of the demo, or those that signed in on this page. Their tokens are never stored. */
export const accounts: readonly Account[] = known;

/** Offer an account that signed in from now on, until the page is left. */
export function remember(account: Account) {
  const place = known.findIndex(({ email }) => email === account.email);
  known.splice(place < 0 ? known.length : place, place < 0 ? 0 : 1, account);
}

/** The value of the Authorization header by which somebody acts as this account. */
export const bearer = (account: Account | undefined) => account && `Bearer ${account.token}`;

/** The account whose Authorization this is. */
export const owner = (authorization: unknown) => accounts.find((account) => bearer(account) === authorization);
