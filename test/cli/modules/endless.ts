/** A worker whose job does not end by itself. */
import { Console, Effect, Layer } from "effect"
import { Worker } from "../../../src/index.ts"
import { Slow } from "./jobs.ts"

export default Worker.layer([Slow], { shutdownGrace: "1 hour" }).pipe(
  Layer.provide(Slow.toLayer(() => Effect.andThen(Console.log("endless: started"), Effect.never)))
)
