/**
 * How a consumer waits without asking again and again: it blocks on the `wake` markers of its queues, on a connection of
 * its own. A marker wakes one consumer; whoever took it looks, and leaves a new one if there is more.
 *
 * A blocked wait cannot be taken back, so it may take a marker when nobody listens any more. Such a marker is given back:
 * otherwise it would wake nobody while hints are ready. Where even that fails, the next look comes within `SLICE`.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { BrokerError } from "../../JobError.ts"
import * as Connection from "./Connection.ts"
import { mayPass } from "./Errors.ts"
import type { Keys } from "./Keys.ts"
import type { Settings } from "./Settings.ts"

/** The longest single block, in ms: whatever is lost here costs no more than this. */
export const SLICE = 2_000

/** Between two looks while blocking is not possible (the connection is down), in ms. */
const POLL = 1_000

/** One consumer's bell. */
export interface WakeUp {
  /** Waits until there may be something to look at, at most `wait` and `SLICE` milliseconds. */
  readonly wait: (wait: number) => Effect.Effect<void, BrokerError>
  /** Somebody looked after the last wait: its marker has done its work. */
  readonly looked: () => void
  /** Nobody will look after the last wait: its marker is for somebody else. */
  readonly giveBack: Effect.Effect<void>
}

/** Opens the connection to block on; `main` gives markers back. */
export const make = Effect.fnUntraced(function* (options: {
  readonly settings: Settings
  readonly main: Connection.Connection
  readonly keys: Keys
  readonly queues: ReadonlyArray<string>
}): Effect.fn.Return<WakeUp, BrokerError, Scope.Scope> {
  const { keys, main, queues, settings } = options
  const scope = yield* Effect.scope
  const wakeKeys = queues.map(keys.wake)
  /** The block in flight, shared by everybody who waits. */
  let blocked: Fiber.Fiber<void, BrokerError> | undefined = undefined
  let listeners = 0
  /** The marker that was taken and not yet answered by a look. */
  let taken: string | undefined = undefined

  const giveBack = Effect.suspend(() => {
    const key = taken
    taken = undefined
    return key === undefined ? Effect.void : Effect.ignore(main.call("wake", "zadd", key, 0, "0"))
  })
  // Added first, so that it runs last: once the connection is closed, nothing more can be taken
  yield* Effect.addFinalizer(() => giveBack)
  const connection = yield* Connection.open(settings, { name: `polyqueue:${settings.prefix}:wait`, blocksFor: SLICE })

  const block = connection.call("wait", "bzpopmin", ...wakeKeys, SLICE / 1_000).pipe(
    Effect.map((reply) => {
      if (Array.isArray(reply) && typeof reply[0] === "string") taken = reply[0]
    }),
    Effect.ensuring(
      Effect.suspend(() => {
        blocked = undefined
        return listeners === 0 ? giveBack : Effect.void
      })
    )
  )
  const join = Effect.suspend(() =>
    blocked === undefined
      ? Effect.flatMap(Effect.forkIn(block, scope), (fiber) => {
          blocked = fiber
          return Fiber.join(fiber)
        })
      : Fiber.join(blocked)
  )

  return {
    wait: (wait) =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          listeners += 1
        }),
        () => Effect.timeoutOption(join, wait),
        () =>
          Effect.sync(() => {
            listeners -= 1
          })
      ).pipe(
        Effect.asVoid,
        Effect.catchIf(mayPass, () => Effect.sleep(Math.min(wait, POLL)))
      ),
    looked: () => {
      taken = undefined
    },
    giveBack
  }
})
