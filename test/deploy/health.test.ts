// The health checks of compose/compose.yaml that a shell can run here: against something that answers as the service
// would, against something that answers otherwise, and against nothing. (Those of ess: image.test.ts.)

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { describe, test } from 'node:test';
import { readCompose } from './compose_file.ts';

/** The exit code of a service's health check, its port being another one. */
async function runCheck(service: string, from: number, to: number): Promise<number | null> {
  const [kind, ...words] = readCompose().services[service]?.healthcheck?.test ?? [];
  // Compose writes a dollar as two.
  const argv = words.map((word) => word.replaceAll('$$', '$').replaceAll(String(from), String(to)));
  const [command = '', ...rest] = kind === 'CMD-SHELL' ? ['sh', '-c', ...argv] : argv;
  const child = spawn(command, rest, { stdio: 'ignore' });
  const [code] = (await once(child, 'close')) as [number | null];
  return code;
}

/** Listens, answers whatever comes with `text`, and runs `action` with its port. */
async function withAnswer<T>(text: string, action: (port: number) => Promise<T>): Promise<T> {
  const server: Server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.end(text));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  try {
    return await action(port);
  } finally {
    server.close();
  }
}

const http = (body: string): string =>
  `HTTP/1.0 200 OK\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`;

describe('the health check', () => {
  for (const { service, tool, port, good, bad } of [
    { service: 'keeper-1', tool: 'bash', port: 9181, good: 'imok', bad: 'This instance is not serving' },
    { service: 'clickhouse-1a', tool: 'wget', port: 8123, good: http('Ok.\n'), bad: http('no\n') },
  ]) {
    const isThere = spawnSync(tool, ['--version']).error === undefined;
    const skip = isThere ? false : `NOT RUN: there is no ${tool} here`;
    test(`of ${service} tells one that is well from others`, { skip }, async () => {
      assert.equal(await withAnswer(good, (at) => runCheck(service, port, at)), 0);
      assert.notEqual(await withAnswer(bad, (at) => runCheck(service, port, at)), 0);
      assert.notEqual(await runCheck(service, port, 9), 0);
    });
  }
});
