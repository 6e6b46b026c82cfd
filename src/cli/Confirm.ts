/** Asking before something that cannot be taken back, or is done to many jobs at once. */
import * as Flag from "effect/cli/Flag"
import * as Prompt from "effect/cli/Prompt"
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as Effect from "effect/Effect"
import { refused } from "./Failure.ts"

/** `--yes`. */
export const yes = Flag.Boolean("yes").pipe(
  Flag.withAlias("y"),
  Flag.withDescription("Do not ask"),
  Flag.withoutNegation,
  Flag.withDefault(false)
)

/** `--dry-run`. */
export const dryRun = Flag.Boolean("dry-run").pipe(
  Flag.withDescription("Only say what would be done"),
  Flag.withoutNegation,
  Flag.withDefault(false)
)

/** Goes on after a yes; else ends as refused (exit code 4), having done nothing. Without a terminal only `--yes` is a yes. */
export const confirm = Effect.fnUntraced(function* (yes: boolean, question: string) {
  if (yes) return
  const { canPrompt } = yield* TerminalCapabilities.TerminalCapabilities
  if (!canPrompt) return yield* refused(`${question} There is no terminal to ask at: add --yes to do it.`)
  if (!(yield* Prompt.run(Prompt.Confirm({ message: question, initial: false })))) {
    return yield* refused("nothing was done")
  }
})
