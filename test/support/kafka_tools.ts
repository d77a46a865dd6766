// Kafka's own command-line tools, under the names that they have in its bin/ folder, for tests that run what a document
// tells people to type. Java starts them from the jars that scripts/kafka.mjs fetches.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** What the scripts in Kafka's bin/ start, as of 3.7. */
const classes: Readonly<Record<string, string>> = {
  'kafka-acls.sh': 'kafka.admin.AclCommand',
  'kafka-broker-api-versions.sh': 'kafka.admin.BrokerApiVersionsCommand',
  'kafka-configs.sh': 'kafka.admin.ConfigCommand',
  'kafka-console-producer.sh': 'kafka.tools.ConsoleProducer',
  'kafka-consumer-groups.sh': 'kafka.admin.ConsumerGroupCommand',
  'kafka-get-offsets.sh': 'org.apache.kafka.tools.GetOffsetShell',
  'kafka-leader-election.sh': 'org.apache.kafka.tools.LeaderElectionCommand',
  'kafka-log-dirs.sh': 'org.apache.kafka.tools.LogDirsCommand',
  'kafka-metadata-quorum.sh': 'org.apache.kafka.tools.MetadataQuorumCommand',
  'kafka-reassign-partitions.sh': 'org.apache.kafka.tools.reassign.ReassignPartitionsCommand',
  'kafka-topics.sh': 'org.apache.kafka.tools.TopicCommand',
};

/** Makes `folder`, with the scripts in it: for a PATH. */
export function writeKafkaTools(folder: string): void {
  const home = resolve('.cache/tools/kafka-3.7.0');
  assert.ok(existsSync(join(home, 'tools')), 'no tools of Kafka: run node scripts/kafka.mjs');
  const jars = ['libs', 'tools'].flatMap((part) =>
    readdirSync(join(home, part))
      .sort()
      .map((name) => join(home, part, name)),
  );
  const java = [
    // The brokers' archive of loaded classes serves here, too: their class path is the beginning of this one.
    `java -XX:SharedArchiveFile=${join(home, 'classes.jsa')} -Xshare:auto`,
    '-Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData',
    `-Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp ${jars.join(':')}`,
  ].join(' ');
  mkdirSync(folder, { recursive: true });
  for (const [name, javaClass] of Object.entries(classes))
    writeFileSync(join(folder, name), `#!/bin/sh\nexec ${java} ${javaClass} "$@"\n`, { mode: 0o755 });
}
