/**
 * What a worker says of its health: whether its loops turn, whether it drains, and whether jobs that it could run are due
 * while it claims none.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type LoopHealth, WorkerHealth } from "../health/WorkerHealth.ts"
import type { Slots } from "./Slots.ts"
import type { LoopState } from "./Supervisor.ts"
import type { WorkerContext } from "./WorkerContext.ts"

/** How long rounds may fail, or due jobs may lie there unclaimed, before it is a problem, in ms. */
const grace = 10_000
/** A loop that has not ended a round for so many times its limit is stuck. */
const stuckAfter = 5
const storeTimeout = "2 seconds"

const loopHealth = (name: string, state: LoopState, now: number): LoopHealth => {
  const { endedAt, expected, failingSince, succeededAt } = state
  const ago = Math.max(0, Math.round(now - succeededAt))
  const isFailing = failingSince !== undefined && now - failingSince > grace
  return {
    name,
    ago,
    ...(expected === undefined ? {} : { limit: Math.round(expected) }),
    late: isFailing || (expected !== undefined && ago > expected),
    stuck: expected !== undefined && now - endedAt > expected * stuckAfter
  }
}

/** Registers the worker until the scope closes. Answers the slots to claim into: it sees what is accepted. */
export const make = Effect.fnUntraced(function* (
  { clock, name, store, supervisor }: WorkerContext,
  slots: Slots
): Effect.fn.Return<Slots, never, Scope.Scope> {
  const health = yield* WorkerHealth
  let accepted = 0
  /** Since when every look found due jobs, room, and nothing claimed. */
  let idle: { readonly since: number; readonly accepted: number } | undefined
  const now = () => clock.currentTimeMillisUnsafe()
  const loops = () => Array.from(supervisor.loops, ([name, state]) => loopHealth(name, state, now()))

  const starving = Effect.gen(function* () {
    const free = slots.pools.filter((pool) => pool.free > 0)
    const due = free.length === 0 ? undefined : yield* store.nextDue(free.flatMap((pool) => pool.ranges))
    if (due !== 0 || slots.held.size > 0) idle = undefined
    else if (idle === undefined || idle.accepted !== accepted) idle = { since: now(), accepted }
    if (idle === undefined || now() - idle.since < grace) return []
    return [`jobs are due and it has claimed none for ${Math.round(now() - idle.since)} ms`]
  })
  const report = Effect.gen(function* () {
    const isDraining = !slots.isOpen()
    const work = isDraining
      ? ["it is draining: it claims nothing new"]
      : yield* starving.pipe(
          Effect.timeoutOrElse({
            duration: storeTimeout,
            orElse: () =>
              Effect.succeed([`the store did not answer in ${Duration.format(Duration.fromInputUnsafe(storeTimeout))}`])
          }),
          Effect.catch((error) => Effect.succeed([`the store does not answer: ${error.reason}`]))
        )
    const seen = loops()
    const late = seen.flatMap((loop) =>
      loop.late ? [`the loop ${loop.name} is late: its last good round was ${loop.ago} ms ago`] : []
    )
    return {
      name,
      state: isDraining ? ("draining" as const) : ("running" as const),
      running: slots.runningCount(),
      slots: slots.pools.reduce((n, pool) => n + pool.slots, 0),
      loops: seen,
      problems: [...late, ...work]
    }
  })
  // Whoever may ask may ask often: the store is asked once a second at most
  const cached = yield* Effect.cachedWithTTL(report, "1 second")
  const remove = health.add({ name, loops, report: cached })
  yield* Effect.addFinalizer(() => Effect.sync(remove))
  return {
    ...slots,
    accept: (jobs, sentAt, released) => {
      accepted += jobs.length
      slots.accept(jobs, sentAt, released)
    }
  }
})
