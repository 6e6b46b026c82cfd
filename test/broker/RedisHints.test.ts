import { assert, layer, vi } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Logger, Redacted, Schedule } from "effect"
import type { Redis } from "ioredis"
import { randomUUID } from "node:crypto"
import type { BrokerDriver, Consumer, Hint } from "../../src/broker/BrokerDriver.ts"
import { PROMOTE_AT_MOST } from "../../src/broker/redis/Scripts.ts"
import { SLICE } from "../../src/broker/redis/WakeUp.ts"
import * as RedisBroker from "../../src/broker/RedisBroker.ts"
import { adminOf, describeOwnRedis, ownCluster, ownRedis } from "../support/Redis.ts"

/** A private server, a client to look behind the broker, and brokers with a prefix of the test's own. */
class Setup extends Context.Service<Setup, { readonly url: string; readonly admin: Redis }>()("test/Setup") {}

const SetupLive = Layer.effect(
  Setup,
  Effect.gen(function* () {
    const { url } = yield* ownRedis()
    return { url, admin: yield* adminOf(url) }
  })
)

const LEASE = 30_000

const hintsOf = (queue: string, count: number, override: Partial<Hint> = {}): ReadonlyArray<Hint> =>
  Array.from({ length: count }, () => ({
    jobId: randomUUID(),
    queue,
    priority: 5,
    attempt: 0,
    publication: 1,
    ...override
  }))

const hintOf = (queue: string, override: Partial<Hint> = {}): Hint => hintsOf(queue, 1, override)[0]!

const setup = Effect.gen(function* () {
  const { admin, url } = yield* Setup
  const prefix = randomUUID()
  const driver = yield* RedisBroker.make({ url: Redacted.make(url), prefix })
  const key = (queue: string, part: string) => `{${prefix}}:${queue}:${part}`
  const read = (command: string, ...args: ReadonlyArray<string | number>) =>
    Effect.promise(() => admin.call(command, ...args))
  const keys = Effect.map(read("keys", `{${prefix}}:*`), (found) => [...(found as Array<string>)].sort())
  return { admin, driver, key, keys, prefix, read, url }
})

const receiveNow = (consumer: Consumer, max = 10) => consumer.receive({ max, wait: 0 })

const receiveOne = (consumer: Consumer) =>
  Effect.map(receiveNow(consumer, 1), ([delivery]) => {
    if (delivery === undefined) throw new Error("nothing to receive")
    return delivery
  })

const tagsOf = (outcomes: ReadonlyArray<{ readonly _tag: string }>) => outcomes.map(({ _tag }) => _tag)

const consumerOf = (driver: BrokerDriver, ...queues: ReadonlyArray<string>) => driver.consumer({ queues, lease: LEASE })

/** Asks until the answer is right; the test's timeout ends it. */
const until = <A, E, R>(effect: Effect.Effect<A, E, R>, right: (answer: A) => boolean): Effect.Effect<A, E, R> =>
  Effect.repeat(effect, { until: right, schedule: Schedule.spaced(10) })

/** How often the server ran scripts of anybody so far. */
const scriptsRun = Effect.gen(function* () {
  const { admin } = yield* Setup
  const stats = String(yield* Effect.promise(() => admin.call("info", "commandstats")))
  return Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1] ?? 0)
})

/** The clock of this process is wrong until the scope closes. */
const aDayAhead = Effect.acquireRelease(
  Effect.sync(() => vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 86_400_000 })),
  () => Effect.sync(() => vi.useRealTimers())
)

describeOwnRedis("hints in Redis", () => {
  layer(SetupLive, { excludeTestServices: true, timeout: "60 seconds" })((it) => {
    it.effect("a newer attempt supersedes a delivery in somebody's hands", () =>
      Effect.gen(function* () {
        const { driver } = yield* setup
        const [first, second] = [yield* consumerOf(driver, "q"), yield* consumerOf(driver, "q")]
        const hint = hintOf("q")
        yield* driver.publish([hint])
        const old = yield* receiveOne(first)
        yield* driver.publish([{ ...hint, attempt: 1 }])
        const taken = yield* receiveOne(second)
        assert.deepStrictEqual([taken.hint.attempt, taken.deliveryCount], [1, 1])
        assert.deepStrictEqual(tagsOf(yield* first.ack([old])), ["LeaseLost"])
        assert.deepStrictEqual(tagsOf(yield* second.ack([taken])), ["Ok"])
      })
    )

    it.effect("a newer publication of the same attempt waits for the end of the delivery, and outlives its ack", () =>
      Effect.gen(function* () {
        const { driver } = yield* setup
        const consumer = yield* consumerOf(driver, "q")
        const hint = hintOf("q")
        yield* driver.publish([hint])
        const old = yield* receiveOne(consumer)
        yield* driver.publish([{ ...hint, publication: 2 }])
        assert.deepStrictEqual(yield* receiveNow(consumer), [])
        assert.deepStrictEqual(tagsOf(yield* consumer.ack([old])), ["Ok"])
        const again = yield* receiveOne(consumer)
        assert.strictEqual(again.hint.publication, 2)
        yield* consumer.ack([again])
        assert.deepStrictEqual(yield* receiveNow(consumer), [])
      })
    )

    it.effect("the same publication again changes nothing, neither ready nor delayed nor leased", () =>
      Effect.gen(function* () {
        const { driver } = yield* setup
        const consumer = yield* consumerOf(driver, "q")
        const hint = hintOf("q", { attempt: 3, publication: 3 })
        const again = () => driver.publish([hint, { ...hint, publication: 2 }, { ...hint, attempt: 2, publication: 9 }])
        yield* driver.publish([hint])
        yield* again()
        assert.strictEqual(yield* driver.depth("q"), 1)
        const delivery = yield* receiveOne(consumer)
        assert.deepStrictEqual(delivery.hint, hint)
        yield* again()
        assert.deepStrictEqual(yield* receiveNow(consumer), [])
        yield* consumer.release([delivery], 60_000)
        yield* again()
        assert.deepStrictEqual(yield* receiveNow(consumer), [])
        assert.strictEqual(yield* driver.depth("q"), 1)
        yield* driver.publish([{ ...hint, publication: 4 }])
        assert.strictEqual((yield* receiveOne(consumer)).hint.publication, 4, "a newer one says: due now")
      })
    )

    it.effect("another priority moves a hint that waits", () =>
      Effect.gen(function* () {
        const { driver } = yield* setup
        const [one, other] = [hintOf("q"), hintOf("q")]
        yield* driver.publish([one, other])
        yield* driver.publish([{ ...other, publication: 2, priority: 0 }])
        assert.strictEqual((yield* receiveOne(yield* consumerOf(driver, "q"))).hint.jobId, other.jobId)
      })
    )

    it.effect("first come, first served within a priority", () =>
      Effect.gen(function* () {
        const { driver } = yield* setup
        const consumer = yield* consumerOf(driver, "q")
        const hints = hintsOf("q", 5)
        for (const hint of hints) {
          yield* driver.publish([hint])
          // Order is by milliseconds: let one pass
          yield* Effect.sleep(2)
        }
        const got = yield* receiveNow(consumer)
        assert.deepStrictEqual(
          got.map((delivery) => delivery.hint.jobId),
          hints.map((hint) => hint.jobId)
        )
      })
    )

    it.effect("what is no hint of ours is dropped, logged, and breaks nothing", () =>
      Effect.gen(function* () {
        const { driver, key, keys, read } = yield* setup
        const consumer = yield* consumerOf(driver, "q")
        const [none, version, nonsense, large, expired, late] = hintsOf("q", 6).map((hint) => hint.jobId) as [
          string,
          ...Array<string>
        ]
        const ready = [none, version!, nonsense!, large!, "forged"].flatMap((id, index) => [index, id])
        yield* read("zadd", key("q", "ready"), ...ready)
        const messages = [version!, "9:1:1:1", nonsense!, "{}", large!, "1:3000000000:1:1", "forged", "1:1:1:1"]
        yield* read("hset", key("q", "hints"), ...messages, late!, "")
        yield* read("zadd", key("q", "delayed"), 1, late!)
        yield* read("zadd", key("q", "leases"), 1, expired!)
        const hint = hintOf("q", { priority: 9 })
        yield* driver.publish([hint])
        const logged: Array<unknown> = []
        const log = Logger.make(({ message }) => void logged.push(message))
        const got = yield* Effect.provide(receiveNow(consumer), Logger.layer([log]))
        assert.deepStrictEqual(
          got.map((delivery) => delivery.hint),
          [hint]
        )
        assert.match(String(logged), /dropped 7 entries of q/)
        yield* consumer.ack(got)
        yield* receiveNow(consumer)
        assert.deepStrictEqual(yield* keys, [])
      })
    )

    it.effect("what can be no hint is refused alone, with MessageRejected", () =>
      Effect.gen(function* () {
        const { driver } = yield* setup
        const hint = hintOf("q")
        const outcomes = yield* driver.publish([{ ...hint, priority: 10 }, hint, { ...hint, jobId: "no id" }])
        assert.deepStrictEqual(tagsOf(outcomes), ["Failed", "Ok", "Failed"])
        const [first] = outcomes
        assert.strictEqual(first?._tag === "Failed" ? first.error.reason : undefined, "MessageRejected")
        assert.strictEqual(yield* driver.depth("q"), 1)
      })
    )

    it.effect("nothing is left of hints that were acked", () =>
      Effect.gen(function* () {
        const { driver, keys } = yield* setup
        const consumer = yield* consumerOf(driver, "a", "b")
        yield* driver.publish([...hintsOf("a", 3), ...hintsOf("b", 3)])
        const first = yield* receiveNow(consumer)
        yield* consumer.release(first.slice(0, 3), 0)
        yield* consumer.ack(first.slice(3))
        yield* consumer.ack(yield* receiveNow(consumer))
        yield* receiveNow(consumer)
        assert.deepStrictEqual(yield* keys, [])
      })
    )

    it.effect("two deployments with different prefixes do not meet (defect 13)", () =>
      Effect.gen(function* () {
        const [ours, theirs] = [yield* setup, yield* setup]
        const hint = hintOf("q")
        yield* ours.driver.publish([hint])
        assert.deepStrictEqual(yield* receiveNow(yield* consumerOf(theirs.driver, "q")), [])
        yield* theirs.driver.purge("q")
        assert.strictEqual((yield* receiveOne(yield* consumerOf(ours.driver, "q"))).hint.jobId, hint.jobId)
        const keys = [...(yield* ours.keys), ...(yield* theirs.keys)]
        assert.isTrue(keys.every((key) => key.startsWith(`{${ours.prefix}}:`)))
      })
    )

    it.effect("one look moves a bounded number of entries that fell due (defects 21, 25)", () =>
      Effect.gen(function* () {
        const { driver, key, read } = yield* setup
        const consumer = yield* consumerOf(driver, "q")
        const hints = hintsOf("q", 3 * PROMOTE_AT_MOST)
        yield* driver.publish(hints)
        const held = (yield* receiveNow(consumer, 500)).concat(yield* receiveNow(consumer, 500))
        assert.strictEqual(held.length, hints.length)
        yield* consumer.release(held, 1)
        for (const left of [2, 1, 0]) {
          yield* receiveNow(consumer, 1)
          assert.strictEqual(yield* read("zcard", key("q", "delayed")), left * PROMOTE_AT_MOST)
        }
        const seen = new Set<string>()
        for (let got = yield* receiveNow(consumer, 500); got.length > 0; got = yield* receiveNow(consumer, 500)) {
          for (const { hint } of got) seen.add(hint.jobId)
        }
        assert.strictEqual(seen.size, hints.length - 3)
      })
    )

    it.effect("leases and delays are on the server's clock (defect 24)", () =>
      Effect.gen(function* () {
        yield* aDayAhead
        const { driver, key, read } = yield* setup
        const consumer = yield* consumerOf(driver, "q")
        yield* driver.publish(hintsOf("q", 2))
        const [held, released] = yield* receiveNow(consumer, 2)
        yield* consumer.release([released!], 60_000)
        const [seconds] = (yield* read("time")) as [string, string]
        const end = Number(yield* read("zscore", key("q", "leases"), held!.hint.jobId)) / 1_000 - Number(seconds)
        const due = Number(yield* read("zscore", key("q", "delayed"), released!.hint.jobId)) / 1_000 - Number(seconds)
        assert.isTrue(end > 0 && end <= LEASE / 1_000 + 1, `the lease ends in ${end} s`)
        assert.isTrue(due > 30 && due <= 61, `due in ${due} s`)
      })
    )

    it.effect("a batch of 500 over three queues is one round trip, whatever is done with it", () =>
      Effect.gen(function* () {
        const { driver } = yield* setup
        const consumer = yield* consumerOf(driver, "a", "b", "c")
        const hints = [...hintsOf("a", 200), ...hintsOf("b", 200), ...hintsOf("c", 100)]
        const oneCall = <A, E>(effect: Effect.Effect<A, E>) =>
          Effect.gen(function* () {
            const before = yield* scriptsRun
            const answer = yield* effect
            assert.strictEqual((yield* scriptsRun) - before, 1)
            return answer
          })
        yield* driver.publish([hintOf("a")])
        yield* consumer.ack(yield* receiveNow(consumer))
        yield* consumer.extend([{ hint: hintOf("a"), receipt: "none", deliveryCount: 1 }], LEASE)
        yield* consumer.release([{ hint: hintOf("a"), receipt: "none", deliveryCount: 1 }], 0)
        assert.strictEqual((yield* oneCall(driver.publish(hints))).length, 500)
        const got = yield* oneCall(receiveNow(consumer, 500))
        assert.strictEqual(got.length, 500)
        assert.strictEqual(tagsOf(yield* oneCall(consumer.extend(got, LEASE))).filter((_) => _ === "Ok").length, 500)
        yield* oneCall(consumer.release(got.slice(0, 250), 0))
        yield* oneCall(consumer.ack(got.slice(250)))
      })
    )

    it.effect("more than that are sent in several, each answered in its place", () =>
      Effect.gen(function* () {
        const { driver } = yield* setup
        const consumer = yield* consumerOf(driver, "a")
        yield* driver.publish(hintsOf("a", 2))
        const [first, last] = yield* receiveNow(consumer, 2)
        // As many as a worker with very many slots may hold
        const none = Array.from({ length: 30_000 }, () => ({ ...first!, receipt: "none" }))
        const before = yield* scriptsRun
        const outcomes = tagsOf(yield* consumer.extend([first!, ...none, last!], LEASE))
        assert.strictEqual((yield* scriptsRun) - before, 61)
        assert.deepStrictEqual([outcomes.length, outcomes[0], outcomes.at(-1)], [30_002, "Ok", "Ok"])
        assert.deepStrictEqual(new Set(outcomes.slice(1, -1)), new Set(["LeaseLost"]))
      })
    )

    it.effect("an idle consumer blocks, it does not ask again and again", () =>
      Effect.gen(function* () {
        const { driver } = yield* setup
        const consumer = yield* consumerOf(driver, "a", "b")
        yield* receiveNow(consumer)
        const before = yield* scriptsRun
        assert.deepStrictEqual(yield* consumer.receive({ max: 1, wait: SLICE * 1.5 }), [])
        assert.isAtMost((yield* scriptsRun) - before, 4)
      })
    )

    it.effect("a full queue starves no other", () =>
      Effect.gen(function* () {
        const { driver } = yield* setup
        const consumer = yield* consumerOf(driver, "full", "small")
        yield* driver.publish([...hintsOf("full", 50), ...hintsOf("small", 1)])
        const got = [...(yield* receiveNow(consumer, 5)), ...(yield* receiveNow(consumer, 5))]
        assert.include(
          got.map((delivery) => delivery.hint.queue),
          "small"
        )
      })
    )

    it.effect("a marker that nobody listens to any more is given back", () =>
      Effect.gen(function* () {
        const { driver, key, read } = yield* setup
        for (const leave of ["the wait is over", "interrupted"] as const) {
          const consumer = yield* consumerOf(driver, leave)
          const fiber = yield* Effect.forkChild(
            consumer.receive({ max: 1, wait: leave === "interrupted" ? 60_000 : 50 })
          )
          yield* Effect.sleep(50)
          yield* leave === "interrupted" ? Fiber.interrupt(fiber) : Fiber.join(fiber)
          // It is still in line for the marker, and takes it when there is one
          yield* driver.publish(hintsOf(leave, 1))
          yield* until(read("exists", key(leave, "wake")), (exists) => exists === 1)
        }
      })
    )

    it.effect("who waits learns that something falls due earlier than they thought", () =>
      Effect.gen(function* () {
        const { driver } = yield* setup
        const [holds, waits] = [yield* consumerOf(driver, "q"), yield* consumerOf(driver, "q")]
        yield* driver.publish(hintsOf("q", 1))
        const held = yield* receiveOne(holds)
        const before = yield* scriptsRun
        const fiber = yield* Effect.forkChild(waits.receive({ max: 1, wait: 60_000 }))
        yield* until(scriptsRun, (count) => count > before)
        yield* holds.release([held], 300)
        assert.strictEqual((yield* Fiber.join(fiber)).length, 1)
        // The first look, the release, the look that learned of the due time, and the one at that time
        assert.isAtLeast((yield* scriptsRun) - before, 4)
      })
    )

    it.effect("a lease that has ended cannot be extended, even when nobody has taken the hint yet", () =>
      Effect.gen(function* () {
        const { driver } = yield* setup
        const consumer = yield* driver.consumer({ queues: ["q"], lease: 1 })
        yield* driver.publish(hintsOf("q", 1))
        const held = yield* receiveOne(consumer)
        yield* Effect.sleep(20)
        assert.deepStrictEqual(tagsOf(yield* consumer.extend([held], LEASE)), ["LeaseLost"])
        assert.deepStrictEqual(tagsOf(yield* consumer.ack([held])), ["Ok"], "it may still be acked")
      })
    )

    it.effect("receive of nothing takes nothing", () =>
      Effect.gen(function* () {
        const { driver } = yield* setup
        const consumer = yield* consumerOf(driver, "q")
        yield* driver.publish(hintsOf("q", 1))
        assert.deepStrictEqual(yield* receiveNow(consumer, 0), [])
        assert.strictEqual(yield* driver.depth("q"), 1)
      })
    )
  })

  layer(Layer.empty, { excludeTestServices: true, timeout: "60 seconds" })("on a cluster", (it) => {
    it.effect("every key that a script touches is declared, and all are in one slot (defect 25)", () =>
      Effect.gen(function* () {
        const { url } = yield* ownCluster()
        const admin = yield* adminOf(url)
        const seen: Array<ReadonlyArray<string>> = []
        const monitor = yield* Effect.promise(() => admin.monitor())
        yield* Effect.addFinalizer(() => Effect.sync(() => monitor.disconnect()))
        monitor.on("monitor", (_time: string, args: ReadonlyArray<string>) => seen.push(args))
        const driver = yield* RedisBroker.make({ url: Redacted.make(url), cluster: true })
        const consumer = yield* consumerOf(driver, "a", "b")
        const [a, b] = [hintOf("a"), hintOf("b")]
        yield* driver.publish([a, b])
        const held = yield* receiveNow(consumer)
        yield* driver.publish([
          { ...a, attempt: 1 },
          { ...b, publication: 2 }
        ])
        yield* consumer.extend(held, LEASE)
        yield* consumer.release(held, 1)
        yield* consumer.ack(yield* consumer.receive({ max: 10, wait: 1_000 }))
        yield* driver.depth("a")
        yield* driver.purge("a")
        const last = randomUUID()
        yield* Effect.promise(() => admin.call("echo", last))
        while (!seen.some((args) => args.includes(last))) yield* Effect.sleep(5)

        let declared: ReadonlyArray<string> = []
        const touched = new Set<string>()
        for (const [command = "", ...args] of seen) {
          if (/^eval(sha)?$/.test(command)) declared = args.slice(2, 2 + Number(args[1]))
          // What a script calls comes in capitals, after the script
          if (!/^(Z|H)[A-Z]+$|^DEL$/.test(command)) continue
          assert.include(declared, args[0], `${command} ${args.join(" ")}`)
          touched.add(command)
        }
        assert.includeMembers([...touched], ["ZADD", "HSET", "ZREM", "HDEL", "ZPOPMIN", "ZSCORE", "HGET", "ZCARD"])
        const slots = new Set(
          yield* Effect.promise(() => Promise.all(declared.map((key) => admin.cluster("KEYSLOT", key))))
        )
        assert.strictEqual(slots.size, 1)
      })
    )
  })
})
