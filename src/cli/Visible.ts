/**
 * What somebody else wrote (payloads, error messages, names) as text that is safe on a terminal: every character that
 * could move the cursor, change colours, reorder or hide its neighbours is written as its escape. Everything the CLI
 * prints of stored data goes through here.
 */
import * as CliOutput from "effect/cli/CliOutput"

/**
 * Control characters (C0, DEL, C1, so ESC and the 8-bit CSI too), lone surrogates, line and paragraph separators, format
 * characters (bidi overrides and isolates, tags) and all that is drawn as nothing. The two joiners and the variation selectors
 * stay: scripts and emoji need them.
 */
const unsafe =
  /(?!\p{Join_Control}|\p{Variation_Selector})[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu
const unsafeInJson = new RegExp(`(?!\\n)${unsafe.source}`, unsafe.flags)

const short: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }

const escape = (character: string): string =>
  short[character] ??
  Array.from(
    { length: character.length },
    (_, i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, "0")}`
  ).join("")

/** One line: line breaks are escaped too. */
export const line = (text: string): string => text.replace(unsafe, escape)

/** Several lines: line breaks stay, all else as in `line`. */
export const lines = (text: string): ReadonlyArray<string> => text.split(/\r?\n/).map(line)

/** JSON text with the same characters escaped inside its strings: the same value to every parser. `indent` as in JSON.stringify. */
export const json = (value: unknown, indent?: number): string =>
  (JSON.stringify(value, null, indent) ?? "null").replace(unsafeInJson, escape)

/** Longest text that is measured: more than any terminal shows in one cell. */
const longest = 4_000

const segmenter = new Intl.Segmenter(undefined, { granularity: "grapheme" })

/** The beginning of a safe text that fits into `width` cells of a terminal, with `…` where something was cut. */
export const fit = (text: string, width: number): string => {
  if (text.length <= longest && CliOutput.displayWidth(text) <= width) return text
  let kept = ""
  let used = 0
  for (const { segment } of segmenter.segment(text.slice(0, longest))) {
    const cells = CliOutput.displayWidth(segment)
    if (used + cells > width - 1) break
    kept += segment
    used += cells
  }
  return `${kept}…`
}
