// From a heading of docs/operations.md to the anchor by which it is reached: GitHub's rule, so that a link works in the
// repository and on the page of a running service alike. Used by the build that makes that page, and by tests.

/** The anchor of a heading's plain text: `In-sync replicas` is `in-sync-replicas`. Headings of a document must differ. */
export function headingSlug(text: string): string {
  return text
    .trim()
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{M}\p{N}_\- ]/gu, '')
    .replaceAll(' ', '-');
}
