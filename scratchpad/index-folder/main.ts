/**
 * `npm start -- [folder]`: indexes a folder with one typed job per file, on a Postgres inside this process.
 *
 * Exit codes: 0 when every job has ended (files that could not be indexed are results, not errors of the program), 1 when
 * it could not run, 2 when the command line makes no sense, 130 when it was stopped by Ctrl-C.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Cause, Effect, Exit, Runtime } from "effect"
import { Argument, CliError, Command, Flag } from "effect/cli"
import { version } from "../../src/version.ts"
import { type BrokerName, brokers } from "./Brokers.ts"
import { defaultFolder, run } from "./Run.ts"

const command = Command.make(
  "npm start --",
  {
    folder: Argument.String("folder").pipe(
      Argument.withDescription("The folder to index; node_modules and .git in it are left out"),
      Argument.withDefault(defaultFolder)
    ),
    json: Flag.Boolean("json").pipe(Flag.withDescription("Print one JSON object, last"), Flag.withDefault(false)),
    broker: Flag.Literals("broker", Object.keys(brokers) as Array<BrokerName>).pipe(
      Flag.withDescription(
        "What carries hints from those who make jobs to those who run them; redis, sqs and service-bus take " +
          "POLYQUEUE_REDIS_URL, POLYQUEUE_SQS_QUEUE_URL, POLYQUEUE_AZURE_SB_CONNECTION_STRING"
      ),
      Flag.withDefault("memory" satisfies BrokerName)
    ),
    dataDir: Flag.String("data-dir").pipe(
      Flag.withDescription("Keep the database in this folder: a run that was stopped goes on there"),
      Flag.optional
    )
  },
  run
).pipe(
  Command.withDescription(
    "Indexes a folder: one typed job per file, on a Postgres inside this process, with two workers. " +
      "Exit code 0: every job ended. 1: it could not run. 2: wrong usage. 130: stopped by Ctrl-C."
  )
)

/** A reader that went away (`npm start | head`) is no error: what is left to do is tidying up. */
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error
})

Command.run(command, { version }).pipe(
  Effect.provide(NodeServices.layer),
  // Errors that say what to do are one line; a bug shows where it is
  Effect.tapError((error) =>
    Effect.sync(() => {
      if (!CliError.isCliError(error)) process.stderr.write(`error: ${error.message}\n`)
    })
  ),
  Effect.tapDefect((defect) => Effect.sync(() => process.stderr.write(`${Cause.pretty(Cause.die(defect))}\n`))),
  NodeRuntime.runMain({
    disableErrorReporting: true,
    teardown: (exit, done) =>
      Exit.isFailure(exit) && CliError.isCliError(Cause.squash(exit.cause))
        ? done(2)
        : Runtime.defaultTeardown(exit, done)
  })
)
