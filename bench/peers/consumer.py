"""The consumer that ESS replaces, as a measure for bench:sink: an aiokafka group into ClickHouse over HTTP.

getmany of up to BATCH records, one INSERT in JSONEachRow, then the commit: at least once. It waits until the group has
settled, begins anew at the first record, says "START <epoch seconds>", and goes on until it is stopped. Configured by
the environment: KAFKA, TOPIC, GROUP, PARTITIONS, BATCH, CLICKHOUSE (URL), TABLE.
"""

import asyncio
import os
import time
from datetime import datetime, timezone

import aiohttp
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer

BATCH = int(os.environ["BATCH"])
PARTITIONS = int(os.environ["PARTITIONS"])
CLICKHOUSE = os.environ["CLICKHOUSE"]
INSERT = f"INSERT INTO {os.environ['TABLE']} FORMAT JSONEachRow"


def to_seconds(time_text: str) -> str:
    return time_text[:19].replace("T", " ")


def row(value: bytes, now: str) -> bytes:
    event = orjson.loads(value)
    event["timestamp"] = to_seconds(event["timestamp"])
    event["ingest_time"] = to_seconds(event.get("ingest_time", now))
    event["store_time"] = to_seconds(now)
    return orjson.dumps(event)


async def main() -> None:
    consumer = AIOKafkaConsumer(
        os.environ["TOPIC"],
        bootstrap_servers=os.environ["KAFKA"],
        group_id=os.environ["GROUP"],
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=45_000,
        heartbeat_interval_ms=15_000,
        max_poll_interval_ms=300_000,
        max_partition_fetch_bytes=4 << 20,
    )
    await consumer.start()
    # What is measured is the work, not how long a group takes to form: what was fetched meanwhile is dropped.
    while len(consumer.assignment()) != PARTITIONS:
        await asyncio.sleep(0.05)
    await asyncio.sleep(1)
    await consumer.seek_to_beginning()
    print(f"START {time.time():.3f}", flush=True)
    async with aiohttp.ClientSession() as http:
        while True:
            fetched = await consumer.getmany(timeout_ms=500, max_records=BATCH)
            values = [record.value for records in fetched.values() for record in records]
            if not values:
                continue
            now = datetime.now(timezone.utc).isoformat()
            body = b"\n".join([row(value, now) for value in values])
            async with http.post(CLICKHOUSE, params={"query": INSERT}, data=body) as response:
                if response.status != 200:
                    raise SystemExit((await response.text())[:300])
            await consumer.commit()


uvloop.run(main())
