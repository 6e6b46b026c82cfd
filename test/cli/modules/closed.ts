/** A worker that brings everything itself, as the named export `worker`. */
import { Console, Effect, Layer } from "effect"
import { Polyqueue, Worker } from "../../../src/index.ts"
import { Add } from "./jobs.ts"

export const worker = Layer.effectDiscard(
  Effect.flatMap(Add.execute({ a: 1, b: 2 }), (sum) => Console.log(`the sum is ${sum}`))
).pipe(
  Layer.provideMerge(Worker.layer([Add]).pipe(Layer.provide(Add.toLayer(({ a, b }) => Effect.succeed(a + b))))),
  Layer.provide(Polyqueue.layerMemory)
)
