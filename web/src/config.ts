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
