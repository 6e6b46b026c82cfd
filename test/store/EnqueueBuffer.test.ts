/** How enqueues share statements: what goes when, who is told when, and what the end of the layer waits for. */
import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { StoreError } from "../../src/JobError.ts"
import * as EnqueueBuffer from "../../src/store/EnqueueBuffer.ts"
import type { Publication } from "../../src/store/Announcer.ts"
import type { EnqueueOutcome } from "../../src/store/JobStoreDriver.ts"
import { newJob } from "../support/StoreSteps.ts"

const job = newJob("t")
const inserted: EnqueueOutcome = { _tag: "Inserted" }
const gone = new StoreError({ reason: "Unavailable", operation: "enqueue", message: "gone" })

interface Statement {
  readonly size: number
  readonly answer: Deferred.Deferred<ReadonlyArray<EnqueueOutcome>, StoreError>
}

/** A buffer whose statements are answered by hand. */
const stage = Effect.gen(function* () {
  const statements: Array<Statement> = []
  const enqueue = yield* EnqueueBuffer.make((jobs) =>
    Effect.gen(function* () {
      const answer = yield* Deferred.make<ReadonlyArray<EnqueueOutcome>, StoreError>()
      statements.push({ size: jobs.length, answer })
      return yield* Deferred.await(answer)
    })
  )
  // The buffer's fiber begins to wait
  yield* Effect.yieldNow
  const succeed = (at: number) =>
    Effect.andThen(
      Deferred.succeed(
        statements[at]!.answer,
        Array.from({ length: statements[at]!.size }, () => inserted)
      ),
      Effect.yieldNow
    )
  const callers: Array<Fiber.Fiber<never, StoreError>> = []
  /** Each enqueues again as soon as it is told. */
  const call = (count: number, told: () => void) =>
    Effect.gen(function* () {
      const caller = Effect.forever(
        Effect.tap(enqueue(job, undefined), () => Effect.sync(told)),
        { disableYield: true }
      )
      for (let i = 0; i < count; i++) callers.push(yield* Effect.forkChild(caller, { startImmediately: true }))
      // The buffer's own end waits for what was sent
      yield* Effect.addFinalizer(() =>
        Effect.andThen(
          Effect.suspend(() => Fiber.interruptAll(callers)),
          Effect.suspend(() => succeed(statements.length - 1))
        )
      )
      yield* Effect.yieldNow
    })
  return { enqueue: (publication?: Publication) => enqueue(job, publication), statements, succeed, call }
})

describe("EnqueueBuffer", () => {
  it.effect("sends the next batch once enough callers are back, before all are told", () =>
    Effect.gen(function* () {
      const { call, statements, succeed } = yield* stage
      let told = 0
      yield* call(401, () => told++)
      yield* succeed(0)
      yield* succeed(1)
      // Of the 400 that were told, half were back: they went, and those who came after them wait for the next
      expect(statements.map(({ size }) => size)).toEqual([1, 400, 200])
      expect(told).toBe(401)
      yield* succeed(2)
      yield* succeed(3)
      expect(statements.map(({ size }) => size)).toEqual([1, 400, 200, 201, 200])
    })
  )

  it.effect("waits for all of a small batch to be told, so that they share the next statement", () =>
    Effect.gen(function* () {
      const { call, statements, succeed } = yield* stage
      yield* call(51, () => {})
      yield* succeed(0)
      yield* succeed(1)
      yield* succeed(2)
      expect(statements.map(({ size }) => size)).toEqual([1, 51, 51, 51])
    })
  )

  it.effect("fails all callers of a batch that failed, and goes on", () =>
    Effect.gen(function* () {
      const { enqueue, statements, succeed } = yield* stage
      const first = yield* Effect.forkChild(enqueue(), { startImmediately: true })
      const fibers: Array<Fiber.Fiber<EnqueueOutcome, StoreError>> = []
      for (let i = 0; i < 3; i++) fibers.push(yield* Effect.forkChild(enqueue(), { startImmediately: true }))
      yield* Effect.yieldNow
      yield* succeed(0)
      yield* Deferred.fail(statements[1]!.answer, gone)
      for (const fiber of fibers) expect(yield* Fiber.await(fiber)).toEqual(Exit.fail(gone))
      expect(yield* Fiber.join(first)).toEqual(inserted)
      const next = yield* Effect.forkChild(enqueue(), { startImmediately: true })
      yield* Effect.yieldNow
      yield* succeed(2)
      expect(yield* Fiber.join(next)).toEqual(inserted)
    })
  )

  it.effect("publishes what a statement inserted and did not announce, together, before anyone is told", () =>
    Effect.gen(function* () {
      const { enqueue, statements } = yield* stage
      const published: Array<readonly [name: string, jobs: number]> = []
      let told = 0
      const publication = (name: string): Publication => ({
        announcer: undefined,
        publish: (jobs) =>
          Effect.sync(() => {
            expect(told).toBe(0)
            published.push([name, jobs.length])
          })
      })
      const [a, b] = [publication("a"), publication("b")]
      const caller = (of: Publication | undefined) =>
        Effect.forkChild(
          Effect.tap(enqueue(of), () => Effect.sync(() => told++)),
          { startImmediately: true }
        )
      const first = yield* Effect.forkChild(enqueue(), { startImmediately: true })
      yield* Effect.yieldNow
      const fibers: Array<Fiber.Fiber<EnqueueOutcome, StoreError>> = []
      for (const of of [a, b, a, a, b, undefined]) fibers.push(yield* caller(of))
      yield* Deferred.succeed(statements[0]!.answer, [inserted])
      yield* Fiber.join(first)
      // The third was told of by the INSERT itself, the last of b was there already
      const outcomes: ReadonlyArray<EnqueueOutcome> = [
        inserted,
        inserted,
        { _tag: "Inserted", announced: true },
        inserted,
        { _tag: "Duplicate", id: job.id },
        inserted
      ]
      yield* Effect.yieldNow
      yield* Deferred.succeed(statements[1]!.answer, outcomes)
      for (const [at, fiber] of fibers.entries()) expect(yield* Fiber.join(fiber)).toEqual(outcomes[at])
      expect(published).toEqual([
        ["a", 2],
        ["b", 1]
      ])
    })
  )

  it.effect("goes on when the jobs of a statement cannot be published", () =>
    Effect.gen(function* () {
      const { enqueue, statements, succeed } = yield* stage
      const broken: Publication = { announcer: undefined, publish: () => Effect.die("broken") }
      for (const at of [0, 1]) {
        const caller = yield* Effect.forkChild(enqueue(broken), { startImmediately: true })
        yield* Effect.yieldNow
        expect(statements.length).toBe(at + 1)
        yield* succeed(at)
        expect(yield* Fiber.join(caller)).toEqual(inserted)
      }
    })
  )

  it.effect("the end of the layer waits for what is in flight, also after a time of rest", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { enqueue, statements, succeed } = yield* Scope.provide(stage, scope)
      const first = yield* Effect.forkChild(enqueue(), { startImmediately: true })
      yield* Effect.yieldNow
      yield* succeed(0)
      yield* Fiber.join(first)
      const second = yield* Effect.forkChild(enqueue(), { startImmediately: true })
      yield* Effect.yieldNow
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* Effect.yieldNow
      expect(closing.pollUnsafe()).toBeUndefined()
      expect(statements.length).toBe(2)
      yield* succeed(1)
      expect(yield* Fiber.join(second)).toEqual(inserted)
      yield* Fiber.join(closing)
    })
  )
})
