// The list of Kafka brokers: "kafka-1:9092,[2001:db8::1]:9092".

import { isIPv6 } from 'node:net';

/** What a list of brokers must be and `text` is not, in words after "but must"; null if it is one. */
export function brokersFault(text: string): string | null {
  const brokers = parseBrokers(text);
  return typeof brokers === 'string' ? brokers : null;
}

/**
 * The brokers as "host:port", in the order given, names in lower case, IPv6 addresses in brackets; or, as one text,
 * what the list must be and is not, in words after "but must".
 */
export function parseBrokers(text: string): string[] | string {
  const brokers: string[] = [];
  for (const part of text.split(',')) {
    const broker = part.trim().toLowerCase();
    const [, name, address, port] = /^(?:([^:[\]]*)|\[([^\]]*)\])(?::(\d{1,5}))?$/.exec(broker) ?? [];
    if (broker === '') return 'be HOST:PORT separated by commas, with nothing empty between them';
    if (/^[\da-f:.]*:[\da-f:.]*:[\da-f:.]*$/.test(broker)) {
      return 'have IPv6 addresses in brackets, as [2001:db8::1]:9092';
    }
    const isHost =
      address === undefined ? /^[a-z\d](?:[a-z\d._-]*[a-z\d.])?$/.test(name ?? '') : isIPv6(address);
    const isPort = port !== undefined && Number(port) >= 1 && Number(port) <= 65_535;
    if (!isHost || !isPort) return 'be HOST:PORT separated by commas, without a scheme or a user';
    const plain = `${address === undefined ? name : `[${address}]`}:${Number(port)}`;
    if (brokers.includes(plain)) return `name every broker once, and has ${plain} twice`;
    brokers.push(plain);
  }
  return brokers;
}
