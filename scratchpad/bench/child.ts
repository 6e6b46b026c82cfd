/** One measurement in a process of its own: the request is the argument, the answer the last line. */
import type { Request, System } from "./Measurement.ts"

const request = JSON.parse(process.argv[2] ?? "{}") as Request
const load: Record<string, () => Promise<{ readonly system: System }>> = {
  polyqueue: () => import("./systems/polyqueue.ts"),
  "polyqueue, doorbell": () => import("./systems/polyqueue.ts"),
  "polyqueue on Redis": () => import("./systems/polyqueue.ts"),
  "polyqueue on PGMQ": () => import("./systems/polyqueue.ts"),
  "polyqueue on PGlite": () => import("./systems/polyqueue.ts"),
  pgbench: () => import("./systems/pgbench.ts"),
  "graphile-worker": () => import("./systems/graphile.ts"),
  "pg-boss": () => import("./systems/pgBoss.ts"),
  BullMQ: () => import("./systems/bullmq.ts"),
  "BullMQ, appendfsync always": () => import("./systems/bullmq.ts")
}
const { system } = await load[request.system]!()
const answer = await system[request.scenario]!(request)
process.stdout.write(`answer ${JSON.stringify(answer)}\n`, () => process.exit(0))
