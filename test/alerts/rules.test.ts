// The alert rules as files: promtool takes them, each has unit tests on both sides of its threshold, and says what a
// person needs. What they do on a running service is in service.test.ts.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { needsPrometheus, promtool } from '../support/prometheus.ts';
import { readAlerts, readAlertTests, rulesPath, ruleTestsPath, runbookAnchor } from './rule_files.ts';

describe('the alert rules', () => {
  test(
    'pass promtool, with their unit tests and the configuration that loads them',
    needsPrometheus(),
    () => {
      promtool(['check', 'rules', rulesPath]);
      promtool(['check', 'config', 'compose/prometheus/prometheus.yml']);
      promtool(['test', 'rules', ruleTestsPath]);
    },
  );

  test('have for every alert a unit test in which it fires and one in which it does not', () => {
    const tests = readAlertTests();
    const names = readAlerts().map(({ alert }) => alert);
    for (const name of names) {
      const expected = tests.filter(({ alertname }) => alertname === name);
      assert.ok(
        expected.some(({ exp_alerts }) => exp_alerts.length > 0),
        `${name} never fires`,
      );
      assert.ok(
        expected.some(({ exp_alerts }) => exp_alerts.length === 0),
        `${name} is never silent`,
      );
    }
    for (const { alertname } of tests) assert.ok(names.includes(alertname), `there is no alert ${alertname}`);
  });

  test('say how bad it is, what it is, with which figures, and where to read what to do', () => {
    const alerts = readAlerts();
    assert.equal(new Set(alerts.map(({ alert }) => alert)).size, alerts.length);
    for (const alert of alerts) {
      const { labels, annotations } = alert;
      assert.match(alert.alert, /^Ess[A-Z]/);
      assert.ok(['critical', 'warning'].includes(labels['severity'] ?? ''), alert.alert);
      assert.ok((annotations['summary'] ?? '').length > 0, alert.alert);
      assert.match(annotations['description'] ?? '', /\.$/, alert.alert);
      assert.notEqual(runbookAnchor(alert), '', alert.alert);
    }
  });
});
