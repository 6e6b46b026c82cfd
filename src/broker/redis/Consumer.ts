/**
 * One worker's subscription to some queues. `receive` looks, and while there is nothing it waits to be woken, or for the
 * next hint that falls due, whichever is first. What an interrupted `receive` had taken goes back at once.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { BrokerError } from "../../JobError.ts"
import type { Consumer, Delivery, ItemOutcome } from "../BrokerDriver.ts"
import type { Connection } from "./Connection.ts"
import type { Keys } from "./Keys.ts"
import * as Message from "./Message.ts"
import * as Scripts from "./Scripts.ts"
import type { Settings } from "./Settings.ts"
import * as WakeUp from "./WakeUp.ts"

/** What a look brought. */
interface Claimed {
  readonly deliveries: ReadonlyArray<Delivery>
  /** Milliseconds until something falls due; -1: nothing will. */
  readonly due: number
}

const LEASE_LOST: ItemOutcome = { _tag: "LeaseLost" }
const OK: ItemOutcome = { _tag: "Ok" }

/** Subscribes until the scope closes. What it still holds then, and has not settled, comes back when its lease ends. */
export const make = Effect.fnUntraced(function* (options: {
  readonly settings: Settings
  readonly connection: Connection
  readonly keys: Keys
  readonly queues: ReadonlyArray<string>
  readonly lease: number
  readonly maxBatch: number
}): Effect.fn.Return<Consumer, BrokerError, Scope.Scope> {
  const { connection, keys, lease, settings } = options
  const queues = [...new Set(options.queues)]
  const wakeUp = yield* WakeUp.make({ settings, main: connection, keys, queues })
  let looks = 0

  /** The queues, beginning with another one at each look, so that a full one starves no other. */
  const inTurn = (): ReadonlyArray<string> => {
    const first = looks++ % queues.length
    return [...queues.slice(first), ...queues.slice(0, first)]
  }

  const claim = Effect.fnUntraced(function* (max: number) {
    const from = inTurn()
    const token = globalThis.crypto.randomUUID()
    const { deliveries, dropped, due } = yield* Effect.flatMap(
      connection.run(Scripts.claim, keys.of(from), [token, max, lease]),
      (reply) => readReply(reply, from, token)
    )
    wakeUp.looked()
    if (dropped > 0) {
      yield* Effect.logWarning(`redis: dropped ${dropped} entries of ${from.join(", ")} that are no hints of ours`)
    }
    return { deliveries, due } satisfies Claimed
  })

  /** Sends a script about deliveries, as many at a time as one may hold up the server, and reads one answer per item. */
  const settle = (script: Scripts.Script, deliveries: ReadonlyArray<Delivery>, number: number) =>
    deliveries.length <= options.maxBatch
      ? settleBatch(script, deliveries, number)
      : Effect.map(
          Effect.forEach(
            Array.from({ length: Math.ceil(deliveries.length / options.maxBatch) }, (_, n) =>
              deliveries.slice(n * options.maxBatch, (n + 1) * options.maxBatch)
            ),
            (batch) => settleBatch(script, batch, number)
          ),
          (answers) => answers.flat()
        )

  const settleBatch = Effect.fnUntraced(function* (
    script: Scripts.Script,
    deliveries: ReadonlyArray<Delivery>,
    number: number
  ) {
    if (deliveries.length === 0) return []
    const of = [...new Set(deliveries.map((delivery) => delivery.hint.queue))]
    const args = deliveries.flatMap(({ hint, receipt }) => [
      of.indexOf(hint.queue),
      hint.jobId,
      receipt,
      Message.encode(hint)
    ])
    const reply = yield* connection.run(script, keys.of(of), [number, ...args])
    if (!Array.isArray(reply) || reply.length !== deliveries.length) return yield* unexpected(script)
    return reply.map((owned) => (owned === 1 ? OK : LEASE_LOST))
  })

  /** A claim that was sent is answered, even when nobody wants it any more: then what it took is given back. */
  const look = (max: number): Effect.Effect<Claimed, BrokerError> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(claim(max), (claimed) =>
        restore(Effect.succeed(claimed)).pipe(
          // Where this fails the leases end, which is the same but later
          Effect.onInterrupt(() => Effect.ignore(settle(Scripts.release, claimed.deliveries, 0)))
        )
      )
    )

  const receive = Effect.fnUntraced(
    function* ({ max, wait }: { readonly max: number; readonly wait: number }) {
      const most = Math.min(max, options.maxBatch)
      if (most < 1 || queues.length === 0) return yield* Effect.as(Effect.sleep(wait), [])
      const end = (yield* now) + wait
      while (true) {
        const { deliveries, due } = yield* look(most)
        const left = end - (yield* now)
        if (deliveries.length > 0 || left <= 0) return deliveries
        yield* wakeUp.wait(due < 0 ? left : Math.min(left, due))
      }
    },
    Effect.onInterrupt(() => wakeUp.giveBack)
  )

  return {
    receive,
    ack: (deliveries) => settle(Scripts.ack, deliveries, 0),
    release: (deliveries, delay) => settle(Scripts.release, deliveries, Math.max(0, Math.ceil(delay))),
    extend: (deliveries, lease) => settle(Scripts.extend, deliveries, Math.ceil(lease))
  }
})

/** Milliseconds on a clock that nobody sets. */
const now = Effect.map(Clock.currentTimeNanos, (nanos) => Number(nanos) / 1_000_000)

const unexpected = ({ name }: Scripts.Script): Effect.Effect<never, BrokerError> =>
  Effect.fail(
    new BrokerError({ reason: "Unexpected", operation: name, message: `redis: the script ${name} answered otherwise` })
  )

/** Reads what `claim` answers. */
const readReply = Effect.fnUntraced(function* (reply: unknown, queues: ReadonlyArray<string>, receipt: string) {
  if (!Array.isArray(reply)) return yield* unexpected(Scripts.claim)
  const [due, dropped, ...items] = reply as ReadonlyArray<unknown>
  const deliveries: Array<Delivery> = []
  for (let at = 0; at < items.length; at += 4) {
    const [index, jobId, message, deliveryCount] = items.slice(at, at + 4)
    const queue = queues[Number(index)]
    const hint = queue === undefined ? undefined : Message.decode(queue, String(jobId), String(message))
    if (hint === undefined) return yield* unexpected(Scripts.claim)
    deliveries.push({ hint, receipt, deliveryCount: Number(deliveryCount) })
  }
  return { deliveries, due: Number(due), dropped: Number(dropped) }
})
