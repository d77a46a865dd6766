// The test's ClickHouse node as an entry of the benches' build too: support/node.ts starts it.

import '../test/support/clickhouse_node.worker.ts';
