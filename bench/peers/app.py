"""The service that ESS replaces, as a measure for bench:peers: FastAPI on uvicorn (uvloop, httptools) with aiokafka.

POST /events/ validates one event with pydantic, sends it to Kafka with acks=all, and answers 200 only after the
brokers' acknowledgement. Configured by the environment: KAFKA, TOPIC, LINGER_MS.
"""

import os
from contextlib import asynccontextmanager
from datetime import datetime, timezone

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel

KAFKA = os.environ["KAFKA"]
TOPIC = os.environ["TOPIC"]
LINGER_MS = int(os.environ.get("LINGER_MS", "5"))


class Event(BaseModel):
    id: str
    user_id: str
    type: str
    timestamp: datetime
    payload: str = ""
    ingest_time: datetime | None = None
    store_time: datetime | None = None


@asynccontextmanager
async def lifespan(app: FastAPI):
    app.state.producer = AIOKafkaProducer(
        bootstrap_servers=KAFKA,
        acks="all",
        enable_idempotence=True,
        linger_ms=LINGER_MS,
        max_batch_size=256 * 1024,
    )
    await app.state.producer.start()
    yield
    await app.state.producer.stop()


app = FastAPI(lifespan=lifespan, openapi_url=None)


@app.post("/events/")
async def post_event(event: Event, request: Request):
    event.ingest_time = datetime.now(timezone.utc)
    try:
        await request.app.state.producer.send_and_wait(
            TOPIC, event.model_dump_json(exclude_none=True).encode(), key=event.id.encode()
        )
    except KafkaError as error:
        raise HTTPException(503, str(error)) from error
    return {"status": "ok", "id": event.id}
