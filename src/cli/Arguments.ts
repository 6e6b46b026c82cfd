/**
 * Reading what was typed, with errors that name the flag, the value and what is allowed. All of them end as wrong usage
 * (exit code 2).
 */
import * as Argument from "effect/cli/Argument"
import * as CliError from "effect/cli/CliError"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Spans from "./Spans.ts"

const invalid = (option: string, value: string, expected: string, kind: "flag" | "argument" = "flag") =>
  Effect.fail(new CliError.InvalidValue({ option: option.replace(/^--/, ""), value, expected, kind }))

/** A length of time in ms, at least `least`. */
export const span = (option: string, text: string, least = 0): Effect.Effect<number, CliError.CliError> => {
  const parsed = Spans.parse(text)
  if (Result.isFailure(parsed)) return invalid(option, text, parsed.failure)
  return parsed.success < least
    ? invalid(option, text, `at least ${Spans.show(least)}`)
    : Effect.succeed(parsed.success)
}

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/** A whole job id. */
export const jobId = (
  option: string,
  text: string,
  kind: "flag" | "argument"
): Effect.Effect<string, CliError.CliError> =>
  uuid.test(text)
    ? Effect.succeed(text.toLowerCase())
    : invalid(option, text, "a job id: a UUID like 01890a5d-ac96-774b-bcce-b302099a8057", kind)

/** One job id as the argument of a command. */
export const id = Argument.String("id").pipe(
  Argument.withDescription("Job id (UUID)"),
  Argument.mapEffect((text) => jobId("id", text, "argument"))
)
