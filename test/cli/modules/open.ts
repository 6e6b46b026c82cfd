/** A worker that leaves Polyqueue open: `polyqueue worker` builds it from the settings. */
import { Console, Effect, Layer } from "effect"
import { Worker } from "../../../src/index.ts"
import { Add, Slow } from "./jobs.ts"

export default Worker.layer([Add, Slow], { concurrency: 4, shutdownGrace: "20 seconds" }).pipe(
  Layer.provide([
    Add.toLayer(({ a, b }) => Effect.succeed(a + b)),
    Slow.toLayer(() =>
      Effect.andThen(
        Console.log("slow: started"),
        Effect.andThen(Effect.sleep("300 millis"), Console.log("slow: done"))
      )
    )
  ])
)
