// Starts a ClickHouse test node, tells its port, stops it in the middle of its life if asked to, and waits to be killed.

import { ClickHouseNode } from '../support/clickhouse_node.ts';

const node = await ClickHouseNode.start();
if (process.argv[2] === 'paused') node.pause();
process.stdout.write(`${node.urls[0]}\n`);
