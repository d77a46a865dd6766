// Kafka's partitioning rule against the Java client's own numbers: org.apache.kafka.common.utils.Utils.murmur2 of
// kafka-clients 3.7.0. A key that lands elsewhere than other Kafka clients put it would break its order.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { murmur2, partitionOf } from '../../src/event/partition.ts';

/** The first six are those of Kafka's UtilsTest. */
const namedVectors: readonly (readonly [string, number])[] = [
  ['21', -973932308],
  ['foobar', -790332482],
  ['a-little-bit-long-string', -985981536],
  ['a-little-bit-longer-string', -1486304829],
  ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971],
  ['abc', 479470107],
  ['', 275646681],
  ['a', -1563381124],
  ['ab', 316155434],
  ['event-1-1', -1006104797],
  ['event-128-4711', 2039453426],
  ['\u00e9', 186971271],
  ['\u65e5\u672c\u8a9e', 1431860170],
  ['\u{1f600}', 131881617],
  ['\0', 375494588],
  ['a\0b', -19837367],
  ['order/2026-11-22', -1512855127],
];

/** What Java gives for the keys of `generatedKeys`, in order: int32, big-endian, base64. */
const generatedHashes = Buffer.from(
  [
    '/gUzTAmLQLv+8UNJ+F7iqCJyBObcCv74XM52WqdAcMgtQyy8Mk8Opet6yl1kZbxzc1V9c5VHTWgdEhLEPdmUue57+hIgJTSb',
    'oy3qOqt71xkMUjacUrRbntcR81GT0qz4ol0y1RBuCNm3vA8ED8wroKPI5SvPlffqFqa8he6U88cWUZLBgjDZ84VxbT2kuBsI',
    'RBR18ykIm+dqMx6CczZcBNHZRTyXxRJVvrCvGYLGc7Gu9qpgnqgGSxD3/veA0mjT43L58CVQUkEYErQ6R9h0ZC3AXqPBjmJ3',
    'xsmpT3n10yKPifFIzoBjzCnHBycREQwVwI7qr68RVwBS5pxcXls6a86eN7ek1ufNaqUwfGUEZOzOE6g4FoMm5d297LUQbgjZ',
    'H8ygEthIMEhb4SblisBDmmdFrBJs5POAAztnjmqoEDXBJmpz53TYdFvVInM9ACxp+fZQdwU8tw3eICW/41oCm/h+DVqezrtF',
    'JDK/OrprngUj7dTUNGsDkj704afrzgprgXxlt0fvgk2X2a382CZhYBTN9+coSvqHLnz9lRBuCNmrgMOT+EcmTk1RgzcKjT0P',
    'z3NS2lFmRoy3Cw6dg4MQkstbKgB67KmlhV9hWfJjezENfGs3XOgTCQ9utTaVVjE1AjyKQbB81B5jx9+XAvJeC0TGJZzEzmEE',
    'wYg5B5GClRZpCbPMwbsV9iQfrdRVwEcT2fYmSSE2lSGe0O8YXKthJz+3HRWTLMbuGwbUkSPFfG4Wt6veR0zRhzEoZo1tKt8T',
    'jLChbfLPs4T7fUmuzh63JRsKheKRAh9l1zvYfBWwT4tOhR2FYVZ43uJUf6w0CHYlBkemBkmFqAfyPV01JOjA5EOO55Ij0Lic',
    'tssI0W9v0CY4dl9fOsPA+PTGM1MDXAkHq5f99ztdVsJBjQAc4vQsxbeHAGYVR1VmNnrwYJcbPaxFoWwMbXJ2byVU6xuxu8PV',
    's2zalgifeoZ6KyXUv4nPulmjtc6bQGFm9Ck/3vwl5TL/UyQ11vbpTm/8rEl47QNTSMQH4Gr3eIubiEr8YTowebhEJR/QmnF+',
    'LzQ3QeGjsRgDSMSGca5cBXiJoVPhFfYjqY8+HhF5q9aIX2pTwt2Mg8Grls634Pm2v/XOFSsou69+MR4d5RW7xhBuCNkLog5G',
    'AXV06u7M57QAq0EyaNm0CJj7GwdySK3jbnRF5AuS626MowctRfzIyXAH3u8QbgjZn6bzq1KwTja7s7Zt+5HBCOJE1QX0bimo',
    'JgYFARwyy+L/m8tMRxWiuu4+vXMHqOZ7lI2/sRSMmFFIQc0l1WpwqLx77r010ed6QhNsgciRf4AyIu32gcP1KP9WQx/dwH27',
    'O1Z5j0rXFsPrUpGbzI/1eI3+tc5IFV4Bzm8GxCDZmIuKn7ARmZ2nX96nMnOSDNKPRGlxdm6qUDRU0+PjKXjtjnRhwaRPnxgY',
    'cmvxpy9F15TDAosFHh5Tr6M5ywtiRxRUo0roZewl01TILYofuHHpV+tV/+iYdF5W2RwZN9BPOoHA9e/4PdpizeZm5AelR04F',
    'q5giv26NG71SnliUkoT2/0as+dIh1UY7nlCB6fvU27VQB7HEToF4Qk6v7kaSQj2vbpz6V8KO15qWOPsQxJKBJBOrPq2wKl2/',
    'QxhhrRktPXNwaBweK4izVPiCgaS+Lr1ywGmF0f1bkszrZUm1fOD4Fo4Vh02NEFCxT3NuYOLuA1SIwdO31nT0bnGW0DRtyWsJ',
    'iDWfWoCG5ZeaqHy1wEHBOkj/YgOe/F6jTf9r1DNOWKk5ulFQrmTXLxcDHBDiv0NTP56dsIkvT8uNNH5syBkLnkIuiN+MS2a8',
    '3KqYAhOtQpBITRgVC+Ted3DM21sQbgjZEG4I2amACbcE20XzJvoAArxnMt9/q9mOwpoaNuKP1hS+57qsEG4I2appKknOFzCY',
    'YfMb9/fp6Pf5M7kmFX0Va4YKLpCxwL8vPlmGJK8mM572AZW3fQ5s+9u/5NtpRQSk1u9pGR8oLuVgL0xlIr3mgpmFMtRkkzu7',
    'CEIZPFkSKGqxJ/TQ6OanpkEPlQ6gtF4FEPF6ft74zKfv9WpQoeZzk7ZXhGD90ih6sLcqPkn6knG6Bw3dI+e5kqrLVhQBz+04',
    '/YVnzmD4DFWMO4WqJ/8181SdOsX3JsGUEG4I2RgveEBLSI/oGzULp4PQq4Oku8dCmtv7TX7ZKR+Th70SvH6nGDzC+LUUtl+/',
    'pl/QnosqHdiMfOv64mYXY+ucai/d5wSPcjeeRwkci2qE6n5E8OqvrqjEBoTKgIj8nqYjfCXh9r9Z2Er+dJsNJk9OedYFdXgu',
    'pat423aHdLNFc5xyPAsSwxBuCNnD/JAv96bqOIqDDWMtYMR69e+lO8ZVoTr2N0oU+lKjqfYGu1SwQj8vGUZSp2+NEsYQbgjZ',
    'j40mZEzuKbiuGo7KkPyRy1kdFC3uRe8qsYvF4ppwq0FwMCalsQTSGpGXkHSff1Y6Ic51XOhQR9FaXv5Z7MED+i4z5RXrlz+Z',
    'tm5/tG9S7E1+UcyDHfzT5jmow/2ADr5yOxJ7nzTkV3QP1ie6C3+moIL8eTxqE/5ix1L2iLBPlULm8UKf50q/el+U9GHY24T4',
    'TmEp/Rm+oRpSkQNIAN1F6EcYCVwVrZR0g3ppBCp7Qcs3JdADGvsBIC0vYL2jB1hFxiWnR36IXFU=',
  ].join(''),
  'base64',
);

/** The keys that the Java program made too: 0 to 39 characters of one to four bytes of UTF-8. */
function* generatedKeys(count: number): Generator<string> {
  let state = 1;
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state >>> 16;
  };
  for (let i = 0; i < count; i += 1) {
    let key = '';
    for (let left = next() % 40; left > 0; left -= 1) {
      const kind = next() % 4;
      const random = next();
      const codePoints = [
        0x20 + (random % 95),
        0x80 + (random % 0x780),
        0x800 + (random % 0xd000),
        0x10000 + random,
      ];
      key += String.fromCodePoint(codePoints[kind] ?? 0);
    }
    yield key;
  }
}

describe('partition of a key', () => {
  test('murmur2 gives the numbers of the Java client for named keys', () => {
    for (const [key, hash] of namedVectors)
      assert.equal(murmur2(Buffer.from(key)), hash, JSON.stringify(key));
  });

  test('murmur2 gives the numbers of the Java client for generated keys of every UTF-8 length', () => {
    const count = generatedHashes.length / 4;
    assert.equal(count, 500);
    let i = 0;
    for (const key of generatedKeys(count)) {
      assert.equal(murmur2(Buffer.from(key)), generatedHashes.readInt32BE(i * 4), JSON.stringify(key));
      i += 1;
    }
  });

  test('murmur2 of a part of a buffer is that of the part alone', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.uint8Array(), fc.uint8Array(), (before, bytes, after) => {
        const whole = Buffer.concat([before, bytes, after]);
        assert.equal(murmur2(whole, before.length, before.length + bytes.length), murmur2(bytes));
      }),
    );
  });

  test('a partition is the hash without its sign bit modulo the number of partitions', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.integer({ min: 1, max: 1024 }), (key, partitions) => {
        const partition = partitionOf(key, partitions);
        assert.equal(partition, (murmur2(Buffer.from(key)) & 0x7fffffff) % partitions);
        assert.ok(partition >= 0 && partition < partitions);
      }),
    );
  });

  test('the longest key that an event may have is hashed whole', () => {
    const key = '\u65e5'.repeat(341);
    assert.equal(partitionOf(key, 1 << 20), murmur2(Buffer.from(key)) & ((1 << 20) - 1));
    assert.notEqual(murmur2(Buffer.from(key)), murmur2(Buffer.from(key.slice(0, -1))));
  });

  test('a key keeps its shard when the partitions grow to a multiple of the shards', () => {
    fc.assert(
      fc.property(
        fc.string({ minLength: 1 }),
        fc.integer({ min: 1, max: 8 }),
        fc.integer({ min: 1, max: 16 }),
        fc.integer({ min: 1, max: 16 }),
        (key, shards, before, after) => {
          const shardOf = (multiple: number): number => partitionOf(key, shards * multiple) % shards;
          assert.equal(shardOf(before), shardOf(after));
        },
      ),
    );
  });
});
