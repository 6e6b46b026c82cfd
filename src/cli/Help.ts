/**
 * Help that was asked for goes to stdout, in lines of at most 100 cells; what is wrong with a command line goes to stderr, in
 * one line, with the usage and where to read more.
 */
import * as CliOutput from "effect/cli/CliOutput"
import type { HelpDoc } from "effect/cli/HelpDoc"
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Secrets from "../config/Secrets.ts"
import * as Visible from "./Visible.ts"

const widest = 98

const wrap = (text: string): string => {
  const lines = [""]
  for (const word of text.split(" ")) {
    const last = lines.at(-1)!
    if (last !== "" && last.length + 1 + word.length > widest) lines.push(word)
    else lines[lines.length - 1] = last === "" ? word : `${last} ${word}`
  }
  return lines.join("\n  ")
}

const format = (doc: HelpDoc, colors: boolean): string =>
  CliOutput.defaultFormatter({ colors, globalFlags: "summary" })
    .formatHelpDoc({
      ...doc,
      description: wrap(doc.description)
    })
    .replace(/([^\n])\n(\S{0,4}EXAMPLES)/, "$1\n\n$2")

const oneLine = (text: string): string =>
  Visible.line(Secrets.withoutCredentials(text.trim().replace(/\s*\n\s*/g, " ")))

/** How the CLI shows help, mistakes and its version. */
export const presenter: CliOutput.Presenter = {
  present: Effect.fnUntraced(function* (event) {
    const { canColor } = yield* TerminalCapabilities.TerminalCapabilities
    switch (event._tag) {
      case "Help":
        return yield* Console.log(format(event.helpDoc, canColor))
      case "Version":
        return yield* Console.log(`${event.name} ${event.version}`)
      case "InvalidInvocation": {
        const path = event.commandPath.join(" ")
        const mistakes = event.errors.map((error) => `${path}: ${oneLine(error.message)}`)
        return yield* Console.error([...mistakes, `usage: ${event.helpDoc.usage}`, `more:  ${path} --help`].join("\n"))
      }
    }
  })
}
