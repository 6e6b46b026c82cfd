/**
 * Publishes the hints that are due. The job row is the outbox and publishing is leased: the store moves `publishAt` forward
 * before it answers, so any number of relays publish a row once per period, and a crash in between only delays. Rows are
 * published again only while receives come back empty: then, and only then, something was lost.
 */
import * as Effect from "effect/Effect"
import type { BrokerError, StoreError } from "../JobError.ts"
import { batch, type MaintenanceContext, untilDone } from "./MaintenanceContext.ts"

export const make = (maintenance: MaintenanceContext): Effect.Effect<void, StoreError | BrokerError> => {
  const { broker, metrics, store } = maintenance
  return untilDone(
    Effect.gen(function* () {
      const due = yield* store.takeHints({ limit: batch, again: maintenance.receivesEmpty() })
      if (due.length === 0) return 0
      const outcomes = yield* broker.publish(
        due.map(({ attempt, id, priority, publication, queue }) => ({
          jobId: id,
          queue,
          priority,
          attempt,
          publication
        }))
      )
      const failed = outcomes.reduce((n, outcome) => (outcome._tag === "Failed" ? n + 1 : n), 0)
      if (metrics.enabled) {
        metrics.record({ _tag: "HintsPublished", broker: broker.capabilities.name, count: due.length - failed, failed })
      }
      return due.length
    })
  )
}
