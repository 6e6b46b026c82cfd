/** Runs tests of the control plane on the memory store and on a real Postgres, each test with jobs of its own. */
import { layer } from "@effect/vitest"
import { Layer } from "effect"
import { Admin, Polyqueue } from "../../src/index.ts"
import { stacks } from "../endToEnd/Stacks.ts"
import { describePostgres } from "../support/Postgres.ts"
import { Stage } from "./Stage.ts"

const over = <A, E>(live: Layer.Layer<A, E>) => Layer.mergeAll(Admin.layer, Stage.layer).pipe(Layer.provideMerge(live))

const memory = over(Polyqueue.layerMemory)

/** The methods that `layer(…)` hands to its tests, on everything there is. */
export type It = Parameters<Parameters<ReturnType<typeof layer<Layer.Success<typeof memory>, never>>>[1]>[0]

export const onStores = (name: string, tests: (it: It) => void): void => {
  const options = { timeout: "60 seconds", excludeTestServices: true } as const
  layer(memory, options)(`${name}, in memory`, tests)
  describePostgres("on a server", () => {
    layer(over(Layer.orDie(stacks.postgres().live)), options)(`${name}, on Postgres`, tests)
  })
}
