// The layout of an event in a Kafka record. Any consumer of the topic sees the event's key and its JSON; ESS gets its
// packed record (event/record.ts) back without parsing. Only batch_encoder.ts, batch_records.ts and packed_record.ts
// use it, on producer and sink workers.
//
//    Kafka record        packed record
//    ------------        ---------------------------------------------------------------------------
//    timestamp           ingest time, in whole milliseconds
//    key                 the key; the id if isKeyId is set
//    value               the body
//    header `ess`        a version byte, then all that lies before the key: header, id, type, source, subject

export const essHeader = {
  name: Buffer.from('ess'),
  version: 1,
  /** Bytes of the version. */
  versionBytes: 1,
} as const;
