/** Two workers in one process. */
import { Effect, Layer } from "effect"
import { Worker } from "../../../src/index.ts"
import { Add, Slow } from "./jobs.ts"

export default Layer.mergeAll(Worker.layer([Add], { name: "first" }), Worker.layer([Slow], { name: "second" })).pipe(
  Layer.provide([Add.toLayer(({ a, b }) => Effect.succeed(a + b)), Slow.toLayer(() => Effect.void)])
)
