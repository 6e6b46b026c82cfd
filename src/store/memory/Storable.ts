/**
 * What a store can hold, judged without a database: the same text is refused here and by Postgres's `jsonb` and `text`
 * (NUL in any form, lone surrogates, text that is not JSON, JSON nested too deep), and two texts are the same JSON
 * here when `jsonb` says so.
 */

/** PostgreSQL's JSON parser is recursive and gives up near this depth with its default stack. */
const MAX_DEPTH = 6_000

/** Why Postgres would refuse this text in a `text` column of at most `max` characters; `undefined`: it would not. */
export const refusedText = (text: string, max = Number.POSITIVE_INFINITY): string | undefined => {
  if (text.includes("\u0000")) return "it contains the character NUL, which Postgres cannot store"
  // Code points, as Postgres counts; they are never more than the code units
  return text.length > max && [...text].length > max ? `it is longer than ${max} characters` : undefined
}

/** Why Postgres would refuse this text as `jsonb`, or `undefined` when it would not. */
export const refusedJson = (text: string): string | undefined => {
  try {
    JSON.parse(text)
  } catch {
    return "it is not JSON"
  }
  if (text.includes("\\u")) {
    const refused = refusedEscape(text)
    if (refused !== undefined) return refused
  }
  return depth(text) > MAX_DEPTH ? `it is nested more than ${MAX_DEPTH} levels deep` : undefined
}

/** The text is valid JSON: only escapes are looked at. */
const refusedEscape = (text: string): string | undefined => {
  for (let at = text.indexOf("\\"); at >= 0; at = text.indexOf("\\", at)) {
    if (text[at + 1] !== "u") {
      at += 2
      continue
    }
    const unit = Number.parseInt(text.slice(at + 2, at + 6), 16)
    at += 6
    if (unit === 0) return "it contains \\u0000, which Postgres cannot store"
    if (unit >= 0xdc00 && unit <= 0xdfff) return "it contains half of a surrogate pair"
    if (unit >= 0xd800 && unit <= 0xdbff) {
      const low = text.startsWith("\\u", at) ? Number.parseInt(text.slice(at + 2, at + 6), 16) : 0
      if (low < 0xdc00 || low > 0xdfff) return "it contains half of a surrogate pair"
      at += 6
    }
  }
  return undefined
}

/** Levels of nesting of valid JSON text: brackets inside strings do not count. */
const depth = (text: string): number => {
  // Cheap for nearly everything: so short a text cannot be deep
  if (text.length < 2 * MAX_DEPTH) return 0
  let deepest = 0
  let level = 0
  let quoted = false
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at)
    if (quoted) {
      if (unit === 0x5c) at += 1
      else if (unit === 0x22) quoted = false
    } else if (unit === 0x22) quoted = true
    else if (unit === 0x5b || unit === 0x7b) deepest = Math.max(deepest, ++level)
    else if (unit === 0x5d || unit === 0x7d) level -= 1
  }
  return deepest
}

/** The same JSON value, whatever the order of keys, the white space and the spelling of numbers. */
export const sameJson = (a: string, b: string): boolean => a === b || sameValue(JSON.parse(a), JSON.parse(b))

const sameValue = (a: unknown, b: unknown): boolean => {
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return a === b
  if (Array.isArray(a) || Array.isArray(b)) {
    if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false
    return a.every((item, index) => sameValue(item, b[index]))
  }
  const entries = Object.entries(a)
  const others = new Map(Object.entries(b))
  return entries.length === others.size && entries.every(([key, value]) => sameValue(value, others.get(key)))
}
