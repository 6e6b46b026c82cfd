/**
 * What a broker promises that carries no hints (`carriesHints: false`): it rings, nobody misses a ring, and it never
 * answers a delivery.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { Capabilities, Consumer } from "../../broker/BrokerDriver.ts"
import * as Under from "./BrokerUnderTest.ts"

const doorbells = (capabilities: Capabilities) => !capabilities.carriesHints

/** Longer than a case is patient: only a ring can end it. */
const FOR_EVER = 3_600_000

const rung = (consumer: Consumer, what: string) =>
  Effect.map(Under.bounded(consumer.receive({ max: 10, wait: FOR_EVER }), what), (got) => {
    assert.deepStrictEqual(got, [], "a doorbell answers no delivery")
  })

/** The cases, in the order of the contract. */
export const doorbellCases: ReadonlyArray<Under.ContractCase> = [
  {
    name: "receive answers [] when the doorbell rings",
    applies: doorbells,
    run: Effect.gen(function* () {
      const { consumer, driver, queue } = yield* Under.setup()
      const one = yield* consumer
      const fiber = yield* Effect.forkChild(rung(one, "the ring"), { startImmediately: true })
      yield* Under.publish(driver, Under.hintsFor(queue, 1))
      yield* Fiber.join(fiber)
    })
  },
  {
    name: "a ring between two calls is not lost",
    applies: doorbells,
    run: Effect.gen(function* () {
      const { consumer, driver, queue } = yield* Under.setup()
      const one = yield* consumer
      yield* one.receive({ max: 10, wait: 0 })
      yield* Under.publish(driver, Under.hintsFor(queue, 1))
      yield* rung(one, "the ring between two calls")
    })
  },
  {
    name: "a ring reaches every consumer of its queue",
    applies: doorbells,
    run: Effect.gen(function* () {
      const { consumer, driver, queue } = yield* Under.setup()
      const consumers = yield* Effect.all([consumer, consumer, consumer])
      const fibers = yield* Effect.forEach(consumers, (one, index) =>
        Effect.forkChild(rung(one, `the ring of consumer ${index}`), { startImmediately: true })
      )
      yield* Under.publish(driver, Under.hintsFor(queue, 1))
      yield* Effect.forEach(fibers, Fiber.join, { discard: true })
    })
  },
  {
    name: "a ring that an interrupted receive had taken is not lost",
    applies: doorbells,
    run: Effect.gen(function* () {
      const { consumer, driver, queue } = yield* Under.setup()
      const one = yield* consumer
      for (let round = 0; round < 20; round++) {
        const fiber = yield* Effect.forkChild(one.receive({ max: 10, wait: FOR_EVER }), { startImmediately: true })
        yield* Effect.all([Under.publish(driver, Under.hintsFor(queue, 1)), Fiber.interrupt(fiber)], {
          concurrency: "unbounded"
        })
        if (Exit.isFailure(yield* Fiber.await(fiber))) yield* rung(one, `the ring of round ${round}`)
      }
    })
  }
]
