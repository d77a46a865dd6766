// Which names other systems take: checked here, at start, because their own refusals come late and name no option.

/** What a topic's name must be and `text` is not, in words after "but must"; null if it is one. */
export function topicFault(text: string): string | null {
  // Kafka's own rule (org.apache.kafka.common.internals.Topic).
  if (/^[A-Za-z0-9._-]{1,249}$/.test(text) && text !== '.' && text !== '..') return null;
  return 'be 1 to 249 letters, digits, dots, underscores and hyphens, and not . or ..';
}

/**
 * What a database's name must be and `text` is not, in words after "but must"; null if it is one. ClickHouse takes
 * more, but the name also becomes part of the replicas' path in Keeper, where slashes and braces have a meaning.
 */
export function databaseFault(text: string): string | null {
  return /^[A-Za-z0-9_-]{1,64}$/.test(text) ? null : 'be 1 to 64 letters, digits, underscores and hyphens';
}
