/**
 * Every example of `scratchpad/` runs, and prints what its first comment says. Examples that are tests run here too.
 */
// Its suites register themselves here
// oxlint-disable-next-line import/no-unassigned-import
import "../scratchpad/06-testing.test.ts"
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "vitest"
import { run } from "./support/Child.ts"

const folder = fileURLToPath(new URL("../scratchpad/", import.meta.url))
const examples = readdirSync(folder).filter((name) => /^\d\d-.*\.ts$/.test(name))

/** The lines after `// Prints:`; one line, or one per comment line. */
const promised = (source: string): ReadonlyArray<string> => {
  const comment = source.split("\n").filter((_, at, all) => all.slice(0, at + 1).every((one) => one.startsWith("//")))
  const at = comment.findIndex((line) => line.startsWith("// Prints"))
  const sameLine = /^\/\/ Prints: (.+)$/.exec(comment[at] ?? "")?.[1]
  return sameLine === undefined ? comment.slice(at + 1).map((line) => line.slice("//   ".length)) : [sameLine]
}

/** Lines of these may be missing: states that an onlooker can be too late for. */
const maybe: Readonly<Record<string, ReadonlyArray<string>>> = { "05-await.ts": ["queued", "processing"] }

// An embedded Postgres starts in seconds, and in a minute where others use the processor
describe("scratchpad", { timeout: 120_000 }, () => {
  it.concurrent.for(examples.filter((name) => !name.endsWith(".test.ts")))(
    "%s prints what it says",
    async (name, test) => {
      const expected = promised(readFileSync(folder + name, "utf8"))
      assert.isAbove(expected.length, 0, "its first comment says what it prints")
      const { code, stderr, stdout } = await run(test, [folder + name])
      assert.strictEqual(stderr, "")
      const optional = maybe[name] ?? []
      const certain = (lines: ReadonlyArray<string>) => lines.filter((line) => !optional.includes(line))
      const printed = stdout.trimEnd().split("\n")
      assert.deepStrictEqual(certain(printed), certain(expected))
      assert.deepStrictEqual(
        printed,
        expected.filter((line) => printed.includes(line)),
        "in this order"
      )
      assert.strictEqual(code, 0)
    }
  )

  it("lists every example in its README", () => {
    const readme = readFileSync(`${folder}README.md`, "utf8")
    for (const name of examples) assert.include(readme, `\`${name}\``)
    assert.isAtLeast(examples.length, 10)
  })
})
