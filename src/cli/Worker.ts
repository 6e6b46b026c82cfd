/**
 * `polyqueue worker <module>`: runs the Layer that a module exports, until it is told to end; then the layer's own release
 * drains it. What the layer leaves open of Polyqueue, its ports and its database is built from the `POLYQUEUE_*` settings.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Path from "effect/Path"
import * as PolyqueueConfig from "../config/PolyqueueConfig.ts"
import { WorkerHealth } from "../health/WorkerHealth.ts"
import { OnStopped } from "../Worker.ts"
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

/**
 * A worker that was told to end and did is a success, whatever told it: supervisors take every other code for a failure, and
 * `NodeRuntime.runMain` would make it 130. A second interrupt from the keyboard does not wait for the drain: that is 130.
 */
const signals = Effect.acquireRelease(
  Effect.sync(() => {
    let interrupts = 0
    let isTold = false
    const onInterrupt = () => {
      isTold = true
      interrupts++
      if (interrupts === 2) process.exit(130)
    }
    const onTerminate = () => {
      isTold = true
    }
    process.on("SIGINT", onInterrupt).on("SIGTERM", onTerminate)
    return () => {
      process.off("SIGINT", onInterrupt).off("SIGTERM", onTerminate)
      if (!isTold) return
      process.once("exit", (code) => {
        if (code === 130) process.exitCode = 0
      })
    }
  }),
  Effect.sync
)

/** Runs a layer until it is interrupted, or every worker in it was told to stop (`admin stop`). Fails as its building does. */
const hold = Effect.fnUntraced(function* (layer: Loaded, what: string) {
  const health = yield* WorkerHealth
  const allStopped = yield* Deferred.make<void>()
  let stopped = 0
  // A worker that was stopped is registered until its layer is released
  const onStopped = Effect.gen(function* () {
    stopped++
    if ((yield* health.report).workers.length <= stopped) yield* Deferred.succeed(allStopped, undefined)
  })
  yield* Layer.build(Layer.provide(layer, Layer.succeed(OnStopped, onStopped)))
  yield* Effect.logInfo(`${what} runs; SIGTERM or Ctrl-C ends it`)
  yield* Effect.onInterrupt(Deferred.await(allStopped), () =>
    Effect.logInfo("told to end: claims nothing new, waits for running jobs")
  )
  yield* Effect.logInfo("every worker was told to stop: the process ends")
}, Effect.scoped)

/** Runs a layer until it fails, is interrupted, or has no worker left. */
export const launch = (layer: Loaded, what: string): Effect.Effect<void, CliFailure> =>
  Effect.gen(function* () {
    yield* signals
    const exit = yield* Effect.exit(hold(layer, what))
    if (Exit.isSuccess(exit)) return
    const service = missingService(exit.cause)
    if (service === undefined) return yield* failed(exit.cause, what)
    if (!ours.has(service)) {
      return yield* usage(`${what} needs the service ${service}: provide it to the layer with Layer.provide`)
    }
    yield* Effect.logDebug(`${what} leaves ${service} open: it is built from the POLYQUEUE_* settings`)
    return yield* Effect.catchCause(hold(Layer.provide(layer, PolyqueueConfig.layer), what), (cause) => {
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
  "Runs a worker until it is told to end (SIGTERM, Ctrl-C, `admin stop`); then it claims nothing new, waits for running jobs, " +
  "gives the rest back, and ends with exit code 0. A second Ctrl-C does not wait: 130."

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
