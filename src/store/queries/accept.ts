// Which of the media types that a route can give suits an Accept header best. Runs on reader threads.

/**
 * The offer that the header asks for: highest q first, then the more specific range, then the order of the offers.
 * The first offer where the header is empty or accepts none of them.
 */
export function chooseType<T extends string>(accept: string, offers: readonly [T, ...T[]]): T {
  let best: T = offers[0];
  let bestRank = 0;
  for (const offer of offers) {
    const rank = rankOf(accept, offer);
    if (rank > bestRank) {
      best = offer;
      bestRank = rank;
    }
  }
  return best;
}

/** Above 0 if accepted; q counts before how specific the range is. */
function rankOf(accept: string, offer: string): number {
  let specificity = 0;
  let q = 0;
  for (const range of accept.split(',')) {
    const [rawType = '', ...attributes] = range.split(';');
    const type = rawType.trim().toLowerCase();
    const matched =
      type === offer ? 3 : type === `${offer.slice(0, offer.indexOf('/'))}/*` ? 2 : type === '*/*' ? 1 : 0;
    // The most specific range that matches is the one that counts, also when it says q=0.
    if (matched <= specificity) continue;
    specificity = matched;
    q = qualityOf(attributes);
  }
  return q === 0 ? 0 : q * 10 + specificity / 10;
}

/** From 0 to 1; 1 where it is not said or not readable. */
function qualityOf(attributes: readonly string[]): number {
  for (const attribute of attributes) {
    const [name = '', value = ''] = attribute.split('=');
    if (name.trim().toLowerCase() !== 'q') continue;
    const q = Number.parseFloat(value);
    return q >= 0 && q <= 1 ? q : 1;
  }
  return 1;
}
