/**
 * The control plane: what a person on call does to jobs, queues and workers, and what they look at. Every action is written
 * to the audit log (who, when, what, before, after, why) in one statement with its effect, and works alike on every store
 * and every broker. The CLI and the dashboard stand on it.
 *
 * ```ts
 * const retryAll = Admin.use((admin) =>
 *   admin.requeue({ where: { status: "failed", type: "SendEmail" } }, { who: "ada", reason: "SMTP is back" })
 * )
 * ```
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { AdminService } from "./admin/AdminService.ts"
import * as Controls from "./admin/Controls.ts"
import * as Explain from "./admin/Explain.ts"
import * as JobActions from "./admin/JobActions.ts"
import * as Listing from "./admin/Listing.ts"
import * as Publisher from "./admin/Publisher.ts"
import { Broker } from "./Broker.ts"
import * as Ids from "./client/Ids.ts"
import { JobStore } from "./JobStore.ts"
import { WorkerRegistry } from "./WorkerRegistry.ts"

export type * from "./admin/AdminService.ts"
export type * from "./admin/Explain.ts"

const make = Effect.fnUntraced(function* (
  publisher: Publisher.Publisher
): Effect.fn.Return<AdminService, never, JobStore | WorkerRegistry> {
  const store = yield* JobStore
  const registry = yield* WorkerRegistry
  const makeId = yield* Ids.make
  return {
    ...JobActions.make(store, publisher, makeId),
    ...Controls.make(store, registry, publisher, makeId),
    ...Listing.make(store, registry),
    explain: Explain.make(store, registry)
  }
})

/** The control plane as a service. Not for use inside a transaction: what it changes is committed by itself. */
export class Admin extends Context.Service<Admin, AdminService>()("polyqueue/Admin") {
  /** On the ports of a worker or client. What becomes runnable is published at once. */
  static readonly layer: Layer.Layer<Admin, never, JobStore | WorkerRegistry | Broker> = Layer.effect(
    Admin,
    Effect.flatMap(Broker, (broker) => make(Publisher.make(broker)))
  )

  /** Without a broker and its credentials: what becomes runnable is published by the workers' relay, within about a second. */
  static readonly layerWithoutBroker: Layer.Layer<Admin, never, JobStore | WorkerRegistry> = Layer.effect(
    Admin,
    make(Publisher.none)
  )
}
