// How `ess topics describe` prints what it found: tables for people, one JSON object for programs.

import type { PartitionReport, TopicReport, TopicsReport } from './describe.ts';

/** One JSON object on one line. */
export function reportJson(report: TopicsReport): string {
  return `${JSON.stringify(report)}\n`;
}

/** Tables of the brokers and of each topic's partitions, and what was found at the end. */
export function reportText({ group, brokers, topics, findings }: TopicsReport): string {
  const brokerRows = brokers.map(({ id, address, is_controller: isController, replicas, leaders, bytes }) => [
    String(id),
    address,
    isController ? 'yes' : '',
    String(replicas),
    String(leaders),
    size(bytes),
  ]);
  return [
    table(['broker', 'address', 'controller', 'replicas', 'leads', 'size'], brokerRows),
    ...topics.map((topic) => topicText(topic, group)),
    findings.length === 0
      ? 'Nothing is uneven or at risk.\n'
      : findings.map((finding) => `! ${finding}\n`).join(''),
  ].join('\n');
}

function topicText(topic: TopicReport, group: string): string {
  const isEvents = topic.role === 'events';
  const settings =
    topic.settings === null
      ? 'its settings may not be read'
      : Object.entries(topic.settings)
          .map(([name, value]) => `${name}=${value}`)
          .join(' ');
  const head = `${topic.topic} (${isEvents ? `events, read by group ${group}` : 'dead letters'}): ${topic.partition_count} partitions, ${topic.replication_factor} replicas`;
  const names = ['partition', 'leader', 'replicas', 'in sync', 'start', 'end'];
  const more = isEvents ? ['position', 'lag'] : [];
  const rows = topic.partitions.map((partition) => partitionRow(partition, isEvents));
  return `${head}\n${settings}\n${table([...names, ...more, 'size'], rows)}`;
}

function partitionRow(each: PartitionReport, isEvents: boolean): string[] {
  // The preferred leader is the first of the replicas.
  const mark = (node: number): string =>
    each.adding.includes(node) ? `+${node}` : each.removing.includes(node) ? `-${node}` : `${node}`;
  return [
    String(each.partition),
    each.leader < 0 ? 'none' : String(each.leader),
    each.replicas.map(mark).join(','),
    each.in_sync_replicas.join(','),
    count(each.start_offset),
    count(each.end_offset),
    ...(isEvents ? [count(each.position), count(each.lag)] : []),
    size(each.bytes),
  ];
}

function count(value: number | null): string {
  return value === null ? '-' : String(value);
}

function size(bytes: number | null): string {
  if (bytes === null) return '-';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.min(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), units.length - 1);
  const value = bytes / 1024 ** power;
  return `${power === 0 ? value : value.toFixed(1)} ${units[power]}`;
}

function table(names: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = names.map((name, at) => Math.max(name.length, ...rows.map((row) => row[at]?.length ?? 0)));
  return [names, ...rows]
    .map((row) => `  ${row.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join('  ')}`.trimEnd())
    .map((line) => `${line}\n`)
    .join('');
}
