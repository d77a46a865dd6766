// Lists of Kafka brokers.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { brokersFault, parseBrokers } from '../../src/config/brokers.ts';

test('a list gives its brokers in order, trimmed and in lower case', () => {
  assert.deepEqual(parseBrokers('kafka-1:9092'), ['kafka-1:9092']);
  assert.deepEqual(parseBrokers('a:9092, B.example.:09093 ,10.0.0.1:1'), [
    'a:9092',
    'b.example.:9093',
    '10.0.0.1:1',
  ]);
});

test('IPv6 addresses stand in brackets, in the list and in the result', () => {
  assert.deepEqual(parseBrokers('[::1]:9092,[2001:DB8::1]:9092'), ['[::1]:9092', '[2001:db8::1]:9092']);
  for (const text of ['::1:9092', '::1', '2001:db8::1', '[::1', '[::1]', '[::g]:9092', '[127.0.0.1]:9092']) {
    assert.notEqual(brokersFault(text), null, text);
  }
});

test('what is no list of HOST:PORT is a fault', () => {
  const faulty = [
    '',
    ',',
    'a:9092,',
    'a',
    'a:',
    ':9092',
    'a:0',
    'a:65536',
    'a:99999',
    'a:9x',
    '-a:9092',
    'a-:1',
  ];
  const foreign = [
    'http://a:9092',
    'a:9092/x',
    'user@a:9092',
    'u:p@a:9092',
    'a b:9092',
    'a:9092;b:9092',
    'a:9:2',
  ];
  for (const text of [...faulty, ...foreign]) assert.notEqual(brokersFault(text), null, text);
});

test('the same broker twice is a fault, however it is written', () => {
  for (const text of ['a:9092,a:9092', 'a:9092,A:9092', 'a:9092,b:9092,a:09092', '[::1]:1,[::1]:1']) {
    assert.notEqual(brokersFault(text), null, text);
  }
  assert.equal(brokersFault('a:9092,a:9093'), null);
});

test('no text makes the parser throw, and a list that it made it takes again', () => {
  const characters = fc.string({ unit: fc.constantFrom(...'ab:9[].,-@/ ') });
  fc.assert(
    fc.property(fc.oneof(characters, fc.string()), (text) => {
      const brokers = parseBrokers(text);
      if (typeof brokers !== 'string') assert.deepEqual(parseBrokers(brokers.join(',')), brokers);
    }),
  );
});
