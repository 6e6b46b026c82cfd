/** Keeps the table of the original's defects true: each row once, each test there, each test named after a row listed. */
import { assert, describe, it } from "@effect/vitest"
import { existsSync, readFileSync } from "node:fs"
import { readdir } from "node:fs/promises"
import { dirname, join, normalize } from "node:path"
import { defects, markdown } from "./table.ts"

const root = join(import.meta.dirname, "../..")
const read = (file: string): string => readFileSync(join(root, file), "utf8")

/** Rows about what does not exist yet. */
const notYetApplicable = [36, 37]
const partly = [39]

/** Text without its comments; what looks like one inside of a string is no title of ours. */
const withoutComments = (text: string): string =>
  text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/(^|\s)\/\/[^\n]*/g, "$1")

/** Whether a source has this title as a whole string, and does not skip it. */
const hasTitle = (text: string, title: string): boolean =>
  ['"', "'", "`"].some((quote) => {
    const at = text.indexOf(`${quote}${title}${quote}`)
    return at >= 0 && !/\.(skip|todo|fails)\(\s*$/.test(text.slice(0, at))
  })

/** A file and every file of ours that it imports, directly or not. */
const closure = (file: string, seen = new Set<string>()): Set<string> => {
  if (seen.has(file) || !existsSync(join(root, file))) return seen
  seen.add(file)
  for (const [, path] of read(file).matchAll(/from "(\.[^"]+)"/g)) closure(normalize(join(dirname(file), path!)), seen)
  return seen
}

describe("the table of the original's defects", () => {
  it("has each of the 41 rows once, in order", () => {
    assert.deepStrictEqual(
      defects.map(({ row }) => row),
      Array.from({ length: 41 }, (_, index) => index + 1)
    )
  })

  it("names a test for every row but those that are not applicable yet", () => {
    const without = defects.filter(({ tests }) => tests.length === 0)
    assert.deepStrictEqual(
      without.map(({ row }) => row),
      notYetApplicable
    )
    const excused = defects.filter(({ notYet }) => notYet !== undefined)
    assert.deepStrictEqual(
      excused.map(({ row }) => row),
      [...notYetApplicable, ...partly]
    )
    assert.isFalse(existsSync(join(root, "src/dashboard")), "rows about a dashboard are applicable now")
  })

  it("names tests that are there, are not skipped, and are run", () => {
    const wrong = defects.flatMap(({ row, tests }) =>
      tests.flatMap(({ by, file, title }) => {
        const runner = by ?? file
        if (!existsSync(join(root, file))) return [`row ${row}: ${file} does not exist`]
        if (!hasTitle(withoutComments(read(file)), title)) return [`row ${row}: ${file} has no test "${title}"`]
        const isRun = /^test\/.*\.test\.ts$/.test(runner) && closure(runner).has(file)
        return isRun ? [] : [`row ${row}: ${runner} does not run ${file}`]
      })
    )
    assert.deepStrictEqual(wrong, [])
  })

  it("lists every test that is named after a row", async () => {
    const files = (await readdir(join(root, "test"), { recursive: true })).filter((file) => file.endsWith(".ts"))
    const listed = new Set(defects.flatMap(({ row, tests }) => tests.map(({ title }) => `${row} ${title}`)))
    const missing: Array<string> = []
    let found = 0
    for (const file of files.filter(
      (name) => !name.endsWith("defects/table.ts") && !name.endsWith("defects/Table.test.ts")
    )) {
      for (const [, , title, row] of withoutComments(read(join("test", file))).matchAll(
        /(["'`])(row (\d+): [^\n]*?)\1/g
      )) {
        found++
        if (!listed.has(`${row} ${title}`)) missing.push(`${file}: ${title}`)
      }
    }
    assert.deepStrictEqual(missing, [])
    assert.isAbove(found, 40)
  })

  it("is the one that RELIABILITY.md shows, if it shows one", () => {
    const page = existsSync(join(root, "RELIABILITY.md")) ? read("RELIABILITY.md") : ""
    const [head, ...rows] = markdown().split("\n")
    if (page.includes(head!))
      assert.deepStrictEqual(
        rows.filter((row) => !page.includes(row)),
        []
      )
  })

  it("would notice a title that is not there, one that is skipped, and one in a comment", () => {
    const source = withoutComments('it("one", f)\nit.skip("two", f)\n// it("three", f)\n/* it("four", f) */')
    assert.deepStrictEqual(
      ["one", "two", "three", "four", "five", "on"].filter((title) => hasTitle(source, title)),
      ["one"]
    )
  })
})
