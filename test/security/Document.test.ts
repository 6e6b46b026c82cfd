/** SECURITY.md says which test shows what: all of them are there, and none in this folder is left out. */
import { assert, describe, it } from "vitest"
import { access, readdir, readFile } from "node:fs/promises"
import { join } from "node:path"

const root = join(import.meta.dirname, "../..")

describe("SECURITY.md", () => {
  it("names tests that exist, and every one of this folder", async () => {
    const text = await readFile(join(root, "SECURITY.md"), "utf8")
    const named = new Set(text.match(/test\/[\w/]+\.test\.ts/g))
    assert.isAbove(named.size, 15)
    for (const file of named) await access(join(root, file))
    const here = (await readdir(import.meta.dirname)).filter((file) => file !== "Document.test.ts")
    assert.deepStrictEqual(
      here.filter((file) => file.endsWith(".test.ts") && !named.has(`test/security/${file}`)),
      []
    )
  })

  it("accounts for every check of the list, once or with what is missing", async () => {
    const text = await readFile(join(root, "SECURITY.md"), "utf8")
    const table = text.slice(text.indexOf("## What we check"))
    const checks = [
      ...Array.from({ length: 11 }, (_, i) => `D${i + 1}`),
      ...Array.from({ length: 11 }, (_, i) => `S${i + 1}`),
      ...Array.from({ length: 10 }, (_, i) => `C${i + 1}`)
    ]
    for (const check of checks) assert.match(table, new RegExp(`^\\|.*\\b${check}\\b.*\\|`, "m"), check)
  })

  it("is linked from the README", async () => {
    assert.include(await readFile(join(root, "README.md"), "utf8"), "(SECURITY.md)")
  })
})
