/**
 * What a broker promises that carries hints: what is published is received and stays away once acked, by one consumer
 * at a time, in any number.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { Capabilities, Delivery } from "../../broker/BrokerDriver.ts"
import * as Under from "./BrokerUnderTest.ts"

const carriers = (capabilities: Capabilities) => capabilities.carriesHints

/** The cases, in the order of the contract. */
export const hintCases: ReadonlyArray<Under.ContractCase> = [
  {
    name: "what is published is received, and acked is gone",
    applies: carriers,
    run: Effect.gen(function* () {
      const { consumer, driver, queue } = yield* Under.setup()
      const [hint] = Under.hintsFor(queue, 1, { attempt: 3, priority: 2 })
      yield* Under.publish(driver, [hint!])
      const one = yield* consumer
      const delivery = yield* Under.receiveOne(one)
      const { attempt, jobId, queue: from } = delivery.hint
      assert.deepStrictEqual({ attempt, jobId, from }, { attempt: 3, jobId: hint!.jobId, from: queue })
      assert.deepStrictEqual(yield* one.ack([delivery]), Under.allOk(1))
      yield* Under.receiveNothing(one)
    })
  },
  {
    name: "receive answers at most max",
    applies: carriers,
    run: Effect.gen(function* () {
      const { consumer, driver, queue } = yield* Under.setup({ longLease: true })
      yield* Under.publish(driver, Under.hintsFor(queue, 5))
      const one = yield* consumer
      const first = yield* Under.bounded(one.receive({ max: 2, wait: 1_000 }), "receive")
      assert.isAtMost(first.length, 2)
      yield* Under.receive(one, 5 - first.length)
    })
  },
  {
    name: "a waiting receive is woken by what is published",
    applies: carriers,
    run: Effect.gen(function* () {
      const { consumer, driver, queue } = yield* Under.setup({ longLease: true })
      const one = yield* consumer
      const wait = yield* Under.Patience
      const fiber = yield* Effect.forkChild(one.receive({ max: 1, wait }), { startImmediately: true })
      const hints = Under.hintsFor(queue, 1)
      yield* Under.publish(driver, hints)
      const got = yield* Under.bounded(Fiber.join(fiber), "the receive that waited", 0.75)
      assert.deepStrictEqual(Under.idsOf(got), Under.idsOf(hints))
    })
  },
  {
    name: "a consumer receives from all its queues and from no other",
    applies: carriers,
    run: Effect.gen(function* () {
      const [a, b, other] = yield* Effect.all([
        Under.setup({ longLease: true }),
        Under.setup({ longLease: true }),
        Under.setup({ longLease: true })
      ])
      const both = yield* a.driver.consumer({ queues: [a.queue, b.queue], lease: a.lease })
      const [ofA, ofB, ofOther] = [a, b, other].map((it) => Under.hintsFor(it.queue, 1)[0]!)
      yield* Under.publish(a.driver, [ofA!, ofOther!, ofB!].slice(0, a.capabilities.maxBatch))
      const got = yield* Under.receive(both, 2, 1)
      assert.deepStrictEqual(
        got.map((_) => [_.hint.queue, _.hint.jobId]).sort(),
        [
          [a.queue, ofA!.jobId],
          [b.queue, ofB!.jobId]
        ].sort()
      )
      yield* Under.receiveNothing(both)
      assert.strictEqual((yield* Under.receiveOne(yield* other.consumer)).hint.jobId, ofOther!.jobId)
    })
  },
  {
    name: "two consumers never share a delivery",
    applies: carriers,
    run: Effect.gen(function* () {
      const { consumer, driver, queue } = yield* Under.setup({ longLease: true })
      const hints = Under.hintsFor(queue, 40)
      yield* Under.publish(driver, hints)
      const got: Array<Delivery> = []
      const drain = Effect.gen(function* () {
        const one = yield* consumer
        while (got.length < hints.length) {
          got.push(...(yield* Under.bounded(one.receive({ max: 3, wait: 200 }), "receive")))
        }
      })
      yield* Under.bounded(Effect.all([drain, drain], { concurrency: 2, discard: true }), "draining")
      assert.deepStrictEqual(Under.idsOf(got), Under.idsOf(hints))
    })
  },
  {
    name: "1,000 hints in batches arrive and are acked",
    applies: carriers,
    run: Effect.gen(function* () {
      const { capabilities, consumer, driver, queue } = yield* Under.setup({ longLease: true })
      const hints = Under.hintsFor(queue, 1_000)
      yield* Under.publish(driver, hints)
      const one = yield* consumer
      const got: Array<Delivery> = []
      while (got.length < hints.length) {
        const batch = yield* Under.bounded(one.receive({ max: capabilities.maxBatch, wait: 5_000 }), "receive")
        assert.isAtMost(batch.length, capabilities.maxBatch)
        assert.notStrictEqual(batch.length, 0, `${got.length} of 1,000 came`)
        assert.deepStrictEqual(yield* one.ack(batch), Under.allOk(batch.length))
        got.push(...batch)
      }
      assert.deepStrictEqual(Under.idsOf(got), Under.idsOf(hints))
      yield* Under.receiveNothing(one)
    })
  },
  {
    name: "higher priorities are received first",
    applies: (capabilities) => capabilities.carriesHints && capabilities.priority,
    run: Effect.gen(function* () {
      const { consumer, driver, queue } = yield* Under.setup({ longLease: true })
      const priorities = [5, 9, 0, 7, 2]
      yield* Under.publish(
        driver,
        priorities.flatMap((priority) => Under.hintsFor(queue, 1, { priority }))
      )
      const got = yield* Under.receive(yield* consumer, 5, 1)
      assert.deepStrictEqual(
        got.map((delivery) => delivery.hint.priority),
        [0, 2, 5, 7, 9]
      )
    })
  },
  {
    name: "publishing one job twice leaves one hint, the newest",
    applies: (capabilities) => capabilities.carriesHints && capabilities.idempotentPublish,
    run: Effect.gen(function* () {
      const { consumer, driver, queue } = yield* Under.setup({ longLease: true })
      const [hint] = Under.hintsFor(queue, 1)
      yield* Under.publish(driver, [hint!])
      yield* Under.publish(driver, [hint!])
      yield* Under.publish(driver, [{ ...hint!, attempt: 2, publication: 2 }])
      const one = yield* consumer
      const delivery = yield* Under.receiveOne(one)
      assert.strictEqual(delivery.hint.attempt, 2)
      yield* Under.receiveNothing(one)
      yield* one.ack([delivery])
      yield* Under.receiveNothing(one)
    })
  },
  {
    name: "receive loses nothing when interrupted",
    applies: carriers,
    run: Effect.gen(function* () {
      const { consumer, driver, queue } = yield* Under.setup()
      const one = yield* consumer
      const hints = Under.hintsFor(queue, 10)
      const kept: Array<Delivery> = []
      for (const hint of hints) {
        const fiber = yield* Effect.forkChild(one.receive({ max: 1, wait: 5_000 }), { startImmediately: true })
        yield* Effect.all([Under.publish(driver, [hint]), Fiber.interrupt(fiber)], { concurrency: "unbounded" })
        const exit = yield* Fiber.await(fiber)
        if (Exit.isSuccess(exit)) kept.push(...exit.value)
      }
      const seen = new Set(Under.idsOf(kept))
      yield* one.ack(kept)
      const rest = Effect.gen(function* () {
        while (seen.size < hints.length) {
          const got = yield* one.receive({ max: 10, wait: 1_000 })
          for (const delivery of got) seen.add(delivery.hint.jobId)
          yield* one.ack(got)
        }
      })
      yield* Under.bounded(rest, "receiving what the interrupted receives had taken")
      assert.deepStrictEqual([...seen].sort(), Under.idsOf(hints))
    })
  },
  {
    name: "purge drops all hints of a queue, or fails with Unsupported",
    applies: carriers,
    run: Effect.gen(function* () {
      const { capabilities, consumer, driver, queue } = yield* Under.setup({ longLease: true })
      yield* Under.publish(driver, Under.hintsFor(queue, 5))
      const reason = yield* Under.reasonOf(driver.purge(queue))
      if (reason !== undefined) {
        assert.strictEqual(reason, "Unsupported")
        yield* Under.receive(yield* consumer, 5)
        return
      }
      if (capabilities.depth === "exact") assert.strictEqual(yield* driver.depth(queue), 0)
      yield* Under.receiveNothing(yield* consumer)
    })
  }
]
