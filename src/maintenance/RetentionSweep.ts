/** Removes ended jobs and old attempts past their retention, in bounded batches. */
import type * as Effect from "effect/Effect"
import type { StoreError } from "../JobError.ts"
import { batch, type MaintenanceContext, untilDone } from "./MaintenanceContext.ts"

export const make = ({ retention, store }: MaintenanceContext): Effect.Effect<void, StoreError> =>
  untilDone(store.prune(retention, batch))
