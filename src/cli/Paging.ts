/** Pages of a list: how many rows, and where to go on. The cursor of the next page is said on stderr, and in JSON. */
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Output from "./Output.ts"

/** `--limit`: 1 to 1,000, default 50. */
export const limit = Flag.Int("limit").pipe(
  Flag.withAlias("n"),
  Flag.filter(
    (value) => value >= 1 && value <= 1_000,
    (value) => `Expected 1 to 1000, got ${value}`
  ),
  Flag.withDescription("Rows per page, 1 to 1000; 50 if left out"),
  Flag.withDefault(50)
)

/** Says how to get the next page; nothing on the last one. */
export const noteNext = (format: Output.Format, next: string | number | undefined): Effect.Effect<void> =>
  next === undefined || format === "json" ? Effect.void : Output.note(`more with --after ${next}`)
