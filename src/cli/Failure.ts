/**
 * How a command ends when it does not end well: one line for a person and one exit code for a script. Codes: 1 something
 * failed, 2 wrong usage, 3 nothing matched, 4 refused, 5 doctor found problems, 69 a server is unreachable (130:
 * interrupted; a worker that was told to end and did is 0). Causes and stacks are shown with `--log-level debug` only.
 */
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as Data from "effect/Data"
import * as Runtime from "effect/Runtime"
import { AdminError, BrokerError, EnqueueError, JobNotFound, StoreError, WorkerError } from "../JobError.ts"

/** What a shell sees. */
export const ExitCode = {
  failed: 1,
  usage: 2,
  nothing: 3,
  refused: 4,
  problems: 5,
  unreachable: 69
} as const
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode]

/** Ends a command with a message and an exit code. */
export class CliFailure extends Data.TaggedError("CliFailure")<{
  readonly code: ExitCode
  /** One line; empty when everything was said already. */
  readonly message: string
  readonly cause?: unknown
}> {
  /** Read by `NodeRuntime.runMain`. */
  override readonly [Runtime.errorExitCode] = this.code
  /** The CLI has said it: the runtime need not. */
  override readonly [Runtime.errorReported] = false
}

export const usage = (message: string) => new CliFailure({ code: ExitCode.usage, message })
export const nothing = (message: string) => new CliFailure({ code: ExitCode.nothing, message })
export const refused = (message: string) => new CliFailure({ code: ExitCode.refused, message })

const ofStore = (error: StoreError): ExitCode => {
  switch (error.reason) {
    case "Unavailable":
      return ExitCode.unreachable
    case "Denied":
    case "NotMigrated":
    case "Foreign":
    case "Unsupported":
    case "Refused":
      return ExitCode.refused
    default:
      return ExitCode.failed
  }
}

const ofBroker = (error: BrokerError): ExitCode => {
  switch (error.reason) {
    case "Unavailable":
    case "OutcomeUnknown":
      return ExitCode.unreachable
    case "Unauthorized":
    case "Misconfigured":
    case "QueueNotFound":
    case "Unsupported":
      return ExitCode.refused
    default:
      return ExitCode.failed
  }
}

const ofAdmin = (error: AdminError): ExitCode => {
  switch (error.reason) {
    case "InvalidInput":
      return ExitCode.usage
    case "NotFound":
      return ExitCode.nothing
    case "NotRunning":
      return ExitCode.refused
  }
}

const firstLine = (text: string): string =>
  text
    .split("\n")
    .find((line) => line.trim() !== "")
    ?.trim() ?? text

/** Wrong settings are wrong usage. Says all of them, and never a secret. */
export const fromConfigError = (error: Config.ConfigError): CliFailure =>
  new CliFailure({ code: ExitCode.usage, message: error.cause.message, cause: error })

/** Any typed error as the end of a command. */
export const fromError = (error: unknown): CliFailure => {
  if (error instanceof CliFailure) return error
  if (error instanceof StoreError) {
    const hint = error.reason === "NotMigrated" ? "; `polyqueue migrate` makes the tables" : ""
    return new CliFailure({ code: ofStore(error), message: error.message + hint, cause: error })
  }
  if (error instanceof BrokerError)
    return new CliFailure({ code: ofBroker(error), message: error.message, cause: error })
  if (error instanceof JobNotFound)
    return new CliFailure({ code: ExitCode.nothing, message: error.message, cause: error })
  if (error instanceof EnqueueError) {
    const inner = error.cause instanceof StoreError ? ofStore(error.cause) : ExitCode.refused
    return new CliFailure({ code: inner, message: error.message, cause: error })
  }
  if (error instanceof AdminError) {
    return new CliFailure({ code: ofAdmin(error), message: error.message, cause: error })
  }
  if (error instanceof Config.ConfigError) return fromConfigError(error)
  if (error instanceof WorkerError)
    return new CliFailure({ code: ExitCode.usage, message: error.message, cause: error })
  const message = error instanceof Error ? error.message : String(error)
  return new CliFailure({ code: ExitCode.failed, message: firstLine(message), cause: error })
}

/** A whole cause as the end of a command: the typed error if there is one, else the first defect. */
export const fromCause = (cause: Cause.Cause<unknown>): CliFailure => {
  const squashed = Cause.squash(cause)
  return squashed instanceof CliFailure ? squashed : fromError(squashed)
}
