-- wrk's script for single-event POSTs: a new id for every request of every run. Arguments after `--`: the run's number,
-- and the events' shape (support/event_batch.ts), "ours" or "peer".
-- Everything but the iteration number is text made beforehand, so that wrk's thread costs as little as it can: on two
-- cores it is part of what is measured.

local shapes = {
  ours = '","type":"click","subject":"user-%06d","ingest_time":"2025-12-24T09:43:54.121Z",' ..
    '"data":{"page":"/products/%04d","country":"%s","amount":%d}}',
  peer = '","user_id":"user-%06d","type":"click","timestamp":"2025-12-24T09:43:54.121Z",' ..
    '"payload":"/products/%04d?country=%s&amount=%d&ref=home-page"}',
}
local variants = {}
local countries = { "DE", "FR", "US", "IN", "BR", "JP", "NG", "SE" }
local head = ""
local threads = 0
local n = 0

function setup(thread)
  thread:set("thread_number", threads)
  threads = threads + 1
end

function init(args)
  local run = tonumber(args[1] or "0") * 10 + thread_number
  local start = string.format('{"id":"event-%08d-', run)
  for i = 0, 999 do
    variants[i] = string.format(
      shapes[args[2] or "ours"],
      (i * 7919) % 1000000, (i * 104729) % 10000, countries[i % 8 + 1], 1000 + (i * 31) % 9000)
  end
  -- By hand, since wrk.format would count the bytes of a body that is not there yet.
  head = table.concat({
    "POST " .. wrk.path .. " HTTP/1.1", "Host: " .. wrk.headers["Host"], "Content-Type: application/json",
    "Content-Length: " .. (#start + 9 + #variants[0]), "", start }, "\r\n")
end

function request()
  n = n + 1
  return head .. string.format("%09d", n) .. variants[n % 1000]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"seconds":%.6f,"bytes":%d,"p50_ms":%.3f,"p95_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f,' ..
    '"non_2xx":%d,"connect_errors":%d,"read_errors":%d,"write_errors":%d,"timeouts":%d}\n',
    summary.requests, summary.duration / 1e6, summary.bytes,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
    errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
