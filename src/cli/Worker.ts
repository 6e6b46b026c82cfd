/**
 * `polyqueue worker <module>`: runs the Layer that a module exports, until it is told to stop; then the layer's own release
 * drains it. What the layer leaves open of Polyqueue, its ports and its database is built from the `POLYQUEUE_*` settings.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Path from "effect/Path"
import * as PolyqueueConfig from "../config/PolyqueueConfig.ts"
import { CliFailure, ExitCode, fromCause, usage } from "./Failure.ts"

/** A layer as it comes out of a module: nothing is known of its types. */
type Loaded = Layer.Layer<never, unknown>

const named = (module: object): string => {
  const names = Object.keys(module).sort()
  return names.length === 0 ? "it exports nothing" : `it exports ${names.slice(0, 10).join(", ")}`
}

/** Imports a module and takes its `worker` or default export. */
const load = Effect.fnUntraced(function* (file: string) {
  const fileSystem = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const absolute = path.resolve(file)
  if (!(yield* Effect.orElseSucceed(fileSystem.exists(absolute), () => false))) {
    return yield* usage(`there is no module ${file}: give the path of a .ts or .js file that exports a Layer`)
  }
  const url = yield* Effect.orDie(path.toFileUrl(absolute))
  const module = yield* Effect.tryPromise({
    try: (): Promise<object> => import(url.href),
    catch: (cause) =>
      new CliFailure({
        code: ExitCode.failed,
        message: `${file} cannot be loaded: ${cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause)}`,
        cause
      })
  })
  for (const name of ["worker", "default"]) {
    const value: unknown = Reflect.get(module, name)
    // What it builds is nobody's concern, and what it needs is seen when it is built
    if (Layer.isLayer(value)) return value as Layer.Layer<unknown, unknown>
  }
  return yield* usage(`${file} exports no Layer: export one as \`default\` or as \`worker\` (${named(module)})`)
})

const missing = /^Service not found: (\S+)/

/** The service whose lack made a layer fail to build. */
const missingService = (cause: Cause.Cause<unknown>): string | undefined => {
  const squashed = Cause.squash(cause)
  return squashed instanceof Error ? missing.exec(squashed.message)?.[1] : undefined
}

const ours = new Set([
  "polyqueue/Polyqueue",
  "polyqueue/JobStore",
  "polyqueue/Broker",
  "polyqueue/WorkerRegistry",
  "polyqueue/Metrics",
  "polyqueue/Admin",
  "effect/sql/SqlClient"
])

/** A second interrupt from the keyboard does not wait for the drain. */
const impatience = Effect.acquireRelease(
  Effect.sync(() => {
    let interrupts = 0
    const listener = () => {
      interrupts++
      if (interrupts === 2) process.exit(130)
    }
    process.on("SIGINT", listener)
    return listener
  }),
  (listener) => Effect.sync(() => process.off("SIGINT", listener))
)

/** Runs a layer until it fails or is interrupted. */
export const launch = (layer: Loaded, what: string): Effect.Effect<never, CliFailure> =>
  Effect.gen(function* () {
    yield* impatience
    const exit = yield* Effect.exit(Layer.launch(layer))
    if (Exit.isSuccess(exit)) return yield* Effect.never
    const service = missingService(exit.cause)
    if (service === undefined) return yield* failed(exit.cause, what)
    if (!ours.has(service)) {
      return yield* usage(`${what} needs the service ${service}: provide it to the layer with Layer.provide`)
    }
    yield* Effect.logDebug(`${what} leaves ${service} open: it is built from the POLYQUEUE_* settings`)
    return yield* Effect.catchCause(Layer.launch(Layer.provide(layer, PolyqueueConfig.layer)), (cause) => {
      const still = missingService(cause)
      return still === undefined
        ? failed(cause, what)
        : Effect.fail(usage(`${what} needs the service ${still}: provide it to the layer with Layer.provide`))
    })
  }).pipe(Effect.scoped)

const failed = (cause: Cause.Cause<unknown>, what: string): Effect.Effect<never, CliFailure> => {
  if (Cause.hasInterruptsOnly(cause)) return Effect.interrupt
  const failure = fromCause(cause)
  return Effect.fail(
    new CliFailure({ code: failure.code, message: `${what}: ${failure.message}`, cause: failure.cause ?? cause })
  )
}

const description =
  "Runs a worker until it is told to stop (SIGTERM, Ctrl-C); then it claims nothing new, waits for running jobs, gives the " +
  "rest back. A second Ctrl-C does not wait."

/** `worker <module>` of the `polyqueue` command. */
export const fromModule = Command.make(
  "worker",
  {
    module: Argument.String("module").pipe(
      Argument.withDescription("Path of a module that exports a Layer, as default or as `worker`")
    )
  },
  ({ module }) => Effect.flatMap(load(module), (layer) => launch(layer, module))
).pipe(
  Command.withDescription(
    `${description} What the layer leaves open of Polyqueue, its ports and SqlClient is built from the POLYQUEUE_* settings.`
  ),
  Command.withShortDescription("Run a worker from a module"),
  Command.withExamples([
    { command: "polyqueue worker ./src/worker.ts" },
    { command: "POLYQUEUE_BACKEND=redis polyqueue worker ./dist/worker.js" }
  ])
)

/** `worker` of an application that is its own `polyqueue` command. */
export const fromLayer = (layer: Loaded) =>
  Command.make("worker", {}, () => launch(layer, "worker")).pipe(
    Command.withDescription(description),
    Command.withShortDescription("Run this application's worker")
  )
