/** What the server tells the page, in a data block of the HTML. */
export interface Account {
  name: string;
  email: string;
  token: string;
}

interface Configuration {
  accounts?: Account[];
}

const block = document.getElementById("configuration")?.textContent;
const configuration: Configuration = JSON.parse(block || "{}");

/** Demo accounts to act as; empty unless the server runs in demo mode. */
export const accounts: readonly Account[] = configuration.accounts ?? [];

/** The value of the Authorization header by which somebody acts as this account. */
export const bearer = (account: Account | undefined) => account && `Bearer ${account.token}`;

/** The demo account whose Authorization this is. */
export const owner = (authorization: unknown) => accounts.find((account) => bearer(account) === authorization);
