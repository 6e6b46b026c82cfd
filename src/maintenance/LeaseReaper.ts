/**
 * Ends attempts whose owner stopped renewing. After an outage of the database renewals go first: a sweeper that could not
 * speak to it for a third of a lease waits one lease before it ends anything.
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../JobError.ts"
import { monotonic } from "../worker/WorkerContext.ts"
import { batch, type MaintenanceContext, report, untilDone } from "./MaintenanceContext.ts"

export interface LeaseReaper {
  /** Ends all abandoned attempts. */
  readonly sweep: Effect.Effect<void, StoreError>
  /** Ends those of these jobs: a hint brought them, so nobody need wait for the sweep. Does nothing while sweeps wait. */
  readonly reap: (ids: ReadonlyArray<string>) => Effect.Effect<void, StoreError>
  /** True during and after an outage of the database: whoever has something to say of an attempt comes first. */
  readonly isHolding: () => boolean
}

/** A look-up that changes nothing: is the database there? */
const probe = ["00000000-0000-0000-0000-000000000000"]

export const make = (maintenance: MaintenanceContext): LeaseReaper => {
  const { clock, lease, ownWorkers, store } = maintenance
  let lastSuccess = monotonic(clock)
  let failing = false
  let holdUntil = 0
  const end = (limit: number, ids?: ReadonlyArray<string>) =>
    store.reap({ limit, exceptWorkers: ownWorkers, ids }).pipe(
      Effect.tap((reaped) => report(maintenance, reaped, "crashed")),
      Effect.map((reaped) => reaped.length)
    )
  const endAll = untilDone(end(batch))
  const isHolding = () => failing || monotonic(clock) < holdUntil
  const sweep = Effect.suspend(() => {
    if (monotonic(clock) < holdUntil) return Effect.void
    if (!failing) return endAll
    return Effect.andThen(
      store.get(probe),
      Effect.sync(() => {
        failing = false
        if (monotonic(clock) - lastSuccess > lease / 3) holdUntil = monotonic(clock) + lease
      })
    )
  }).pipe(
    Effect.tap(() => Effect.sync(() => (lastSuccess = monotonic(clock)))),
    Effect.tapError(() => Effect.sync(() => (failing = true)))
  )
  return {
    sweep,
    reap: (ids) => Effect.suspend(() => (isHolding() ? Effect.void : Effect.asVoid(end(ids.length, ids)))),
    isHolding
  }
}
