/** A worker of `main.ts`: takes the load and keeps a few jobs running. Its Polyqueue comes from the settings. */
import { Effect, Layer } from "effect"
import { Job, Worker } from "../../src/index.ts"

export class Load extends Job.make("Load", { queue: "load" }) {}

export default Worker.layer([Load], { concurrency: 20, heartbeatEvery: "1 second" }).pipe(
  Layer.provide(Load.toLayer(() => Effect.sleep("20 millis")))
)
