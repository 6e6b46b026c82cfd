/**
 * JSON text as Postgres will accept it. What `jsonb` would refuse is caught before the statement: NUL, lone surrogates,
 * cycles, too deep, too large. (NaN and other values that are not JSON were refused by the schema's JSON codec.)
 */
import * as Result from "effect/Result"
import { messageOf } from "./ErrorText.ts"

/** Nesting that is refused: far below what any Postgres can parse (PGlite never answers at 8,000), far above what anyone means. */
const maxDepth = 1_000

/** True when arrays and objects are nested deeper than `maxDepth`. Text that is too short for it is not read. */
const isTooDeep = (json: string): boolean => {
  if (json.length <= 2 * maxDepth) return false
  let depth = 0
  let inString = false
  for (let i = 0; i < json.length; i++) {
    const code = json.charCodeAt(i)
    if (inString) {
      if (code === 0x5c /* \\ */) i++
      else if (code === 0x22 /* " */) inString = false
    } else if (code === 0x22) inString = true
    else if (code === 0x5b /* [ */ || code === 0x7b /* { */) {
      if (++depth > maxDepth) return true
    } else if (code === 0x5d /* ] */ || code === 0x7d /* } */) depth--
  }
  return false
}

/** The escapes of NUL and of surrogates, which well-formed `JSON.stringify` writes only for lone ones. */
const refusedEscape = /(?<!\\)(?:\\\\)*\\u(?:0000|d[89ab][0-9a-f]{2}|d[c-f][0-9a-f]{2})/i

/** Why a value cannot be stored. */
export type Refusal = { readonly _tag: "TooLarge" | "NotJson"; readonly message: string }

const refuse = (_tag: Refusal["_tag"], message: string) => Result.fail({ _tag, message })

/**
 * Encodes a JSON value to text. `undefined` becomes `null`. Fails with the reason, never with the value.
 */
export const encode = (value: unknown, maxBytes: number): Result.Result<string, Refusal> => {
  let text: string
  try {
    text = JSON.stringify(value) ?? "null"
  } catch (cause) {
    return refuse("NotJson", messageOf(cause).split("\n")[0]!)
  }
  if (text.length * 3 > maxBytes) {
    const bytes = Buffer.byteLength(text)
    if (bytes > maxBytes) return refuse("TooLarge", `it is ${bytes} bytes of JSON, ${maxBytes} are allowed`)
  }
  if (isTooDeep(text)) return refuse("NotJson", `it is nested deeper than ${maxDepth} levels`)
  if (text.includes("\\u") && refusedEscape.test(text)) {
    return refuse("NotJson", "it contains a NUL character or a lone surrogate, which Postgres cannot store")
  }
  return Result.succeed(text)
}

/** Text for people, made storable: NUL and lone surrogates replaced, cut to `max` characters. */
export const sanitize = (text: string, max: number): string =>
  (text.length > max ? `${text.slice(0, max)}…` : text).toWellFormed().replaceAll("\u0000", "\uFFFD")
