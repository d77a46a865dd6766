// What is wrong at the moment, as it is told.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { Conditions } from '../../src/engine/conditions.ts';
import type { Trouble } from '../../src/live/troubles.ts';

const open = (): Conditions => new Conditions(pino({ level: 'silent' }));
const trouble = (text: string): Trouble => ({ kind: 'other', text });
const texts = (troubles: readonly Trouble[]): string[] => troubles.map(({ text }) => text);

test('what several threads say in the same words is said once, until the last of them takes it back', () => {
  const conditions = open();
  conditions.set('log-0', trouble('the disk is full'));
  conditions.set('log-1', trouble('the disk is full'));
  conditions.set('log', trouble('the disk is full'));
  conditions.set('log-2', trouble('no broker answers'));
  assert.deepEqual(texts(conditions.of('log')), ['the disk is full', 'no broker answers']);
  assert.deepEqual(texts(conditions.list()), ['the disk is full', 'no broker answers']);
  for (const key of ['log-0', 'log-1']) conditions.set(key, null);
  assert.deepEqual(new Set(texts(conditions.of('log'))), new Set(['the disk is full', 'no broker answers']));
  conditions.set('log', null);
  assert.deepEqual(texts(conditions.of('log')), ['no broker answers']);
});

test('a group is a key, and what begins with it and a dash', () => {
  const conditions = open();
  conditions.set('log', trouble('a'));
  conditions.set('logs', trouble('b'));
  conditions.set('partition-1', trouble('c'));
  assert.deepEqual(texts(conditions.of('log')), ['a']);
  assert.deepEqual(texts(conditions.list('log')), ['b', 'c']);
  assert.deepEqual(texts(conditions.list('log', 'partition')), ['b']);
});

test('what whoever has gone said is ended as a group', () => {
  const conditions = open();
  for (const key of ['partition-1', 'partition-12', 'partitions']) conditions.set(key, trouble(key));
  conditions.end('partition');
  assert.deepEqual(texts(conditions.list()), ['partitions']);
});
