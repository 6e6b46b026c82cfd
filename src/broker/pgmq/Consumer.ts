/**
 * One worker's subscription to some queues: reads all of them in one statement, waits between two looks without holding a
 * connection or a transaction, and settles batches with one statement per queue. What a read took and nobody received,
 * because the receiver was interrupted meanwhile, is given back at once.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { BrokerError } from "../../JobError.ts"
import type { Acked, Consumer, Delivery, ItemOutcome } from "../BrokerDriver.ts"
import type { Bell } from "../Doorbell.ts"
import * as HintMessage from "../HintMessage.ts"
import type { PgmqQueue, Queues } from "./Queues.ts"
import * as Receipt from "./Receipt.ts"
import type { Row, Session } from "./Session.ts"
import * as Statements from "./Statements.ts"

/** What a consumer needs. All times in milliseconds. */
export interface Options {
  readonly session: Session
  readonly queues: Queues
  readonly names: ReadonlyArray<string>
  readonly bell: Bell
  /** What the worker asked for. */
  readonly lease: number
  /** Deliveries are hidden at least this long, whatever the worker asks for. */
  readonly visibility: number
  /** Time between the first two looks; grows while nothing comes. */
  readonly pollInterval: number
  /** Longest wait of one receive. */
  readonly pollFor: number
  readonly maxBatch: number
  /** Which ended jobs' messages are archived instead of deleted. */
  readonly archived: (ended: Acked["ended"]) => boolean
}

const GROWTH = 1.5
/** A hint that no bell announced (another process without NOTIFY, a release, an expired lease) is found this fast. */
const LONGEST_INTERVAL = 1_000

const ok: ItemOutcome = { _tag: "Ok" }
const leaseLost: ItemOutcome = { _tag: "LeaseLost" }

interface Taken {
  readonly deliveries: ReadonlyArray<Delivery>
  /** Messages that are no hints of this queue. */
  readonly foreign: number
}

/** Makes the consumer; nothing is read before the first `receive`. */
export const make = (options: Options): Consumer => {
  const { bell, names, queues, session } = options
  const lastReadAt = session.probed[3] === true
  let turn = 0

  /** Which queue is read first changes from read to read, so that a busy one cannot keep others out. */
  const readOnce = Effect.fnUntraced(function* (sources: ReadonlyArray<PgmqQueue>, max: number) {
    if (sources.length === 0) return { deliveries: [], foreign: 0 }
    const first = turn++ % sources.length
    const order = [...sources.slice(first), ...sources.slice(0, first)]
    const text = Statements.read(
      order.map((source) => source.table),
      lastReadAt
    )
    const rows = yield* session.own({ operation: "receive", subject: described }, text, [
      max,
      Math.max(options.lease, options.visibility)
    ])
    return yield* sorted(rows, order)
  })
  const described = names.length === 1 ? `queue ${names[0]}` : `queues ${names.join(", ")}`

  const sorted = Effect.fnUntraced(function* (rows: ReadonlyArray<Row>, order: ReadonlyArray<PgmqQueue>) {
    const deliveries: Array<Delivery> = []
    const foreign = new Map<PgmqQueue, Array<string>>()
    for (const [index, id, reads, born, message] of rows) {
      const source = order[Number(index)]
      if (source === undefined) continue
      const receipt = Receipt.encode(source.name, { id: String(id), reads: Number(reads), born: String(born) })
      const hint = HintMessage.decode(String(message))
      if (hint?.queue === source.queue) deliveries.push({ hint, receipt, deliveryCount: Number(reads) })
      else foreign.set(source, [...(foreign.get(source) ?? []), receipt])
    }
    for (const [source, receipts] of foreign) {
      yield* settleOne(source, "ack", Statements.remove(source.table), receipts, [])
      yield* Effect.logWarning(
        `removed ${receipts.length} messages from the pgmq queue ${source.name} that are no hints of queue ${source.queue}: ` +
          "somebody else, or a newer version, writes to it"
      )
    }
    return { deliveries, foreign: rows.length - deliveries.length } satisfies Taken
  })

  /** One guarded statement for deliveries of one queue. Answers the receipts that were still good. */
  const settleOne = Effect.fnUntraced(function* (
    source: PgmqQueue,
    operation: string,
    text: string,
    receipts: ReadonlyArray<string>,
    params: ReadonlyArray<unknown>
  ) {
    const known = receipts.flatMap((receipt) => Receipt.decode(source.name, receipt) ?? [])
    if (known.length === 0) return new Set<string>()
    const rows = yield* session.own({ operation, subject: `queue ${source.queue}` }, text, [
      known.map(({ id }) => id),
      known.map(({ reads }) => reads),
      known.map(({ born }) => born),
      ...params
    ])
    return new Set(rows.map(([id, reads]) => `${String(id)}.${String(reads)}`))
  })

  /** Settles a batch, one statement per queue and kind. A statement that fails is the answer of its own items. */
  const settle = Effect.fnUntraced(function* <D extends Delivery>(
    deliveries: ReadonlyArray<D>,
    operation: string,
    kindOf: (delivery: D) => string,
    statement: (kind: string, source: PgmqQueue) => { readonly text: string; readonly params: ReadonlyArray<unknown> }
  ) {
    const outcomes: Array<ItemOutcome> = deliveries.map(() => leaseLost)
    const groups = new Map<string, { readonly queue: string; readonly kind: string; readonly at: Array<number> }>()
    deliveries.forEach((delivery, index) => {
      const { queue } = delivery.hint
      if (!names.includes(queue)) return
      const kind = kindOf(delivery)
      const group = groups.get(`${kind} ${queue}`)
      if (group === undefined) groups.set(`${kind} ${queue}`, { queue, kind, at: [index] })
      else group.at.push(index)
    })
    yield* Effect.forEach(
      groups.values(),
      ({ at, kind, queue }) => {
        const source = queues.named(queue)
        const { params, text } = statement(kind, source)
        const receipts = at.map((index) => deliveries[index]!.receipt)
        return Effect.match(settleOne(source, operation, text, receipts, params), {
          onFailure: (error) => at.forEach((index) => (outcomes[index] = { _tag: "Failed", error })),
          onSuccess: (owned) =>
            at.forEach((index) => {
              const receipt = Receipt.decode(source.name, deliveries[index]!.receipt)
              if (receipt !== undefined && owned.has(`${receipt.id}.${receipt.reads}`)) outcomes[index] = ok
            })
        })
      },
      { concurrency: 3, discard: true }
    )
    return outcomes
  })

  const release: Consumer["release"] = (deliveries, delay) =>
    settle(
      deliveries,
      "release",
      () => "",
      (_, { table }) => ({ text: Statements.release(table), params: [delay] })
    )

  const take = (sources: ReadonlyArray<PgmqQueue>, max: number) =>
    Effect.tapError(readOnce(sources, max), (error) =>
      Effect.sync(() => {
        if (error.reason === "QueueNotFound") names.forEach(queues.forget)
      })
    )

  const receive = ({ max, wait }: { readonly max: number; readonly wait: number }) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function* (): Effect.fn.Return<ReadonlyArray<Delivery>, BrokerError> {
        if (max <= 0) return []
        const until = (yield* Clock.currentTimeMillis) + Math.min(wait, options.pollFor)
        let interval = options.pollInterval
        while (true) {
          const sources = yield* restore(Effect.forEach(names, queues.ensure))
          const { deliveries, foreign } = yield* take(sources, Math.min(max, options.maxBatch))
          if (deliveries.length > 0) {
            return yield* Effect.as(restore(Effect.void), deliveries).pipe(
              // Where that fails too they come back when their time is over
              Effect.onInterrupt(() => Effect.ignore(release(deliveries, 0)))
            )
          }
          const left = until - (yield* Clock.currentTimeMillis)
          if (left <= 0) return []
          if (foreign > 0) continue
          yield* restore(bell.wait(Math.min(interval, left)))
          interval = Math.max(interval, Math.min(interval * GROWTH, LONGEST_INTERVAL))
        }
      })
    )

  return {
    // A look that finds nothing every second is no news for a trace
    receive: (request) => Effect.withTracerEnabled(receive(request), false),
    extend: (deliveries, lease) =>
      settle(
        deliveries,
        "extend",
        () => "",
        (_, { table }) => ({ text: Statements.extend(table), params: [Math.max(lease, options.visibility)] })
      ),
    ack: (deliveries) =>
      settle(
        deliveries,
        "ack",
        (delivery: Acked) => (options.archived(delivery.ended) ? "archive" : "delete"),
        (kind, { name, table }) =>
          kind === "archive"
            ? { text: Statements.archive(table), params: [name] }
            : { text: Statements.remove(table), params: [] }
      ),
    release
  }
}
