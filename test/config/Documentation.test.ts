/** Row 40 of the original's defects: documentation and code disagreed. Here the documentation is made from the code. */
import { describe, expect, it } from "vitest"
import { readdir, readFile } from "node:fs/promises"
import { join } from "node:path"
import * as PolyqueueConfig from "../../src/config/PolyqueueConfig.ts"
import { Result } from "effect"
import * as Names from "../../src/store/postgres/Names.ts"

const root = join(import.meta.dirname, "../..")
const all = Object.values(PolyqueueConfig.variables)

const page = (): string => {
  const rows = all.map(({ default: value, differs, doc, kind, name, noEffect }) => {
    const shown = value === undefined ? "" : `\`${String(value)}\``
    const notes = [
      doc,
      noEffect === undefined ? "" : `${noEffect[0]!.toUpperCase()}${noEffect.slice(1)}.`,
      differs ?? ""
    ]
    return `| \`${name}\` | ${shown} | ${kind.allowed} | ${notes.filter((note) => note !== "").join(" ")} |`
  })
  return [
    "# Settings",
    "",
    "Made from `src/config/Variables.ts` by `test/config/Documentation.test.ts` (`vitest run -u` writes it).",
    "",
    "| Variable | Default | Allowed | What it does |",
    "| --- | --- | --- | --- |",
    ...rows,
    ""
  ].join("\n")
}

describe("row 40: documentation and code agree", () => {
  it("the page of settings is the one the code makes", async () => {
    await expect(page()).toMatchFileSnapshot(join(root, "scratchpad/operate/settings.md"))
  })

  it("the default schema and prefix of the settings are those of the code that uses the tables", () => {
    const names = Result.getOrThrow(Names.make())
    const { tablePrefix, tableSchema } = PolyqueueConfig.variables
    expect([tableSchema.default, tablePrefix.default]).toStrictEqual([names.schema, names.prefix])
  })

  it("no file of ours names a variable that the code does not read", async () => {
    const known = new Set(all.map(({ name }) => name))
    const files = (await readdir(join(root, "src"), { recursive: true })).filter((file) => file.endsWith(".ts"))
    const texts = await Promise.all(
      [...files.map((file) => join("src", file)), "README.md"].map((file) => readFile(join(root, file), "utf8"))
    )
    const named = texts.flatMap((text) => text.match(/POLYQUEUE_(?!TEST_)[A-Z][A-Z_]+[A-Z]/g) ?? [])
    expect(named.length).toBeGreaterThan(30)
    expect(named.filter((name) => !known.has(name))).toStrictEqual([])
  })
})
