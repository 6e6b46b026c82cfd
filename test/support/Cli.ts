/**
 * The command `polyqueue` under test: in this process, with a console, environment and terminal of its own, or as the real
 * program in a child process.
 */
import { NodeServices } from "@effect/platform-node"
import { ConfigProvider, Effect, Exit, Layer, Stdio, Stream, Terminal } from "effect"
import { TestConsole } from "effect/testing"
import { spawn } from "node:child_process"
import { join } from "node:path"
import { Deployment, type DeploymentService } from "../../src/cli/Deployment.ts"
import * as PolyqueueCli from "../../src/cli/index.ts"

/** How a command ended, and what it said. */
export interface Answer {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Where the command runs. */
export interface Setting {
  /** The whole environment. */
  readonly env?: Record<string, string>
  readonly stdin?: string
  /** Cells of the terminal; without them stdout is no terminal. */
  readonly columns?: number
  readonly deployment?: DeploymentService
}

/** Runs a command in this process. */
export const run = (args: ReadonlyArray<string>, setting: Setting = {}): Effect.Effect<Answer> =>
  Effect.gen(function* () {
    const isTerminal = Effect.succeed(setting.columns !== undefined)
    const platform = Layer.mergeAll(
      Stdio.layerTest({
        stdin: setting.stdin === undefined ? Stream.empty : Stream.succeed(new TextEncoder().encode(setting.stdin)),
        stdoutIsTerminal: isTerminal,
        stderrIsTerminal: Effect.succeed(false),
        stdinIsTerminal: Effect.succeed(false)
      }),
      Layer.succeed(
        Terminal.Terminal,
        Terminal.make({
          columns: Effect.succeed(setting.columns ?? 0),
          rows: Effect.succeed(50),
          size: Effect.die("unused"),
          readInput: Effect.die("unused"),
          readLine: Effect.die("unused"),
          display: () => Effect.void
        })
      )
    )
    const exit = yield* Effect.exit(PolyqueueCli.runWith({ version: "0.0.0" })(args)).pipe(
      Effect.provide(platform),
      Effect.provide(NodeServices.layer),
      Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env: setting.env ?? {} })),
      setting.deployment === undefined ? (effect) => effect : Effect.provideService(Deployment, setting.deployment)
    )
    const failure = Exit.isFailure(exit) ? exit.cause.reasons[0] : undefined
    const code =
      failure === undefined
        ? 0
        : failure._tag === "Fail" && failure.error instanceof PolyqueueCli.CliFailure
          ? failure.error.code
          : 130
    return {
      code,
      stdout: (yield* TestConsole.logLines).join("\n"),
      stderr: (yield* TestConsole.errorLines).join("\n")
    }
  }).pipe(Effect.provide(Layer.fresh(TestConsole.layer)))

const bin = join(import.meta.dirname, "..", "..", "src", "bin.ts")

/** Starts the program. The child is killed with the scope of whoever kills it: see `execute`. */
export const start = (args: ReadonlyArray<string>, env: Record<string, string> = {}) =>
  spawn(process.execPath, [bin, ...args], {
    env: { PATH: process.env["PATH"], HOME: process.env["HOME"], ...env },
    stdio: ["pipe", "pipe", "pipe"]
  })

/** Runs the program to its end. */
export const execute = (
  args: ReadonlyArray<string>,
  env: Record<string, string> = {},
  stdin = ""
): Effect.Effect<Answer> =>
  Effect.callback<Answer>((resume) => {
    const child = start(args, env)
    const answer = { stdout: "", stderr: "" }
    child.stdout.setEncoding("utf8").on("data", (text: string) => (answer.stdout += text))
    child.stderr.setEncoding("utf8").on("data", (text: string) => (answer.stderr += text))
    child.on("close", (code) => resume(Effect.succeed({ code: code ?? 130, ...answer })))
    child.stdin.on("error", () => {}).end(stdin)
    return Effect.sync(() => void child.kill("SIGKILL"))
  })
