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
import type { Broker } from "./Broker.ts"
import type { JobStore } from "./JobStore.ts"
import type { WorkerRegistry } from "./WorkerRegistry.ts"

export type * from "./admin/AdminService.ts"
export type * from "./admin/Explain.ts"

/** The control plane as a service. Not for use inside a transaction: what it changes is committed by itself. */
export class Admin extends Context.Service<Admin, AdminService>()("polyqueue/Admin") {
  /** On the ports of a worker or client. What becomes runnable is published at once. */
  static readonly layer: Layer.Layer<Admin, never, JobStore | WorkerRegistry | Broker> = Layer.effect(
    Admin,
    Effect.die("filled in by the next commits")
  )

  /** Without a broker and its credentials: what becomes runnable is published by the workers' relay, within about a second. */
  static readonly layerWithoutBroker: Layer.Layer<Admin, never, JobStore | WorkerRegistry> = Layer.effect(
    Admin,
    Effect.die("filled in by the next commits")
  )
}
