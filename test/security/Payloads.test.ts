/**
 * Payload bombs: what cannot be stored is a typed error of the enqueue, before any statement, and without the value; what can
 * is stored as it is. The same in memory and on Postgres.
 */
import { assert, it, layer } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import { Broker, Job, JobStore, Polyqueue, type Ports, Worker } from "../../src/index.ts"
import { describePostgres, layerFresh } from "../support/Postgres.ts"

class Any extends Job.make("Any", { payload: Schema.Unknown }) {}
class Shaped extends Job.make("Shaped", {
  payload: { n: Schema.optionalKey(Schema.Number), text: Schema.optionalKey(Schema.String) }
}) {}

const canary = "c4n4ry"
const trap = (): never => {
  throw new Error("a trap")
}
const nested = (levels: number): unknown => {
  let value: unknown = canary
  for (let i = 0; i < levels; i++) value = i % 2 === 0 ? [value] : { value }
  return value
}
const cycle = () => {
  const value: Record<string, unknown> = { secret: canary }
  value["self"] = value
  return value
}

const bombs: Readonly<Record<string, () => unknown>> = {
  NUL: () => ({ secret: `${canary}\u0000` }),
  "NUL in a key": () => ({ [`${canary}\u0000`]: 1 }),
  "a lone surrogate": () => [`${canary}\ud800`],
  "a lone surrogate in a key": () => ({ [`${canary}\udfff`]: 1 }),
  "a lone surrogate after backslashes": () => [`\\\\${canary}\\\udc00`],
  "1,001 levels": () => nested(1_001),
  "100,000 levels": () => nested(100_000),
  "2 MiB": () => canary.repeat(350_000),
  "2 MiB of keys": () => Object.fromEntries(Array.from({ length: 120_000 }, (_, i) => [`${canary}${i}`, 0])),
  "a megabyte that is three in UTF-8": () => "語".repeat(1_000_000),
  "a cycle": cycle,
  "a getter that throws": () => Object.defineProperty({ secret: canary }, "x", { enumerable: true, get: trap }),
  "a proxy of traps": () => new Proxy({}, { get: trap, has: trap, getPrototypeOf: trap, ownKeys: trap }),
  "a toJSON that throws": () => ({ secret: canary, toJSON: trap }),
  BigInt: () => ({ secret: canary, n: 1n }),
  NaN: () => ({ secret: canary, n: Number.NaN }),
  Infinity: () => ({ secret: canary, n: -Infinity }),
  "a function": () => ({ secret: canary, f: trap }),
  "a symbol": () => ({ secret: canary, s: Symbol("s") })
}

/** Unusual, and storable. */
const oddities: Readonly<Record<string, unknown>> = {
  "a surrogate pair": "😀",
  "an escaped NUL that is text": "\\u0000",
  "an escaped surrogate that is text": "\\\\ud800",
  "999 levels": nested(999),
  "control characters": "\u0001\u001b[31m\r\n\u2028",
  "the largest safe integer": Number.MAX_SAFE_INTEGER,
  "the smallest number": 5e-324,
  "a key of nothing": { "": { "": null } },
  "text that is SQL": `'; drop table polyqueue.polyqueue_jobs; -- $1 %s \\`
}

const suite = <E>(name: string, live: Layer.Layer<Polyqueue | Ports, E>) =>
  layer(live, { timeout: "60 seconds" })(`a payload on ${name}`, (it) => {
    it.effect.each(Object.keys(bombs))("with %s is refused, typed and without its value", (bomb) =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Any.enqueue(bombs[bomb]!()))
        assert.strictEqual(error._tag, "EnqueueError")
        assert.include(["InvalidPayload", "PayloadTooLarge"], error.reason)
        assert.notInclude(`${error.message} ${JSON.stringify(error)} ${String(error.cause)}`, canary)
        // No statement was sent: the message is ours, and the id is nobody's
        assert.notMatch(error.message, /PostgreSQL cannot store/)
        assert.isUndefined(error.cause)
        assert.strictEqual((yield* Effect.flip(Polyqueue.use((queue) => queue.get(error.id))))._tag, "JobNotFound")
      })
    )

    it.effect.each(Object.keys(oddities))("with %s comes back as it was", (oddity) =>
      Effect.gen(function* () {
        const { id } = yield* Any.enqueue(oddities[oddity])
        const [record] = yield* JobStore.use((store) => store.get([id]))
        assert.deepStrictEqual(record?.payload, oddities[oddity])
      })
    )

    it.effect("in a batch fails the batch, and nothing of it is stored", () =>
      Effect.gen(function* () {
        const before = yield* JobStore.use((store) => store.count({ type: "Shaped" }))
        const error = yield* Effect.flip(Shaped.enqueueAll([{ text: "fine" }, { text: "\u0000" }, { text: "fine" }]))
        assert.strictEqual(error.reason, "InvalidPayload")
        assert.strictEqual(yield* JobStore.use((store) => store.count({ type: "Shaped" })), before)
      })
    )

    it.effect.each(["queue", "tags", "key"] as const)("with a hostile %s is refused before any statement", (where) =>
      Effect.gen(function* () {
        for (const text of ["\u0000", "\ud800", "", "x".repeat(100_000)]) {
          const options =
            where === "queue" ? { queue: text } : where === "tags" ? { tags: [text] } : { idempotencyKey: text }
          const error = yield* Effect.flip(Shaped.enqueue({}, options))
          assert.strictEqual(error.reason, "InvalidOptions")
          assert.isBelow(error.message.length, 500)
        }
      })
    )

    it.effect.each(["a\nb", "a\r\nINFO forged", "\u001b[2J", "\u009b31m", "a\u2028b", "\u0007"])(
      "with a control character in a name is refused: %j",
      (text) =>
        Effect.gen(function* () {
          for (const options of [{ queue: text }, { tags: [text] }]) {
            const error = yield* Effect.flip(Shaped.enqueue({}, options))
            assert.strictEqual(error.reason, "InvalidOptions")
            assert.include(error.message, "control character")
            assert.notInclude(error.message, text)
          }
        })
    )
  })

suite("the memory store", Polyqueue.layerMemory)
describePostgres("on a server", () => {
  suite("Postgres", Polyqueue.layerPostgres.pipe(Layer.provide(Broker.layerPostgres), Layer.provide(layerFresh())))
})

it.live("keys that the schema does not name, and what its prototype would name, never reach the handler", () => {
  const seen: Array<object> = []
  class Newer extends Job.make("Shaped", { payload: Schema.Unknown }) {}
  const Live = Worker.layer([Shaped]).pipe(
    Layer.provide(Shaped.toLayer((payload) => Effect.sync(() => void seen.push(payload)))),
    Layer.provideMerge(Polyqueue.layerMemory)
  )
  const payload: unknown = JSON.parse(
    '{"n":1,"isAdmin":true,"__proto__":{"text":"inherited"},"constructor":{},"toString":"x"}'
  )
  return Effect.gen(function* () {
    const { id } = yield* Newer.enqueue(payload)
    yield* Shaped.handle(id).await
    assert.deepStrictEqual(seen, [{ n: 1 }])
    assert.sameMembers(Reflect.ownKeys(seen[0]!), ["n"])
    assert.strictEqual(Object.getPrototypeOf(seen[0]), Object.prototype)
  }).pipe(Effect.provide(Live))
})
