/**
 * Liveness and readiness over HTTP, as Kubernetes asks for them (`polyqueue/health`). The body is JSON and says which worker,
 * which loop, and why; it holds no ids, payloads or addresses.
 *
 * - `GET /livez`: 200 unless a loop does not come back at all (503: restart the process). A database or broker that is away
 *   is no reason.
 * - `GET /readyz`: 200 while every worker of this process claims or has nothing to claim. 503 while there is none, while one
 *   drains, while a loop is late or fails, while due jobs lie there and none is claimed, while the store does not answer.
 *
 * @example
 * ```ts
 * import { NodeHttpServer } from "@effect/platform-node"
 * import { Layer } from "effect"
 * import { HttpRouter } from "effect/http"
 * import * as Health from "polyqueue/health"
 * import * as Exporters from "polyqueue/metrics"
 * import { createServer } from "node:http"
 *
 * // Beside the workers: Layer.mergeAll(Workers, Operations)
 * const Operations = HttpRouter.serve(Layer.mergeAll(Health.layer(), Exporters.layerPrometheus()), {
 *   disableLogger: true // else every probe is a line of the log
 * }).pipe(
 *   Layer.provide(NodeHttpServer.layer(createServer, { port: 9090 }))
 * )
 * ```
 */
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import { WorkerHealth } from "./WorkerHealth.ts"

export {
  type HealthReport,
  type LoopHealth,
  make,
  type Probe,
  type Registry,
  WorkerHealth,
  type WorkerReport
} from "./WorkerHealth.ts"

/** Where the endpoints are. */
export interface Options {
  /** Default `/livez`. */
  readonly live?: HttpRouter.PathInput | undefined
  /** Default `/readyz`. */
  readonly ready?: HttpRouter.PathInput | undefined
}

const answer = (isWell: boolean, body: object) =>
  HttpServerResponse.jsonUnsafe(
    { status: isWell ? "ok" : "failing", ...body },
    { status: isWell ? 200 : 503, headers: { "cache-control": "no-store" } }
  )

/** Registers both endpoints on the router. They see the workers that run with the same `WorkerHealth`: by default all of the process. */
export const layer = (options: Options = {}): Layer.Layer<never, never, HttpRouter.HttpRouter> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const router = yield* HttpRouter.HttpRouter
      const health = yield* WorkerHealth
      yield* router.add(
        "GET",
        options.live ?? "/livez",
        Effect.map(health.alive, ({ live, problems }) => answer(live, { problems }))
      )
      yield* router.add(
        "GET",
        options.ready ?? "/readyz",
        Effect.map(health.report, ({ problems, ready, workers }) => answer(ready, { problems, workers }))
      )
    })
  )
