/**
 * What every broker promises, whether it carries hints or only rings: answers per item, empty batches, waits that end,
 * health that never fails, depth and purge as declared, errors that are typed when the server is away.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { BrokerDriver } from "../../broker/BrokerDriver.ts"
import * as Under from "./BrokerUnderTest.ts"

const always = () => true

/** The cases, in the order of the contract. */
export const commonCases: ReadonlyArray<Under.ContractCase> = [
  {
    name: "publish answers per item, in order",
    applies: always,
    run: Effect.gen(function* () {
      const { capabilities, driver, queue } = yield* Under.setup()
      const hints = Under.hintsFor(queue, Math.min(5, capabilities.maxBatch))
      assert.deepStrictEqual(yield* driver.publish(hints), Under.allOk(hints.length))
    })
  },
  {
    name: "publish, extend, ack and release of nothing answer nothing",
    applies: always,
    run: Effect.gen(function* () {
      const { consumer, driver } = yield* Under.setup()
      const one = yield* consumer
      assert.deepStrictEqual(yield* driver.publish([]), [])
      assert.deepStrictEqual(yield* one.extend([], 1_000), [])
      assert.deepStrictEqual(yield* one.ack([]), [])
      assert.deepStrictEqual(yield* one.release([], 0), [])
    })
  },
  {
    name: "publishing a hint again is always allowed",
    applies: always,
    run: Effect.gen(function* () {
      const { driver, queue } = yield* Under.setup()
      const [hint] = Under.hintsFor(queue, 1)
      for (const publication of [1, 1, 2]) yield* Under.publish(driver, [{ ...hint!, publication }])
    })
  },
  {
    name: "receive answers [] when wait is over",
    applies: always,
    run: Effect.gen(function* () {
      const { consumer } = yield* Under.setup()
      const one = yield* consumer
      for (const wait of [0, 300]) {
        assert.deepStrictEqual(yield* Under.bounded(one.receive({ max: 10, wait }), `receive({ wait: ${wait} })`), [])
      }
    })
  },
  {
    name: "closing the scope of a consumer ends it while it waits",
    applies: always,
    run: Effect.gen(function* () {
      const { consumer } = yield* Under.setup()
      const waiting = Effect.flatMap(consumer, (one) => one.receive({ max: 1, wait: 60_000 }))
      // Detached: a receive that cannot be interrupted fails the case, and does not hang it
      const fiber = yield* Effect.forkDetach(Effect.scoped(waiting), { startImmediately: true })
      yield* Effect.sleep(50)
      yield* Under.bounded(Fiber.interrupt(fiber), "closing the consumer")
    })
  },
  {
    name: "health never fails and answers within a few seconds",
    applies: always,
    run: Effect.gen(function* () {
      const { driver } = yield* Under.setup()
      const health = yield* Under.bounded(driver.health, "health")
      assert.deepStrictEqual({ ok: health.ok, problems: health.ok ? [] : health.problems }, { ok: true, problems: [] })
    })
  },
  {
    name: "depth answers a number where declared, undefined where not",
    applies: always,
    run: Effect.gen(function* () {
      const { capabilities, driver, queue } = yield* Under.setup()
      const hints = Under.hintsFor(queue, 3)
      yield* Under.publish(driver, hints)
      if (capabilities.depth === "none") {
        assert.isUndefined(yield* driver.depth(queue))
      } else if (capabilities.depth === "approximate") {
        assert.isAtLeast((yield* driver.depth(queue)) ?? -1, 0)
      } else {
        assert.strictEqual(yield* driver.depth(queue), 3)
      }
    })
  },
  {
    name: "publish to a queue that does not exist fails with QueueNotFound, for that item alone",
    applies: (_, hooks) => hooks.includes("missingQueue"),
    run: Effect.gen(function* () {
      const { broker, consumer, driver, queue } = yield* Under.setup({ longLease: true })
      const [first, missing, last] = Under.hintsFor(queue, 3)
      const outcomes = yield* driver.publish([first!, { ...missing!, queue: broker.missingQueue! }, last!])
      assert.deepStrictEqual(Under.tags(outcomes), ["Ok", "Failed", "Ok"])
      const failed = outcomes[1]
      assert.strictEqual(failed?._tag === "Failed" ? failed.error.reason : undefined, "QueueNotFound")
      if (driver.capabilities.carriesHints) {
        const got = yield* Under.receive(yield* consumer, 2)
        assert.deepStrictEqual(Under.idsOf(got), Under.idsOf([first!, last!]))
      }
    })
  },
  {
    name: "a consumer of a queue that does not exist fails with QueueNotFound",
    applies: (_, hooks) => hooks.includes("missingQueue"),
    run: Effect.gen(function* () {
      const { broker, driver } = yield* Under.setup()
      const receiving = Effect.flatMap(driver.consumer({ queues: [broker.missingQueue!], lease: 1_000 }), (one) =>
        one.receive({ max: 1, wait: 0 })
      )
      assert.strictEqual(yield* Under.reasonOf(Under.bounded(Effect.scoped(receiving), "receive")), "QueueNotFound")
    })
  },
  {
    name: "during an outage publish says so with a typed error, health reports it, and afterwards all is well",
    applies: (_, hooks) => hooks.includes("outage"),
    alone: true,
    run: Effect.gen(function* () {
      const { broker, driver, queue } = yield* Under.setup()
      const away = ["Unavailable", "OutcomeUnknown", "Throttled"]
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* broker.outage!
          assert.include(away, yield* publishReason(driver, queue))
          const health = yield* Under.bounded(driver.health, "health")
          assert.isFalse(health.ok)
          assert.isNotEmpty(health.problems)
        })
      )
      yield* recovered(driver, queue)
      assert.isTrue((yield* Under.bounded(driver.health, "health")).ok)
    })
  },
  {
    name: "a restart of the broker does not end a consumer",
    applies: (_, hooks) => hooks.includes("restart"),
    alone: true,
    run: Effect.gen(function* () {
      const { broker, consumer, driver, queue } = yield* Under.setup({ longLease: true })
      const one = yield* consumer
      yield* broker.restart!
      yield* recovered(driver, queue)
      const answered = one.receive({ max: 1, wait: 1_000 }).pipe(
        Effect.flatMap((got) => (driver.capabilities.carriesHints && got.length === 0 ? notYet : Effect.void)),
        Effect.retry({ while: () => true }),
        Effect.orDie
      )
      yield* Under.bounded(answered, "receive after a restart")
    })
  }
]

const notYet = Effect.fail("nothing received yet" as const)

/** Why publishing failed, as a whole or for its only item. */
const publishReason = Effect.fnUntraced(function* (driver: BrokerDriver, queue: string) {
  const reason = yield* driver.publish(Under.hintsFor(queue, 1)).pipe(
    Effect.map(([outcome]) => (outcome?._tag === "Failed" ? outcome.error.reason : undefined)),
    Effect.catch((error) => Effect.succeed(error.reason)),
    (publishing) => Under.bounded(publishing, "publish")
  )
  return reason
})

/** Publishes until it works again. */
const recovered = (driver: BrokerDriver, queue: string) =>
  Effect.suspend(() => publishReason(driver, queue)).pipe(
    Effect.flatMap((reason) => (reason === undefined ? Effect.void : Effect.delay(Effect.fail(reason), 100))),
    Effect.retry({ while: () => true }),
    (again) => Under.bounded(again, "publishing again"),
    Effect.orDie
  )
