/**
 * The smallest broker that carries hints and keeps the whole contract: maps in memory. It exists to try the contract
 * suite itself, in its right form and in forms that break one promise each.
 */
import { Clock, Deferred, Effect, Exit, Ref } from "effect"
import type {
  BrokerDriver,
  Capabilities,
  Consumer,
  Delivery,
  Hint,
  ItemOutcome
} from "../../src/broker/BrokerDriver.ts"
import { BrokerError } from "../../src/JobError.ts"

export const capabilities: Capabilities = {
  name: "reference",
  carriesHints: true,
  transactionalPublish: false,
  idempotentPublish: true,
  fenced: true,
  priority: true,
  maxBatch: 50,
  maxLease: undefined,
  maxHold: undefined,
  maxReleaseDelay: undefined,
  depth: "exact"
}

export const MISSING = "missing"

/** A promise that can be broken on purpose. */
export type Flaw =
  | "acks nothing"
  | "answers too many"
  | "ignores the queue"
  | "delivers to everybody"
  | "orders by arrival"
  | "doubles a hint"
  | "keeps the oldest attempt"
  | "loses what an interrupted receive took"
  | "purges nothing"
  | "never expires"
  | "extends nothing"
  | "extends with a stale receipt"
  | "acks with a stale receipt"
  | "releases with a stale receipt"
  | "fails the batch of a lost lease"
  | "answers in reverse order"
  | "answers one outcome only"
  | "releases after a long time"
  | "releases at once, whatever the delay"
  | "waits for ever"
  | "is never healthy"
  | "counts nothing"
  | "makes missing queues"
  | "throws in an outage"
  | "forgets at a restart"
  | "answers something for nothing"
  | "refuses a second publication"
  | "cannot be interrupted"
  | "sleeps through what is published"
  | "loses one in a hundred"

interface Entry {
  hint: Hint
  order: number
  visibleAt: number
  receipt: string | undefined
  count: number
}

const ok: ItemOutcome = { _tag: "Ok" }
const lost: ItemOutcome = { _tag: "LeaseLost" }
const error = (reason: BrokerError["reason"], operation: string) =>
  new BrokerError({ reason, operation, message: `${operation}: ${reason}` })

export const make = Effect.fnUntraced(function* (...flaws: ReadonlyArray<Flaw>) {
  const has = (flaw: Flaw) => flaws.includes(flaw)
  const down = yield* Ref.make(false)
  const entries = new Set<Entry>()
  const byJob = new Map<string, Entry>()
  const byReceipt = new Map<string, Entry>()
  let order = 0
  let published = 0
  let changed = Deferred.makeUnsafe<void>()
  /** Wakes receives that wait. */
  const wake = Effect.sync(() => {
    const before = changed
    changed = Deferred.makeUnsafe()
    Deferred.doneUnsafe(before, Exit.void)
  })

  const add = (entry: Entry) => {
    entries.add(entry)
    byJob.set(entry.hint.jobId, entry)
  }
  const drop = (entry: Entry) => {
    entries.delete(entry)
    if (byJob.get(entry.hint.jobId) === entry) byJob.delete(entry.hint.jobId)
    if (entry.receipt !== undefined) byReceipt.delete(entry.receipt)
  }
  const setReceipt = (entry: Entry, receipt: string | undefined) => {
    if (entry.receipt !== undefined) byReceipt.delete(entry.receipt)
    entry.receipt = receipt
    if (receipt !== undefined) byReceipt.set(receipt, entry)
  }

  const guard = <A>(operation: string, effect: Effect.Effect<A, BrokerError>) =>
    Effect.flatMap(Ref.get(down), (away) => {
      if (!away) return effect
      return has("throws in an outage")
        ? Effect.die(new Error("connection refused"))
        : Effect.fail(error("Unavailable", operation))
    })

  const answer = (outcomes: ReadonlyArray<ItemOutcome>): ReadonlyArray<ItemOutcome> => {
    if (has("answers something for nothing") && outcomes.length === 0) return [ok]
    if (has("answers in reverse order")) return [...outcomes].reverse()
    return has("answers one outcome only") ? outcomes.slice(0, 1) : outcomes
  }

  const publishOne = (hint: Hint): ItemOutcome => {
    if (hint.queue === MISSING && !has("makes missing queues")) {
      return { _tag: "Failed", error: error("QueueNotFound", "publish") }
    }
    const known = byJob.get(hint.jobId)
    if (known !== undefined && has("refuses a second publication")) {
      return { _tag: "Failed", error: error("MessageRejected", "publish") }
    }
    if (has("loses one in a hundred") && published++ % 100 === 99) return ok
    if (known === undefined || has("doubles a hint")) {
      add({ hint, order: order++, visibleAt: 0, receipt: undefined, count: 0 })
    } else if (!has("keeps the oldest attempt")) known.hint = hint
    return ok
  }

  const take = (queues: ReadonlyArray<string>, max: number, lease: number, now: number): ReadonlyArray<Delivery> => {
    const due = Array.from(entries).filter(
      (entry) =>
        (has("ignores the queue") || queues.includes(entry.hint.queue)) &&
        (entry.visibleAt <= now || has("delivers to everybody")) &&
        !(has("never expires") && entry.receipt !== undefined)
    )
    due.sort((a, b) => (has("orders by arrival") ? 0 : a.hint.priority - b.hint.priority) || a.order - b.order)
    return due.slice(0, has("answers too many") ? max + 1 : max).map((entry) => {
      entry.visibleAt = now + lease
      const receipt = crypto.randomUUID()
      setReceipt(entry, receipt)
      entry.count++
      return { hint: entry.hint, receipt, deliveryCount: entry.count }
    })
  }

  /** Applies to the entry behind a receipt; `stale`: whether a receipt of the past is good enough. */
  const settle =
    (operation: string, stale: boolean, apply: (entry: Entry, now: number) => void) =>
    (deliveries: ReadonlyArray<Delivery>) =>
      guard(
        operation,
        Effect.gen(function* () {
          const now = yield* Clock.currentTimeMillis
          const outcomes = deliveries.map((delivery) => {
            const entry = byReceipt.get(delivery.receipt) ?? (stale ? byJob.get(delivery.hint.jobId) : undefined)
            if (entry === undefined) return lost
            apply(entry, now)
            return ok
          })
          yield* wake
          if (has("fails the batch of a lost lease") && outcomes.includes(lost)) {
            return yield* error("Unexpected", operation)
          }
          return answer(outcomes)
        })
      )

  const receive = (queues: ReadonlyArray<string>, lease: number): Consumer["receive"] =>
    Effect.fnUntraced(function* ({ max, wait }) {
      const until = (yield* Clock.currentTimeMillis) + (has("waits for ever") ? 3_600_000 : wait)
      while (true) {
        const now = yield* Clock.currentTimeMillis
        const woken = Deferred.await(changed)
        const got = yield* guard(
          "receive",
          Effect.sync(() => take(queues, max, lease, now))
        )
        if (got.length > 0) {
          if (!has("loses what an interrupted receive took")) return got
          // Gone for good when interrupted here, as with a client that deletes what it reads
          const kept = got.flatMap((delivery) => byReceipt.get(delivery.receipt) ?? [])
          kept.forEach(drop)
          yield* Effect.sleep(20)
          for (const entry of kept) {
            add(entry)
            setReceipt(entry, entry.receipt)
          }
          return got
        }
        if (now >= until) return []
        if (has("sleeps through what is published")) yield* Effect.sleep(wait)
        else yield* Effect.timeoutOption(woken, Math.max(1, Math.min(until, nextVisible(now)) - now))
      }
    })

  const nextVisible = (now: number) => {
    let next = Infinity
    for (const { visibleAt } of entries) if (visibleAt > now) next = Math.min(next, visibleAt)
    return next
  }

  const consumer = (queues: ReadonlyArray<string>, lease: number): Consumer => ({
    receive: (options) => {
      const receiving = receive(queues, lease)(options)
      return has("cannot be interrupted") ? Effect.uninterruptible(receiving) : receiving
    },
    extend: (deliveries, extension) =>
      settle("extend", has("extends with a stale receipt"), (entry, now) => {
        if (!has("extends nothing")) entry.visibleAt = now + extension
      })(deliveries),
    ack: settle("ack", has("acks with a stale receipt"), (entry) => {
      if (!has("acks nothing")) drop(entry)
    }),
    release: (deliveries, delay) =>
      settle("release", has("releases with a stale receipt"), (entry, now) => {
        const long = has("releases after a long time") ? 3_600_000 : 0
        entry.visibleAt = now + long + (has("releases at once, whatever the delay") ? 0 : delay)
        setReceipt(entry, undefined)
      })(deliveries)
  })

  const driver: BrokerDriver = {
    capabilities,
    publish: (hints) =>
      guard(
        "publish",
        Effect.tap(
          Effect.sync(() => answer(hints.map(publishOne))),
          () => wake
        )
      ),
    consumer: ({ lease, queues }) =>
      queues.includes(MISSING) && !has("makes missing queues")
        ? Effect.fail(error("QueueNotFound", "consumer"))
        : Effect.succeed(consumer(queues, lease)),
    depth: (queue) =>
      Effect.sync(() =>
        has("counts nothing") ? 0 : Array.from(entries).filter((entry) => entry.hint.queue === queue).length
      ),
    purge: (queue) =>
      Effect.sync(() => {
        if (has("purges nothing")) return
        for (const entry of Array.from(entries)) if (entry.hint.queue === queue) drop(entry)
      }),
    health: Effect.map(Ref.get(down), (away) =>
      away || has("is never healthy")
        ? { ok: false, problems: ["The reference broker is away: wait for it."] }
        : { ok: true, problems: [] }
    )
  }

  return {
    driver,
    missingQueue: MISSING,
    lease: 300,
    outage: Effect.asVoid(Effect.acquireRelease(Effect.andThen(Ref.set(down, true), wake), () => Ref.set(down, false))),
    restart: Effect.sync(() => {
      if (has("forgets at a restart")) Object.assign(driver, { publish: () => Effect.never })
    })
  }
})
