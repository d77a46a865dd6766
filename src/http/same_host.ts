// Whether a request comes from a page of another site: what a browser sends on somebody's behalf, who need not know of
// it. Main thread only.

/** True without an Origin too: what is no browser does not send one, and is no foreign page. */
export function isSameHost(origin: string, host: string): boolean {
  if (origin === '') return true;
  try {
    const { protocol, host: own } = new URL(origin);
    // Parsed alike: the scheme's own port may stand in one of them and not in the other.
    return own !== '' && own === new URL(`${protocol}//${host}`).host;
  } catch {
    return false;
  }
}
