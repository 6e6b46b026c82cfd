/** Marks workers that stopped beating as dead, and forgets the ones that have been gone for a day. Their jobs are the reaper's. */
import * as Effect from "effect/Effect"
import type { StoreError } from "../JobError.ts"
import { oneLine } from "../store/ErrorText.ts"
import type { MaintenanceContext } from "./MaintenanceContext.ts"

const forgetAfter = 86_400_000

export const make = ({ metrics, registry, staleAfter }: MaintenanceContext): Effect.Effect<void, StoreError> =>
  Effect.gen(function* () {
    const dead = yield* registry.reapStale(staleAfter)
    if (dead.length > 0) {
      if (metrics.enabled) for (const id of dead) metrics.record({ _tag: "Worker", event: "died", name: id })
      yield* Effect.logWarning(`workers without a heartbeat for ${staleAfter} ms: ${oneLine(dead.join(", "))}`)
    }
    yield* registry.prune(forgetAfter)
  })
