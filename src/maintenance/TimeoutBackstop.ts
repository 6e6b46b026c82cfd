/**
 * Ends attempts whose worker should have ended them itself and did not: its event loop is blocked, or it is gone. Acts later
 * than any worker would: the grace of an interruption and one sweep after the timeout, and not while the sweeps of leases
 * hold still: after an outage, workers first say how their attempts ended.
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../JobError.ts"
import { batch, type MaintenanceContext, report, untilDone } from "./MaintenanceContext.ts"

export const make = (maintenance: MaintenanceContext, isHolding: () => boolean): Effect.Effect<void, StoreError> => {
  const endAll = untilDone(
    maintenance.store.reapTimeouts({ limit: batch, grace: maintenance.interruptGrace + maintenance.sweepEvery }).pipe(
      Effect.tap((reaped) => report(maintenance, reaped, "timedOut")),
      Effect.map((reaped) => reaped.length)
    )
  )
  return Effect.suspend(() => (isHolding() ? Effect.void : endAll))
}
