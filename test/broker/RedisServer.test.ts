import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Logger, Redacted, Schedule } from "effect"
import { spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { inspect } from "node:util"
import type { Hint, ItemOutcome } from "../../src/broker/BrokerDriver.ts"
import * as RedisBroker from "../../src/broker/RedisBroker.ts"
import type { BrokerError } from "../../src/JobError.ts"
import { adminOf, describeOwnRedis, ownRedis } from "../support/Redis.ts"

const SECRET = "s3cret/with@signs"
const LEASE = 30_000

const hintOf = (queue = "q"): Hint => ({ jobId: randomUUID(), queue, priority: 5, attempt: 0, publication: 1 })

const make = (url: string, options: Partial<RedisBroker.Options> = {}) =>
  RedisBroker.make({ url: Redacted.make(url), ...options })

/** Again and again until it works; the test's timeout ends it. */
const eventually = <A>(effect: Effect.Effect<A, BrokerError>): Effect.Effect<A, BrokerError> =>
  Effect.retry(effect, Schedule.spaced(20))

/** Asks until the answer is right; the test's timeout ends it. */
const until = <A, E>(effect: Effect.Effect<A, E>, right: (answer: A) => boolean): Effect.Effect<A, E> =>
  Effect.repeat(effect, { until: right, schedule: Schedule.spaced(20) })

/** Everything that is logged while an effect runs, as text. */
const logsOf = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const lines: Array<string> = []
    const log = Logger.make((entry) => void lines.push(inspect(entry.message), inspect(entry.cause)))
    return Effect.map(Effect.provide(effect, Logger.layer([log])), (answer) => ({ answer, text: lines.join("\n") }))
  })

describeOwnRedis("a Redis server and its troubles", () => {
  it.live("a password is used, a wrong one is Unauthorized, and none of it is ever shown (defect 35)", () =>
    Effect.gen(function* () {
      const { url } = yield* ownRedis({ settings: { requirepass: SECRET } })
      const inUrl = url.replace("//", `//:${encodeURIComponent(SECRET)}@`)
      const { answer, text } = yield* logsOf(
        Effect.gen(function* () {
          const driver = yield* make(inUrl)
          yield* (yield* make(url, { password: Redacted.make(SECRET) })).publish([hintOf()])
          assert.isTrue((yield* driver.health).ok)
          const wrong = yield* Effect.flip(make(inUrl.replace("s3cret", "s3crets")))
          const none = yield* Effect.flip(make(url))
          return { driver, wrong, none }
        })
      )
      assert.deepStrictEqual([answer.wrong.reason, answer.none.reason], ["Unauthorized", "Unauthorized"])
      assert.notInclude(inspect(answer, { depth: 20 }) + JSON.stringify(answer) + text, "s3cret")
    })
  )

  it.live("TLS: with its authority it works, without it is Misconfigured", () =>
    Effect.gen(function* () {
      const { ca, url } = yield* ownRedis({ tls: true })
      const driver = yield* make(url, { tls: { ca: ca! } })
      assert.deepStrictEqual(yield* driver.publish([hintOf()]), [{ _tag: "Ok" }])
      const consumer = yield* driver.consumer({ queues: ["q"], lease: LEASE })
      assert.strictEqual((yield* consumer.receive({ max: 1, wait: 0 })).length, 1)
      assert.strictEqual((yield* Effect.flip(make(url))).reason, "Misconfigured")
    })
  )

  it.live("a database that the server does not have is refused, not replaced by database 0", () =>
    Effect.gen(function* () {
      const { url } = yield* ownRedis({ settings: { databases: "2" } })
      const admin = yield* adminOf(`${url}/1`)
      yield* (yield* make(`${url}/1`)).publish([hintOf()])
      assert.strictEqual(yield* Effect.promise(() => admin.exists("{polyqueue}:q:ready")), 1)
      assert.strictEqual((yield* Effect.flip(make(`${url}/2`))).reason, "Misconfigured")
    })
  )

  it.live("it starts without a server, says so, and works as soon as there is one", () =>
    Effect.gen(function* () {
      const server = yield* ownRedis()
      yield* Effect.promise(server.stop)
      const { answer: driver, text } = yield* logsOf(make(server.url))
      assert.match(text, /trying again until there is a connection.*ECONNREFUSED/s)
      assert.strictEqual((yield* Effect.flip(driver.publish([hintOf()]))).reason, "Unavailable")
      const consumer = yield* driver.consumer({ queues: ["q"], lease: LEASE })
      assert.strictEqual((yield* Effect.flip(consumer.receive({ max: 1, wait: 0 }))).reason, "Unavailable")
      yield* Effect.promise(server.start)
      yield* eventually(driver.publish([hintOf()]))
      assert.strictEqual((yield* eventually(consumer.receive({ max: 1, wait: 0 }))).length, 1)
    })
  )

  it.live(
    "kill -9 without persistence: a waiting consumer goes on, what it held is LeaseLost, nothing needs a restart",
    () =>
      Effect.gen(function* () {
        const server = yield* ownRedis()
        const driver = yield* make(server.url)
        const consumer = yield* driver.consumer({ queues: ["q"], lease: LEASE })
        const hint = hintOf()
        yield* driver.publish([hint])
        const held = yield* consumer.receive({ max: 1, wait: 0 })
        const waiting = yield* Effect.forkChild(eventually(consumer.receive({ max: 1, wait: 60_000 })), {
          startImmediately: true
        })
        yield* Effect.promise(server.kill)
        yield* Effect.promise(server.start)
        yield* eventually(driver.publish([hint]))
        const again = yield* Fiber.join(waiting)
        assert.deepStrictEqual(
          again.map((delivery) => delivery.hint),
          [hint]
        )
        assert.deepStrictEqual(yield* consumer.ack(held), [{ _tag: "LeaseLost" }])
        assert.deepStrictEqual(yield* consumer.ack(again), [{ _tag: "Ok" }])
      })
  )

  it.live(
    "FLUSHALL and SCRIPT FLUSH: receipts of the time before touch nothing, publishing again is all it takes",
    () =>
      Effect.gen(function* () {
        const { url } = yield* ownRedis()
        const admin = yield* adminOf(url)
        const driver = yield* make(url)
        const consumer = yield* driver.consumer({ queues: ["q"], lease: LEASE })
        const hints = [hintOf(), hintOf(), hintOf()]
        yield* driver.publish(hints)
        const held = yield* consumer.receive({ max: 2, wait: 0 })
        yield* Effect.promise(() => admin.flushall())
        yield* Effect.promise(() => admin.script("FLUSH"))
        assert.strictEqual(yield* driver.depth("q"), 0)
        yield* driver.publish(hints)
        const again = yield* consumer.receive({ max: 10, wait: 0 })
        assert.strictEqual(again.length, 3)
        const lost: ReadonlyArray<ItemOutcome> = [{ _tag: "LeaseLost" }, { _tag: "LeaseLost" }]
        assert.deepStrictEqual(yield* consumer.ack(held), lost)
        assert.deepStrictEqual(yield* consumer.release(held, 0), lost)
        assert.deepStrictEqual(yield* consumer.extend(held, LEASE), lost)
        assert.strictEqual((yield* consumer.ack(again)).filter(({ _tag }) => _tag === "Ok").length, 3)
      })
  )

  it.live(
    "a server that says nothing: OutcomeUnknown within the deadline, health too, and all is well when it speaks again",
    () =>
      Effect.gen(function* () {
        const server = yield* ownRedis()
        const driver = yield* make(server.url, { commandTimeout: 250 })
        yield* driver.publish([hintOf()])
        server.signal("SIGSTOP")
        yield* Effect.addFinalizer(() => Effect.sync(() => server.signal("SIGCONT")))
        const silent = yield* Effect.flip(driver.publish([hintOf()]))
        assert.strictEqual(silent.reason, "OutcomeUnknown")
        assert.match(
          silent.message,
          /Command timed out/,
          "by the deadline of the command, not by that of the connection"
        )
        const health = yield* driver.health
        assert.deepStrictEqual([health.ok, health.problems.length], [false, 1])
        // The silence ends the connection: from then on nothing is sent, and its outcome is known
        yield* until(Effect.flip(driver.publish([hintOf()])), (error) => error.reason === "Unavailable")
        server.signal("SIGCONT")
        yield* eventually(driver.publish([hintOf()]))
        assert.isTrue((yield* driver.health).ok)
      })
  )

  it.live("what was in flight when the connection is lost is OutcomeUnknown at once, and is not sent again", () =>
    Effect.gen(function* () {
      const server = yield* ownRedis()
      // A deadline that the test would not live to see
      const driver = yield* make(server.url, { commandTimeout: "1 minute" })
      server.signal("SIGSTOP")
      const flying = yield* Effect.forkChild(Effect.flip(driver.publish([hintOf()])), { startImmediately: true })
      yield* Effect.sleep(50)
      yield* Effect.promise(server.kill)
      assert.strictEqual((yield* Fiber.join(flying)).reason, "OutcomeUnknown")
      yield* Effect.promise(server.start)
      assert.strictEqual(yield* eventually(driver.depth("q")), 0)
    })
  )

  it.live("what an interrupted receive had taken goes back at once, not when its lease ends", () =>
    Effect.gen(function* () {
      const server = yield* ownRedis()
      const driver = yield* make(server.url)
      const [first, second] = yield* Effect.forEach([1, 2], () => driver.consumer({ queues: ["q"], lease: LEASE }))
      yield* driver.publish([hintOf()])
      // The claim is sent, and answered only after the interruption
      server.signal("SIGSTOP")
      const fiber = yield* Effect.forkChild(first!.receive({ max: 1, wait: 0 }), { startImmediately: true })
      yield* Effect.sleep(50)
      const interrupting = yield* Effect.forkChild(Fiber.interrupt(fiber), { startImmediately: true })
      server.signal("SIGCONT")
      yield* Fiber.join(interrupting)
      const [again] = yield* second!.receive({ max: 1, wait: 0 })
      assert.strictEqual(again?.deliveryCount, 2, "it was taken once before")
    })
  )

  it.live("a full server refuses to publish with QuotaExceeded, and workers drain it", () =>
    Effect.gen(function* () {
      const { url } = yield* ownRedis()
      const admin = yield* adminOf(url)
      const driver = yield* make(url)
      const consumer = yield* driver.consumer({ queues: ["q"], lease: LEASE })
      yield* driver.publish([hintOf(), hintOf()])
      yield* Effect.promise(() => admin.config("SET", "maxmemory", "1mb"))
      assert.strictEqual((yield* Effect.flip(driver.publish([hintOf()]))).reason, "QuotaExceeded")
      const held = yield* consumer.receive({ max: 2, wait: 0 })
      assert.strictEqual(held.length, 2)
      yield* consumer.extend(held, LEASE)
      yield* consumer.release(held.slice(1), 0)
      yield* consumer.ack(held.slice(0, 1))
      assert.strictEqual(yield* driver.depth("q"), 1)
      assert.match((yield* driver.health).problems.join(), /of its maxmemory/)
    })
  )

  it.live("health and the log of the start see an eviction policy that deletes hints", () =>
    Effect.gen(function* () {
      const { url } = yield* ownRedis({ settings: { "maxmemory-policy": "allkeys-lru", maxmemory: "100mb" } })
      const { answer: driver, text } = yield* logsOf(make(url))
      const health = yield* driver.health
      assert.isFalse(health.ok)
      for (const said of [text, health.problems.join()]) assert.match(said, /allkeys-lru.*noeviction/s)
    })
  )

  it.live("keys that something else uses are Misconfigured", () =>
    Effect.gen(function* () {
      const { url } = yield* ownRedis()
      const admin = yield* adminOf(url)
      yield* Effect.promise(() => admin.set("{polyqueue}:q:ready", "somebody's"))
      assert.strictEqual((yield* Effect.flip((yield* make(url)).publish([hintOf()]))).reason, "Misconfigured")
    })
  )

  it.live("closing leaves no connection, with consumers that wait or have waited", () =>
    Effect.gen(function* () {
      const { url } = yield* ownRedis()
      const admin = yield* adminOf(url)
      const ours = Effect.map(
        Effect.promise(() => admin.call("client", "list")),
        (list) => String(list).split("name=polyqueue").length - 1
      )
      yield* Effect.scoped(
        Effect.gen(function* () {
          const driver = yield* make(url)
          const consumers = yield* Effect.forEach([1, 2], () => driver.consumer({ queues: ["q"], lease: LEASE }))
          yield* consumers[0]!.receive({ max: 1, wait: 50 })
          yield* Effect.forkChild(Effect.exit(consumers[1]!.receive({ max: 1, wait: 60_000 })))
          yield* Effect.sleep(50)
          assert.strictEqual(yield* ours, 3)
        })
      )
      yield* until(ours, (count) => count === 0)
    })
  )

  it.live("closing lets the process end, with a server and without", () =>
    Effect.gen(function* () {
      const server = yield* ownRedis()
      const program = `
        import { Effect, Redacted } from "effect"
        const { make } = await import(process.argv[1])
        await Effect.runPromise(Effect.scoped(Effect.gen(function* () {
          const driver = yield* make({ url: Redacted.make(process.argv[2]) })
          const consumer = yield* driver.consumer({ queues: ["q"], lease: 1000 })
          yield* Effect.ignore(consumer.receive({ max: 1, wait: 20 }))
        })))
        console.log("closed")`
      const source = new URL("../../src/broker/RedisBroker.ts", import.meta.url).href
      const ends = Effect.callback<readonly [number | null, string]>((resume) => {
        const child = spawn(process.execPath, ["--input-type=module", "-e", program, source, server.url], {
          stdio: ["ignore", "pipe", "inherit"]
        })
        let out = ""
        child.stdout.on("data", (chunk: Buffer) => void (out += chunk.toString()))
        child.once("exit", (code) => resume(Effect.succeed([code, out])))
        return Effect.sync(() => void child.kill("SIGKILL"))
      })
      const ended = (answer: readonly [number | null, string]) => {
        assert.strictEqual(answer[0], 0)
        assert.include(answer[1], "closed")
      }
      ended(yield* ends)
      yield* Effect.promise(server.kill)
      ended(yield* ends)
    })
  )
})
