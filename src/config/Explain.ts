/**
 * Settings for people: each with its value (secrets hidden), where that comes from, and what it does; and the notes that
 * are logged at start, so that nothing that was set is silently ignored.
 */
import { prefix, keys, variables } from "./Variables.ts"
import type { Resolved } from "./Resolve.ts"
import type { Settings, Source } from "./Settings.ts"
import * as Transport from "./Transport.ts"

/** One setting, explained. */
export interface Explained {
  readonly variable: string
  /** Its field in `Settings`. */
  readonly key: keyof Settings
  /** As it could be written into the variable; `(hidden)` for secrets, `undefined` when unset. */
  readonly value: string | undefined
  readonly source: Source
  readonly doc: string
  /** Where it differs from the original, or why it has no effect now. */
  readonly note: string | undefined
}

const textOf = <Key extends keyof Settings>(key: Key, settings: Settings): string | undefined => {
  const value = settings[key]
  if (value === undefined) return undefined
  return variables[key].kind.isSecret ? "(hidden)" : String(value)
}

const noteOf = (key: keyof Settings, { settings }: Resolved): string | undefined => {
  const { differs, noEffect, usedBy } = variables[key]
  if (noEffect !== undefined) return `No effect: ${noEffect}.`
  if (usedBy !== undefined && !usedBy.includes(settings.backend)) return `Not used by backend ${settings.backend}.`
  return differs
}

/** All settings, in the order of the table. */
export const explain = (resolved: Resolved): ReadonlyArray<Explained> =>
  keys.map((key) => ({
    variable: variables[key].name,
    key,
    value: textOf(key, resolved.settings),
    source: resolved.sources[key],
    doc: variables[key].doc,
    note: noteOf(key, resolved)
  }))

/** One line for each setting that was given and has no effect. */
export const notes = (resolved: Resolved): ReadonlyArray<string> =>
  keys.flatMap((key) => {
    const { name, noEffect } = variables[key]
    return noEffect !== undefined && resolved.sources[key] !== "default" ? [`${name} has no effect: ${noEffect}`] : []
  })

/** One line for each connection that could be read on its way. */
export const plainText = ({ settings }: Resolved): ReadonlyArray<string> =>
  Transport.plain(settings).map(
    ({ fix, key }) =>
      `${variables[key].name} names another machine and does not insist on TLS, so the connection can be read or replaced on its way: ${fix}`
  )

/** One sentence for each variable of our prefix that is none of ours, with the one that was probably meant. Never a value. */
export const unknown = (names: Iterable<string>): ReadonlyArray<string> => {
  const known = keys.map((key) => variables[key].name)
  return Array.from(names)
    .filter((name) => name.startsWith(prefix) && !known.includes(name))
    .sort()
    .map((name) => {
      const [closest] = known
        .map((candidate) => [candidate, distance(name, candidate)] as const)
        .sort((a, b) => a[1] - b[1])
      const isClose = closest !== undefined && closest[1] <= Math.max(2, name.length / 5)
      return `${name} is not a setting of polyqueue${isClose ? `: did you mean ${closest[0]}?` : ""}`
    })
}

/** Edits between two names (Levenshtein). */
const distance = (a: string, b: string): number => {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)))
    }
    row = next
  }
  return row[b.length]!
}
