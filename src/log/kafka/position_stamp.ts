// The text beside a committed position, as it lies in Kafka (the offset's metadata): what the sink said, behind a stamp
// that names the log for which it was said. Kafka keeps a group's offsets by the topic's name, so a position may outlive
// its topic, or be committed a moment after it, and then lie beside another topic of that name; by the stamp it is told
// apart. Written by consumers, read by consumers and appenders; nobody else knows the format.
//
//    ess1:0123456789abcdef0123456789abcdef:TEXT
//    |  | |                                +-- the sink's text (sink/intent.ts), UTF-8; may be empty
//    |  | +-- the epoch of the log: the topic's id, 32 hex digits
//    |  +-- version of this format, decimal
//    +-- always these three letters
//
// Version 1 is the only one so far. A text without a stamp is of somebody else: of Kafka's tools, or of an ESS from
// before there were stamps. One with the stamp of a version that is not known here is left as it is, so that the sink
// refuses it by name, and nobody believes the position beside it.

import type { LogPosition } from '../log.ts';

const version = 1;
const prefix = `ess${version}:`;
const epochCharacters = 32;
const stampCharacters = prefix.length + epochCharacters + 1;

/**
 * Longest text that is stamped, bytes. Brokers take 4,096 bytes with the stamp (offset.metadata.max.bytes) unless told
 * otherwise; the rest is room for later versions.
 */
export const textBytesMax = 4_000;

/** What to commit for a text of at most `textBytesMax` bytes. */
export function stampText(epoch: string, text: string): string {
  return `${prefix}${epoch}:${text}`;
}

/**
 * A position as it was found, as the log of this epoch has to see it. One that was committed for another topic of the
 * same name counts as none; one without a stamp that is known here is foreign, and its text is as it was.
 */
export function readPosition(epoch: string, found: LogPosition): LogPosition {
  const { offset, metadata } = found;
  if (offset < 0) return { offset: -1, metadata: '' };
  const stamped = stampedEpoch(metadata);
  if (stamped === null) return { offset, metadata, isForeign: true };
  if (stamped !== epoch) return { offset: -1, metadata: '' };
  return { offset, metadata: metadata.slice(stampCharacters) };
}

/** The epoch of the log for which a text was stamped; null without a stamp that is known here. */
export function stampedEpoch(metadata: string): string | null {
  const isStamped = metadata.startsWith(prefix) && metadata[stampCharacters - 1] === ':';
  return isStamped ? metadata.slice(prefix.length, stampCharacters - 1) : null;
}

/** The offset up to which the log's own sinks have said that everything is stored; 0 if they have not said. */
export function provenOffset({ offset, isForeign = false }: LogPosition): number {
  return isForeign ? 0 : Math.max(offset, 0);
}
