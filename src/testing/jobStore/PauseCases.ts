/** Cases of pausing: what no claim takes meanwhile, when it ends, and how it is logged. */
import { assert } from "@effect/vitest"
import type { PauseTarget } from "../../store/JobStoreDriver.ts"
import { assertApart, contractCase, ids, SLACK, uuid } from "./StoreUnderTest.ts"

const by = { who: "ada", reason: "a test" }
const told = () => ({ by, operation: uuid() })

export const pauseCases = [
  contractCase(
    "no claim takes a job of a paused queue or type, named or not, until it is resumed",
    function* ({ claim, claimHinted, driver, insert, queue, settle, take, type }) {
      const mine = yield* insert()
      const otherQueue = yield* insert({ queue: `${queue}-other` })
      const otherType = yield* insert({ type: `${type}Other` })
      const ranges = [queue, `${queue}-other`].flatMap((queue) =>
        [type, `${type}Other`].map((type) => ({ queue, type }))
      )
      const all = [mine, otherQueue, otherType]
      const expected: ReadonlyArray<{ readonly target: PauseTarget; readonly free: ReadonlyArray<string> }> = [
        { target: { queue }, free: [otherQueue] },
        { target: { type }, free: [otherType] },
        { target: { queue, type }, free: [otherQueue, otherType] },
        { target: {}, free: [] }
      ]
      for (const { free, target } of expected) {
        yield* driver.pause({ ...target, ...told() })
        const { claimed, rest } = yield* claimHinted(all, { types: [type, `${type}Other`] })
        assert.sameMembers([...ids(claimed)], [...free], JSON.stringify(target))
        assert.sameMembers(
          rest.map(({ disposition, id }) => `${id} ${disposition}`),
          all.filter((id) => !free.includes(id)).map((id) => `${id} paused`)
        )
        for (const job of claimed) yield* settle({ ...job, _tag: "Released" })
        const taken = yield* claim({ pools: [{ ranges, limit: 10 }] })
        assert.sameMembers([...ids(taken)], [...free], JSON.stringify(target))
        for (const job of taken) yield* settle({ ...job, _tag: "Released" })
        assert.isTrue(yield* driver.resume({ ...target, ...told() }))
      }
      assert.strictEqual((yield* take(mine)).id, mine)
      assert.lengthOf(yield* claim({ pools: [{ ranges, limit: 10 }] }), 2)
    }
  ),

  contractCase("a pause lets running jobs go on", function* ({ driver, insert, queue, settle, take }) {
    const running = yield* take(yield* insert())
    yield* driver.pause({ queue, ...told() })
    assert.deepStrictEqual((yield* driver.renew([running], 60_000)).lost, [])
    assert.deepStrictEqual(yield* settle({ ...running, _tag: "Succeeded", result: "1" }), {
      _tag: "Settled",
      status: "succeeded"
    })
  }),

  contractCase(
    "a pause ends by itself, and workers know when",
    function* ({ advance, claim, driver, insert, queue, row, type }) {
      const id = yield* insert()
      const ranges = [{ queue, type }]
      const pause = yield* driver.pause({ queue, duration: 60_000, ...told() })
      assertApart(pause.since, pause.until, 60_000)
      const wait = yield* driver.nextDue(ranges)
      assert.isTrue(wait !== undefined && wait > 60_000 - SLACK && wait <= 60_000)
      assert.deepStrictEqual(yield* claim(), [])
      yield* advance(60_000)
      assert.strictEqual(yield* driver.nextDue(ranges), 0)
      assert.deepStrictEqual(yield* driver.pauses, [])
      assert.isFalse(yield* driver.resume({ queue, ...told() }), "there is none any more")
      assert.deepStrictEqual(ids(yield* claim()), [id])
      const now = (yield* row(id)).startedAt!
      const until = yield* driver.pause({ type, until: Math.round(now) + 600_000, ...told() })
      assert.strictEqual(until.until, Math.round(now) + 600_000)
    }
  ),

  contractCase(
    "without an end nothing is due until it is resumed, whichever of several pauses it is",
    function* ({ claim, driver, insert, queue, type }) {
      yield* insert()
      const ranges = [{ queue, type }]
      yield* driver.pause({ queue, duration: 60_000, ...told() })
      yield* driver.pause({ type, ...told() })
      assert.isUndefined(yield* driver.nextDue(ranges))
      yield* driver.resume({ type, ...told() })
      assert.isDefined(yield* driver.nextDue(ranges))
      assert.deepStrictEqual(yield* claim(), [])
    }
  ),

  contractCase(
    "pause MUST replace an earlier pause of the same target, and write its audit row with it",
    function* ({ driver, queue, type }) {
      const first = told()
      const second = told()
      const third = told()
      yield* driver.pause({ queue, type, ...first, duration: 60_000 })
      yield* driver.pause({ queue, type, by: { who: "bob" }, operation: second.operation })
      const [pause, ...others] = yield* driver.pauses
      assert.deepStrictEqual(others, [])
      assert.deepStrictEqual(
        [pause?.queue, pause?.type, pause?.until, pause?.reason],
        [queue, type, undefined, undefined]
      )
      assert.isTrue(yield* driver.resume({ queue, type, ...third }))
      assert.isFalse(yield* driver.resume({ queue, type, ...told() }))
      const log = yield* driver.audit({ target: `${queue}/${type}`, limit: 10 })
      assert.deepStrictEqual(
        log.map(({ action, kind, operation, who }) => [action, kind, operation, who]),
        [
          ["resume", "queue", third.operation, "ada"],
          ["pause", "queue", second.operation, "bob"],
          ["pause", "queue", first.operation, "ada"]
        ]
      )
      assert.deepStrictEqual(
        log.map(({ after }) => after),
        [undefined, {}, { reason: "a test", until: Reflect.get(Object(log[1]!.before), "until") }]
      )
      assert.deepStrictEqual(log[0]!.before, {})
      assert.isUndefined(log[2]!.before)
    }
  ),

  contractCase("pauses answers everything that is paused now, by queue and type", function* ({ driver, queue, type }) {
    const targets = [{}, { type }, { queue }, { queue, type }]
    for (const target of targets.toReversed()) yield* driver.pause({ ...target, ...told() })
    const found = yield* driver.pauses
    assert.deepStrictEqual(
      found.map(({ queue, type }) => ({ queue, type })),
      targets.map((target) => ({ queue: undefined, type: undefined, ...target }))
    )
  })
]
