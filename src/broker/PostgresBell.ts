/**
 * LISTEN and NOTIFY for the Postgres broker, on sessions of its own: a listener that starts with the first consumer and
 * comes back after every drop, and a notifier that sends what piled up, never more often than the throttle allows. While
 * it rests, a statement of somebody else may carry the next notification instead. No job needs it in order to run; a
 * notification that is lost costs one poll.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import type { Announcement } from "../store/Announcer.ts"

/** The bell between processes. */
export interface PostgresBell {
  /** Adds queues to the next notification. Never waits, never fails. */
  readonly ring: (queues: Iterable<string>) => void
  /** The next notification, for a statement to carry; undefined unless the bell rests. */
  readonly announce: (queue: string) => Announcement | undefined
  /** Starts to listen, once; answers at once. */
  readonly listen: Effect.Effect<void>
  /** Why other processes are not heard at the moment, in sentences. */
  readonly problems: Effect.Effect<ReadonlyArray<string>>
}

/** What a bell needs. */
export interface Options {
  /** The client whose settings the own sessions are made from; undefined when the ambient one is not a `PgClient`. */
  readonly client: PgClient.PgClient | undefined
  readonly channel: string
  /** Least time between two notifications, in milliseconds. */
  readonly throttle: number
  /** Called with the queues that another process rang for, or with undefined when any queue may have been rung. */
  readonly heard: (queues: ReadonlyArray<string> | undefined) => void
}

/** Neither listens nor notifies. */
export const silent: PostgresBell = {
  ring: () => undefined,
  announce: () => undefined,
  listen: Effect.void,
  problems: Effect.succeed([])
}

/** Postgres refuses payloads of 8,000 bytes. */
const MAX_PAYLOAD = 7_900
const MAX_BACKOFF = 30_000
/** How long the end of the bell waits for what was rung and not sent yet, as by a process that enqueues once and ends. */
const CLOSE_WAIT = 1_000
const PROBE_WAIT = 5_000
/** How long nothing is announced after the database refused it, which costs its enqueue a second statement. */
const REFUSED_WAIT = 30_000

/** The sender, then the queues. Anything else on the channel (`NOTIFY polyqueue` by hand) rings for every queue. */
const Payload = Schema.fromJsonString(Schema.Array(Schema.String))
const decodePayload = Schema.decodeUnknownOption(Payload)

const encodePayload = (sender: string, queues: ReadonlyArray<string>): string => {
  const payload = JSON.stringify([sender, ...queues])
  return new TextEncoder().encode(payload).length > MAX_PAYLOAD ? "" : payload
}

/** Makes the bell; its fibers and sessions end with the scope. */
export const make = Effect.fnUntraced(function* (options: Options): Effect.fn.Return<PostgresBell, never, Scope.Scope> {
  if (options.client === undefined) {
    const problem = "Other processes are not heard: the SQL client is not a PgClient. Jobs are found by polling."
    yield* Effect.logWarning(problem)
    return { ...silent, problems: Effect.succeed([problem]) }
  }
  // Sessions open when first used and close when idle: a process that only enqueues never holds a listening one
  const settings = {
    ...options.client.config,
    multiplex: false,
    minConnections: 0,
    maxConnections: 2,
    applicationName: "polyqueue doorbell"
  }
  // A pool whose scope is closing opens no session any more, and the last notification may need one
  const sessions = yield* Scope.make()
  yield* Effect.addFinalizer(() => Scope.close(sessions, Exit.void))
  const own = yield* PgClient.make(settings).pipe(
    Effect.provideService(Scope.Scope, sessions),
    Effect.provideServiceEffect(Reactivity.Reactivity, Reactivity.make),
    Effect.orDie // a pool without a minimum connects to nothing here
  )
  const scope = yield* Effect.scope
  const clock = yield* Clock.Clock
  const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const sender = globalThis.crypto.randomUUID()
  const problems = new Map<"listen" | "notify", string>()
  const pending = new Set<string>()
  let sending: ReadonlyArray<string> = []
  const wake = Latch.makeUnsafe(false)
  let restsUntil = -Infinity
  let announcesFrom = -Infinity
  let announcing = false
  let listening = false
  let failures = 0

  /** Warns when the trouble begins, not each time it is met. */
  const trouble = Effect.fnUntraced(function* (where: "listen" | "notify", what: string, cause?: Cause.Cause<unknown>) {
    if (!problems.has(where)) yield* Effect.logWarning(what, ...(cause === undefined ? [] : [cause]))
    problems.set(where, what)
  })

  const heardSelf = Latch.makeUnsafe(false)

  /** On a session that was cut without a word a statement never ends. */
  const notify = (payload: string) =>
    Effect.timeoutOrElse(own.notify(options.channel, payload), {
      duration: PROBE_WAIT,
      orElse: () => Effect.fail(`no answer within ${PROBE_WAIT / 1_000} s`)
    })

  /** A pooler in transaction mode confirms LISTEN and delivers nothing: ring ourselves, and see whether it arrives. */
  const probe = Effect.gen(function* () {
    heardSelf.closeUnsafe()
    yield* notify(encodePayload(sender, []))
    if (Option.isSome(yield* Effect.timeoutOption(heardSelf.await, PROBE_WAIT))) return
    yield* trouble(
      "listen",
      "LISTEN was confirmed, but no notification arrives. Is there a pooler in transaction mode? Give Polyqueue a " +
        "direct connection, or set `listen: false`. Until then jobs are found by polling."
    )
  })

  const hear = Effect.fnUntraced(function* (notifications: Queue.Dequeue<{ readonly payload: string }, unknown>) {
    while (true) {
      const [from, ...queues] = Option.getOrElse(decodePayload((yield* Queue.take(notifications)).payload), () => [])
      if (from === undefined) options.heard(undefined)
      else if (from !== sender) options.heard(queues)
      else if (queues.length === 0) {
        failures = 0
        problems.delete("listen")
        heardSelf.openUnsafe()
      }
    }
  })

  const listenUntilDropped = Effect.scoped(
    Effect.gen(function* () {
      const notifications = yield* own.listen(options.channel)
      // What was rung while nobody listened is found by one look at the table
      options.heard(undefined)
      yield* Effect.all([hear(notifications), probe], { concurrency: 2, discard: true })
    })
  )

  const backoff = Effect.flatMap(Random.next, (random) =>
    Effect.sleep(Math.min(MAX_BACKOFF, 500 * 2 ** Math.min(failures++, 10)) * (0.8 + 0.4 * random))
  )

  const listener = listenUntilDropped.pipe(
    Effect.catchCause((cause) =>
      Effect.andThen(
        trouble("listen", "Cannot listen for new jobs: they are found by polling until this succeeds again.", cause),
        backoff
      )
    ),
    Effect.forever
  )

  const ring = (queues: Iterable<string>) => {
    for (const queue of queues) pending.add(queue)
    wake.openUnsafe()
  }

  const announce = (queue: string): Announcement | undefined => {
    const isBusy = announcing || pending.size > 0 || sending.length > 0
    if (isBusy || now() < Math.max(restsUntil, announcesFrom)) return undefined
    announcing = true
    return {
      channel: options.channel,
      payload: encodePayload(sender, [queue]),
      end: (announced) => {
        announcing = false
        if (announced === "sent") restsUntil = now() + options.throttle
        else if (announced === "refused") announcesFrom = now() + REFUSED_WAIT
      }
    }
  }

  const notifier = Effect.gen(function* () {
    yield* wake.await
    const rest = restsUntil - now()
    if (rest > 0) yield* Effect.sleep(rest)
    wake.closeUnsafe()
    sending = [...pending]
    pending.clear()
    yield* notify(encodePayload(sender, sending))
    sending = []
    problems.delete("notify")
    restsUntil = now() + options.throttle
  }).pipe(
    Effect.catchCause((cause) =>
      Effect.andThen(
        trouble("notify", "Cannot notify other processes of new jobs: they find them by polling.", cause),
        Effect.andThen(
          Effect.sleep(1_000),
          Effect.sync(() => ring(sending))
        )
      )
    ),
    Effect.forever
  )

  const notifying = yield* Effect.forkScoped(notifier)
  // A finaliser cannot be timed out from inside: its wait has a fiber of its own
  yield* Effect.addFinalizer(() =>
    Effect.gen(function* () {
      yield* Fiber.interrupt(notifying)
      const unsent = [...new Set([...sending, ...pending])]
      if (unsent.length > 0) yield* own.notify(options.channel, encodePayload(sender, unsent))
    }).pipe(
      Effect.ignore,
      Effect.timeoutOption(CLOSE_WAIT),
      Effect.forkDetach({ startImmediately: true }),
      Effect.flatMap(Fiber.join)
    )
  )
  return {
    ring,
    announce,
    listen: Effect.suspend(() => {
      if (listening) return Effect.void
      listening = true
      return Effect.asVoid(Effect.forkIn(listener, scope))
    }),
    problems: Effect.sync(() => [...problems.values()])
  }
})
