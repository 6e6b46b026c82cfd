/** Promises broken on purpose, to see that the checker notices: a checker that never failed is no evidence. */
import * as Effect from "effect/Effect"
import { SqlClient } from "effect/sql/SqlClient"
import type { JobStoreService, Lease, Settlement } from "../../src/JobStore.ts"
import { fromSqlError } from "../../src/store/postgres/Failure.ts"

/**
 * `fence`: a settle applies to whoever owns the job now. `renewal`: leases are not renewed, and the store says they are.
 * `reaper`: nothing ends abandoned attempts.
 */
export type Sabotage = "fence" | "renewal" | "reaper"

/** The store, with one promise less. */
export const around = Effect.fnUntraced(function* (store: JobStoreService, sabotage: Sabotage | undefined) {
  const sql = yield* SqlClient
  switch (sabotage) {
    case undefined:
      return store
    case "fence": {
      const current = (settlement: Settlement): Effect.Effect<Settlement, never> =>
        sql<Lease>`select id::text, attempt, claim::text from polyqueue.polyqueue_jobs
          where id = ${settlement.id}::uuid and status = 'processing'`.pipe(
          Effect.mapError((error) => fromSqlError("sabotage", error)),
          Effect.orDie,
          Effect.map(([now]) => (now === undefined ? settlement : { ...settlement, ...now }))
        )
      return {
        ...store,
        settle: (worker: string, settlements: ReadonlyArray<Settlement>) =>
          Effect.flatMap(Effect.forEach(settlements, current), (all) => store.settle(worker, all))
      } satisfies JobStoreService
    }
    case "renewal":
      return {
        ...store,
        renew: () => Effect.succeed({ lost: [], locked: [], cancelled: [] })
      } satisfies JobStoreService
    case "reaper":
      return { ...store, reap: () => Effect.succeed([]) } satisfies JobStoreService
  }
})
