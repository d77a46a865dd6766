// Ids that ESS makes: their form, their order and that none comes twice.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { uuidV7 } from '../../src/event/uuid.ts';

const form = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
/** The moment is a 48-bit number. */
const momentMax = 2 ** 48 - 1;

describe('UUIDv7', () => {
  test('an id has the form, version and variant of RFC 9562 and tells its moment', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: momentMax }), (moment) => {
        const id = uuidV7(moment);
        assert.match(id, form);
        assert.equal(Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16), moment);
      }),
    );
  });

  test('the id of a later millisecond sorts after that of an earlier one', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.integer({ min: 0, max: momentMax }), { minLength: 2, maxLength: 20 }),
        (moments) => {
          const ordered = moments.toSorted((a, b) => a - b).map(uuidV7);
          assert.deepEqual(ordered.toSorted(), ordered);
        },
      ),
    );
  });

  test('a hundred thousand ids of one millisecond are all different, and every variant occurs', () => {
    const ids = new Set<string>();
    const variants = new Set<string>();
    for (let i = 0; i < 100_000; i += 1) {
      const id = uuidV7(1_790_000_000_000);
      ids.add(id);
      variants.add(id.charAt(19));
    }
    assert.equal(ids.size, 100_000);
    assert.deepEqual([...variants].toSorted(), ['8', '9', 'a', 'b']);
  });
});
