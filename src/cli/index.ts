/**
 * The command `polyqueue` (`polyqueue/cli`, needs `@effect/platform-node`): for the terminal of whoever is on call, and for
 * scripts. Installed with the package as a program; an application may also be its own `polyqueue` command, so that its
 * worker needs no module path.
 *
 * @example
 * ```ts
 * import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
 * import { Layer } from "effect"
 * import * as PolyqueueCli from "polyqueue/cli"
 * import * as PolyqueueConfig from "polyqueue/config"
 *
 * declare const Jobs: Layer.Layer<never, never, PolyqueueConfig.Provided>
 *
 * PolyqueueCli.run({ version: "1.0.0", worker: Jobs.pipe(Layer.provide(PolyqueueConfig.layer)) }).pipe(
 *   NodeRuntime.runMain
 * )
 * ```
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as Config from "effect/Config"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Stdio from "effect/Stdio"
import { CliFailure, ExitCode, fromCause } from "./Failure.ts"
import * as Secrets from "../config/Secrets.ts"
import * as Help from "./Help.ts"
import * as Root from "./Root.ts"
import * as Visible from "./Visible.ts"

export { CliFailure, ExitCode } from "./Failure.ts"

/** What the command is built from. */
export interface Options {
  /** Of the application, shown by `--version`. */
  readonly version: string
  /** What `polyqueue worker` runs. Without it the command takes the path of a module. */
  readonly worker?: Layer.Layer<never, unknown> | undefined
}

const debugging = /^--log-level=?(debug|trace|all)?$/

const wantsDetails = (args: ReadonlyArray<string>): boolean =>
  args.some((arg, i) => {
    const found = debugging.exec(arg)
    return found !== null && /debug|trace|all/.test(found[1] ?? args[i + 1] ?? "")
  })

/** Says in one line what went wrong; the whole cause only at `--log-level debug`. */
const report = Effect.fnUntraced(function* (cause: Cause.Cause<unknown>, args: ReadonlyArray<string>) {
  const squashed = Cause.squash(cause)
  if (CliError.isCliError(squashed) && squashed._tag === "ShowHelp") {
    // Said by the presenter already
    return squashed.errors.length === 0 ? undefined : new CliFailure({ code: ExitCode.usage, message: "" })
  }
  const failure = CliError.isCliError(squashed)
    ? new CliFailure({ code: ExitCode.usage, message: squashed.message })
    : fromCause(cause)
  if (failure.message !== "") {
    // Only settings have more than one line to say, and say it safely; elsewhere a line break may be somebody's data
    const message = `polyqueue: ${Secrets.withoutCredentials(failure.message)}`
    const isConfig = failure.cause instanceof Config.ConfigError
    yield* Console.error(isConfig ? Visible.lines(message).join("\n") : Visible.line(message))
  }
  if (wantsDetails(args))
    yield* Console.error(Visible.lines(Cause.pretty(Cause.die(failure.cause ?? failure))).join("\n"))
  return failure
})

/** Runs the command with these arguments, on the services of this platform. */
export const runWith = (
  options: Options
): ((args: ReadonlyArray<string>) => Effect.Effect<void, CliFailure, Command.Environment>) => {
  const command = Command.runWith(Root.make(options.worker), { version: options.version })
  return (args) =>
    command(args).pipe(
      Effect.catchCause((cause) =>
        Cause.hasInterruptsOnly(cause)
          ? Effect.interrupt
          : Effect.flatMap(report(cause, args), (failure) =>
              failure === undefined ? Effect.void : Effect.fail(failure)
            )
      ),
      Effect.provide(
        Layer.mergeAll(
          TerminalCapabilities.layer,
          CliOutput.layerPresenter(Help.presenter),
          // Data alone goes to stdout
          Logger.layer([Logger.withConsoleError(Logger.formatLogFmt)])
        )
      )
    )
}

/** Whoever reads our output may leave, as `head` does: that ends the command, and is no error. */
const brokenPipe = Effect.callback<never>(() => {
  const listener = (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0)
    throw error
  }
  process.stdout.on("error", listener)
  return Effect.sync(() => void process.stdout.off("error", listener))
})

/**
 * The command as a program: arguments, terminal and files of this Node process. Fails with `CliFailure`, which carries the exit
 * code for `NodeRuntime.runMain` and was reported on stderr already.
 */
export const run = (options: Options): Effect.Effect<void, CliFailure> =>
  Effect.flatMap(Stdio.Stdio, (stdio) => Effect.flatMap(stdio.args, runWith(options))).pipe(
    Effect.raceFirst(brokenPipe),
    Effect.provide(NodeServices.layer)
  )
