/**
 * The duties that keep the promises when somebody is gone: ending abandoned attempts, enforcing timeouts, publishing hints,
 * noticing dead workers, retention. Part of every worker; right with any number of copies at once, because each duty is
 * one bounded, fenced statement at a time. Needs no handlers.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as HintRelay from "./maintenance/HintRelay.ts"
import * as LeaseReaper from "./maintenance/LeaseReaper.ts"
import type { MaintenanceContext } from "./maintenance/MaintenanceContext.ts"
import * as RetentionSweep from "./maintenance/RetentionSweep.ts"
import * as StaleWorkers from "./maintenance/StaleWorkers.ts"
import * as TimeoutBackstop from "./maintenance/TimeoutBackstop.ts"
import type { Supervisor } from "./worker/Supervisor.ts"

const relayEvery = 1_000
const retentionEvery = 60_000
/** A long backlog is worked off in one round of many statements. */
const backlog = 3_600_000

/**
 * Starts all duties in the scope: sweeps every `sweepEvery` ms (±20 %), the relay every second, retention every minute.
 * Answers the reaper, for those who meet an abandoned attempt before the sweep does.
 */
export const start = Effect.fnUntraced(function* (
  maintenance: MaintenanceContext,
  supervisor: Supervisor
): Effect.fn.Return<LeaseReaper.LeaseReaper, never, Scope.Scope> {
  const { broker, sweepEvery } = maintenance
  const reaper = LeaseReaper.make(maintenance)
  yield* supervisor.every("reap-leases", sweepEvery, reaper.sweep)
  yield* supervisor.every("reap-timeouts", sweepEvery, TimeoutBackstop.make(maintenance, reaper.isHolding))
  yield* supervisor.every("reap-workers", sweepEvery * 3, StaleWorkers.make(maintenance))
  yield* supervisor.every("retention", retentionEvery, RetentionSweep.make(maintenance), backlog)
  if (broker.capabilities.carriesHints) {
    yield* supervisor.every("relay", relayEvery, HintRelay.make(maintenance), backlog)
  }
  return reaper
})
