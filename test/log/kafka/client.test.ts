// Connections to brokers: what a caller learns when a broker is away, hung, refuses or talks nonsense, and that nobody
// else suffers for it. Against a real cluster with listeners for SASL and TLS, and against sockets that misbehave.

import assert from 'node:assert/strict';
import { createServer, type Server, type Socket } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { KafkaClient } from '../../../src/log/kafka/client.ts';
import { groupErrors, positionsCall } from '../../../src/log/kafka/group_calls.ts';
import { KafkaError, type KafkaErrorKind } from '../../../src/log/kafka/kafka_error.ts';
import type { KafkaTarget } from '../../../src/log/kafka/target.ts';
import type { WireCall } from '../../../src/log/kafka/wire/call.ts';
import { fetchCall } from '../../../src/log/kafka/wire/fetch.ts';
import { type ListedOffset, listOffsetsCall } from '../../../src/log/kafka/wire/list_offsets.ts';
import { metadataCall } from '../../../src/log/kafka/wire/metadata.ts';
import { KafkaCluster, needsKafka } from '../../support/kafka_cluster.ts';
import { until } from '../eventually.ts';

const topic = 'client';
/** Far longer than anything here takes: a test that reaches it has failed. */
const longMs = 30_000;
const user = { username: 'ess', password: 'right' };

const isKafka = (kind: KafkaErrorKind, isSent: boolean) => (error: unknown) => {
  assert.ok(error instanceof KafkaError, String(error));
  assert.deepEqual({ kind: error.kind, isSent: error.isSent }, { kind, isSent }, error.message);
  return true;
};

function targetOf(brokers: readonly string[], more: Partial<KafkaTarget> = {}): KafkaTarget {
  return {
    kind: 'kafka',
    brokers,
    topic,
    deadLetterTopic: 'none',
    group: 'client-group',
    tls: null,
    sasl: null,
    compression: 'none',
    minInsyncReplicas: 2,
    appendDeadlineMs: 8000,
    sessionTimeoutMs: 6000,
    fetchBytesMax: 1 << 20,
    eventBytesMax: 1 << 20,
    eventDepthMax: 50,
    ...more,
  };
}

/** Runs with a client that is closed afterwards, whatever happened. */
async function withClient<T>(
  target: KafkaTarget,
  run: (client: KafkaClient) => Promise<T>,
  requestTimeoutMs = longMs,
): Promise<T> {
  const client = new KafkaClient(target, { name: 'ess-test', requestTimeoutMs });
  try {
    return await run(client);
  } finally {
    await client.close();
  }
}

/** A listener on a free port, with what it was sent. */
async function withListener<T>(
  onConnection: (socket: Socket) => void,
  run: (address: string, server: Server) => Promise<T>,
): Promise<T> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  try {
    return await run(`127.0.0.1:${address.port}`, server);
  } finally {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  }
}

describe('a client without a broker', () => {
  it('says that nothing was sent when nobody listens', async () => {
    const address = await withListener(
      () => {},
      async (free) => free,
    );
    await withClient(targetOf([address]), async (client) => {
      await assert.rejects(client.metadata(), (error: unknown) => {
        assert.ok(error instanceof KafkaError);
        return error.kind === 'unreachable' && !error.isSent && error.message.includes(address);
      });
      await assert.rejects(client.send('any', metadataCall([topic]), longMs), isKafka('unreachable', false));
    });
  });

  it('does not connect again and again to a broker that refuses connections', async () => {
    let connections = 0;
    await withListener(
      (socket) => {
        connections += 1;
        socket.destroy();
      },
      async (address) => {
        await withClient(targetOf([address]), async (client) => {
          for (let i = 0; i < 200; i += 1)
            await assert.rejects(client.send('any', metadataCall([topic]), 5), isKafka('unreachable', false));
        });
      },
    );
    assert.ok(connections < 100, `${connections} connections`);
  });

  it('gives up a broker that takes connections and says nothing, and closes without waiting for it', async () => {
    await withListener(
      () => {},
      async (address) => {
        await withClient(targetOf([address]), async (client) => {
          await assert.rejects(client.send('any', metadataCall([topic]), 100), isKafka('unreachable', false));
          const waiting = client.metadata();
          const rejected = assert.rejects(waiting, KafkaError);
          await client.close();
          await rejected;
        });
      },
    );
  });

  it('leaves no timer behind when it is closed while it connects, backs off or waits', async () => {
    const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
    const before = timers();
    await withListener(
      () => {},
      async (hung) => {
        for (const tls of [null, { ca: '', cert: '', key: '' }]) {
          const brokers = [hung, '127.0.0.1:1'];
          const client = new KafkaClient(targetOf(brokers, { tls }), {
            name: 'ess-test',
            requestTimeoutMs: longMs,
          });
          const waiting = [client.metadata(), client.send('any', metadataCall([]), longMs)];
          const rejected = waiting.map((one) => assert.rejects(one, KafkaError));
          await assert.rejects(client.send('any', metadataCall([]), 50), KafkaError);
          await client.close();
          await Promise.all(rejected);
        }
        // A socket says in a later turn that it was destroyed.
        for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
        assert.ok(timers() <= before, `${timers()} timers, ${before} before`);
      },
    );
  });

  it('is not disturbed by a broker that talks nonsense', async () => {
    await withListener(
      (socket) => {
        socket.on('data', () => socket.write(Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')));
      },
      async (address) => {
        await withClient(
          targetOf([address]),
          async (client) => {
            await assert.rejects(client.metadata(), KafkaError);
          },
          500,
        );
      },
    );
  });

  it('rejects what is asked of it after it was closed', async () => {
    const client = new KafkaClient(targetOf(['127.0.0.1:1']), { name: 'ess-test', requestTimeoutMs: longMs });
    await client.close();
    await client.close();
    await assert.rejects(client.metadata(), isKafka('closed', false));
    await assert.rejects(client.send(1, metadataCall([]), longMs), isKafka('closed', false));
    await assert.rejects(client.coordinator('group', longMs), isKafka('closed', false));
  });
});

describe('a client of a cluster of three brokers', needsKafka(), () => {
  let cluster: KafkaCluster;

  before(async () => {
    cluster = await KafkaCluster.start({ sasl: user, tls: { clientAuth: 'required' } });
    await cluster.createTopic({ topic, partitions: 6 });
  });
  after(() => cluster?.dispose());

  const offsetsOf = (partition: number): WireCall<ListedOffset[]> =>
    listOffsetsCall({ topic, at: 'latest', partitions: [{ partition, leaderEpoch: -1 }] });

  it('tells the topic id, leaders and brokers, and asks once for all who ask at the same time', async () => {
    await withClient(targetOf(cluster.brokers), async (client) => {
      const [first, second] = await Promise.all([client.metadata(0), client.metadata(0)]);
      assert.equal(first, second);
      assert.equal(await client.metadata(), first);
      client.forget();
      const again = await client.metadata();
      assert.notEqual(again, first);
      assert.equal(again.topicId, await cluster.topicId(topic));
      assert.deepEqual(again.brokers.map(({ nodeId }) => nodeId).sort(), [0, 1, 2]);
      assert.deepEqual(
        again.partitions.map(({ partition }) => partition),
        [0, 1, 2, 3, 4, 5],
      );
      for (const { partition, leader } of again.partitions)
        assert.equal(leader, await cluster.leaderOf(topic, partition));
    });
  });

  it('says with its code that there is no such topic', async () => {
    await withClient(targetOf(cluster.brokers, { topic: 'nowhere' }), async (client) => {
      await assert.rejects(client.metadata(), { kind: 'protocol', protocolCode: 3 });
      assert.equal((await client.metadata(0, undefined, topic)).partitions.length, 6);
    });
  });

  it('learns the cluster from any bootstrap broker that answers, be others away or hung', async () => {
    await withListener(
      () => {},
      async (hung) => {
        const [broker = ''] = cluster.brokers;
        await withClient(targetOf([hung, '127.0.0.1:1', broker]), async (client) => {
          assert.equal((await client.metadata()).brokers.length, 3);
          for (const nodeId of [0, 1, 2]) await client.send(nodeId, metadataCall([]), longMs);
        });
      },
    );
  });

  it('stops waiting for metadata when the caller no longer wants it', async () => {
    await withListener(
      () => {},
      async (hung) => {
        await withClient(targetOf([hung]), async (client) => {
          const abort = new AbortController();
          const asked = assert.rejects(client.metadata(0, abort.signal), isKafka('closed', true));
          abort.abort();
          await asked;
        });
      },
    );
  });

  it('finds the coordinator of a group, which alone tells its positions', async () => {
    await withClient(targetOf(cluster.brokers), async (client) => {
      const nodeId = await client.coordinator('client-group', longMs);
      assert.equal(nodeId, await cluster.coordinatorOf('client-group'));
      for (const isStableOnly of [true, false]) {
        const call = positionsCall('client-group', topic, [0], isStableOnly);
        const answer = await client.send(nodeId, call, longMs);
        assert.deepEqual(answer, { errorCode: 0, positions: [{ partition: 0, offset: -1, metadata: '' }] });
        const { errorCode } = await client.send((nodeId + 1) % 3, call, longMs);
        assert.equal(errorCode, groupErrors.notCoordinator);
      }
    });
  });

  it('lets kafkajs speak to a broker, and tells what the broker refuses', async () => {
    await withClient(targetOf(cluster.brokers), async (client) => {
      const { resources } = await client.withBroker('any', longMs, (broker) =>
        broker.describeConfigs({ resources: [{ type: 2, name: topic }] }),
      );
      assert.equal(resources[0]?.resourceName, topic);
      const there = { topic, numPartitions: 1, replicationFactor: 1, configEntries: [] };
      await assert.rejects(
        client.withBroker(0, longMs, (broker) => broker.createTopics({ topics: [there], timeout: longMs })),
        { kind: 'protocol', protocolCode: 36 },
      );
    });
  });

  it('refuses unsent what goes to an unknown broker, and what the broker does not speak', async () => {
    await withClient(targetOf(cluster.brokers), async (client) => {
      await assert.rejects(client.send(77, metadataCall([]), longMs), isKafka('unreachable', false));
      const call = metadataCall([]);
      const future = { ...call, request: { ...call.request, apiVersion: 99 } };
      await assert.rejects(client.send(0, future, longMs), isKafka('protocol', false));
    });
  });

  it('gives up a connection whose answer cannot be read, and makes another for the next request', async () => {
    await withClient(targetOf(cluster.brokers), async (client) => {
      const call = metadataCall([]);
      const unreadable = {
        ...call,
        response: { ...call.response, decode: () => Promise.reject(new RangeError('nonsense')) },
      };
      await assert.rejects(client.send(1, unreadable, longMs), isKafka('protocol', true));
      await client.send(1, call, longMs);
    });
  });

  it('answers many requests on one connection, each with its own answer', async () => {
    await withClient(targetOf(cluster.brokers), async (client) => {
      const view = await client.metadata();
      const asked = Array.from({ length: 300 }, async (_, i) => {
        const partition = i % 6;
        const leader = view.partitions[partition]?.leader ?? -1;
        const [answer] = await client.send(leader, offsetsOf(partition), longMs);
        assert.deepEqual(answer, { partition, errorCode: 0, offset: 0 });
      });
      await Promise.all(asked);
    });
  });

  for (const mechanism of ['plain', 'scram-sha-256', 'scram-sha-512'] as const) {
    it(`gets in with the right password by ${mechanism}, and is told of a wrong one`, async () => {
      const brokers = cluster.listeners.sasl ?? [];
      await withClient(targetOf(brokers, { sasl: { mechanism, ...user } }), async (client) => {
        assert.equal((await client.metadata()).partitions.length, 6);
      });
      const wrong = { mechanism, username: 'ess', password: 'wrong' };
      await withClient(targetOf(brokers, { sasl: wrong }), async (client) => {
        await assert.rejects(client.metadata(), { kind: 'authentication' });
        await assert.rejects(client.send('any', metadataCall([]), longMs), isKafka('authentication', false));
      });
    });
  }

  it('speaks TLS with a certificate of its own, with SASL too, and refuses a broker that it cannot trust', async () => {
    const { ca = '', cert = '', key = '' } = cluster.certificates ?? {};
    const brokers = cluster.listeners.tls ?? [];
    await withClient(targetOf(brokers, { tls: { ca, cert, key } }), async (client) => {
      assert.equal((await client.metadata()).partitions.length, 6);
      for (const nodeId of [0, 1, 2]) await client.send(nodeId, metadataCall([]), longMs);
    });
    const sasl = { mechanism: 'scram-sha-256', ...user } as const;
    const both = targetOf(cluster.listeners.sasl_tls ?? [], { tls: { ca, cert, key }, sasl });
    await withClient(both, async (client) => {
      assert.equal((await client.metadata()).partitions.length, 6);
    });
    // Neither an authority that nobody knows, nor a client without the certificate that the broker asks for.
    for (const tls of [
      { ca: '', cert, key },
      { ca, cert: '', key: '' },
    ]) {
      await withClient(
        targetOf(brokers, { tls }),
        async (client) => {
          await assert.rejects(client.metadata(), KafkaError);
        },
        3000,
      );
    }
  });

  it('gives up a hung broker at the time-out, keeps the others, and returns to it when it is back', async () => {
    await withClient(targetOf(cluster.brokers), async (client) => {
      const view = await client.metadata();
      const led = (node: number) => view.partitions.find(({ leader }) => leader === node)?.partition ?? -1;
      for (const node of [0, 1, 2]) await client.send(node, offsetsOf(led(node)), longMs);
      cluster.node(2).pause();
      try {
        const hung = client.send(2, offsetsOf(led(2)), 300);
        const behind = client.send(2, offsetsOf(led(2)), longMs);
        const waiting = [
          assert.rejects(hung, isKafka('timeout', true)),
          // Its answer would have come after the other's: the connection is gone for both.
          assert.rejects(behind, isKafka('unreachable', true)),
        ];
        for (const node of [0, 1]) await client.send(node, offsetsOf(led(node)), longMs);
        await Promise.all(waiting);
        // The kernel still takes connections for it.
        await assert.rejects(client.send(2, offsetsOf(led(2)), 300), isKafka('unreachable', false));
        client.forget();
        await client.metadata();
        await assert.rejects(
          client.withBroker(2, 300, (broker) => broker.describeConfigs({ resources: [] })),
          isKafka('unreachable', false),
        );
      } finally {
        cluster.node(2).resume();
      }
      await until(async () => {
        try {
          await client.send(2, metadataCall([]), longMs);
          return true;
        } catch (error) {
          assert.ok(error instanceof KafkaError);
          return false;
        }
      });
    });
  });

  it('rejects what waits for a broker that is killed, as sent', async () => {
    await withClient(targetOf(cluster.brokers), async (client) => {
      const view = await client.metadata();
      const { partition, leaderEpoch } = view.partitions.find(({ leader }) => leader === 1) ?? {
        partition: -1,
        leaderEpoch: -1,
      };
      await client.reach(1, longMs);
      assert.equal(client.isOpen(1), true);
      const poll = client.send(
        1,
        fetchCall({
          topic,
          topicId: view.topicId,
          maxWaitMs: longMs,
          minBytes: 1,
          maxBytes: 1 << 20,
          isCommittedOnly: true,
          partitions: [{ partition, offset: 0, maxBytes: 1 << 20, leaderEpoch }],
        }),
        2 * longMs,
      );
      const rejected = assert.rejects(poll, isKafka('unreachable', true));
      await client.send(0, metadataCall([]), longMs);
      await cluster.node(1).kill();
      await rejected;
      await assert.rejects(client.send(1, metadataCall([]), longMs), isKafka('unreachable', false));
      assert.equal(client.isOpen(1), false);
      await cluster.node(1).restart();
      await until(() =>
        client.send(1, metadataCall([]), longMs).then(
          () => true,
          () => false,
        ),
      );
    });
  });
});
