/**
 * The README is true as far as a machine can tell: its TypeScript compiles against the sources, its first example runs and
 * prints, its table has every option of `Worker.layer`, its links lead somewhere.
 */
import { execFile } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { assert, beforeAll, describe, it } from "vitest"
import { run } from "./support/Child.ts"

const root = fileURLToPath(new URL("..", import.meta.url))
const readme = readFileSync(join(root, "README.md"), "utf8")
const manifest: { exports: Record<string, string> } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))

const blocks = Array.from(readme.matchAll(/^```ts\n([^]*?)^```$/gm), (match) => match[1]!)

/** Imports of the package lead to the sources that its exports are built from. */
const onSources = (code: string) =>
  code.replaceAll(/from "polyqueue(\/[\w/-]+)?"/g, (_, subpath: string | undefined) => {
    const target = manifest.exports[`.${subpath ?? ""}`]
    assert.isDefined(target, `package.json exports ${subpath}`)
    return `from ${JSON.stringify(join(root, target!.replace("./dist/", "").replace(/\.js$/, ".ts")))}`
  })

/** Names that later examples take from the first one. */
const shared = ["SendEmail", "SendEmailLive"]

/** The first example is a program; the others use its definitions, which a module of declarations stands in for. */
const moduleOf = (code: string, at: number): string => {
  if (at === 0) return onSources(code)
  const used = shared.filter((name) => new RegExp(`\\b${name}\\b`).test(code))
  const imports = used.length === 0 ? "" : `import { ${used.join(", ")} } from "./definitions.ts"\n`
  return onSources(`${imports}${code}\nexport {}\n`)
}

const folder = mkdtempSync(join(tmpdir(), "polyqueue-readme-"))

beforeAll(() => {
  mkdirSync(join(folder, "src"))
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"))
  writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module" }))
  const first = blocks[0]!
  const definitions = first.slice(0, first.indexOf("// The edge"))
  writeFileSync(
    join(folder, "src/definitions.ts"),
    onSources(definitions.replaceAll(/^(class|const) /gm, "export $1 ").replaceAll(/^import \{ NodeRuntime.*\n/gm, ""))
  )
  blocks.forEach((code, at) => writeFileSync(join(folder, `src/block${at}.ts`), moduleOf(code, at)))
  const { compilerOptions } = JSON.parse(readFileSync(join(root, "tsconfig.json"), "utf8"))
  const options = { ...compilerOptions, noUnusedLocals: false, allowImportingTsExtensions: true }
  delete options.rewriteRelativeImportExtensions
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions: options, include: ["src"] }))
  return () => rmSync(folder, { recursive: true, force: true })
})

describe("README", () => {
  it("its TypeScript compiles", { timeout: 120_000 }, async () => {
    assert.isAtLeast(blocks.length, 6)
    const tsc = join(root, "node_modules/.bin/tsc")
    const { stdout } = await promisify(execFile)(tsc, ["-p", folder, "--pretty", "false"], { cwd: root }).catch(
      (error: { stdout: string }) => error
    )
    // Errors in the sources themselves are for `npm run check` to say
    const errors = stdout.split("\n").filter((line) => line.includes("error TS") && !/^(src|migrations)\//.test(line))
    assert.deepStrictEqual(errors, [])
  })

  it("its first example runs", { timeout: 120_000 }, async (test) => {
    const { code, stderr, stdout } = await run(test, [join(folder, "src/block0.ts")])
    assert.strictEqual(stderr, "")
    assert.strictEqual(stdout, "sent as <1@ada@example.com>\n")
    assert.strictEqual(code, 0)
  })

  it("its table has every option of Worker.layer, and no other", () => {
    const source = readFileSync(join(root, "src/Worker.ts"), "utf8")
    const declared = /^export interface Options \{\n([^]*?)^\}/m.exec(source)![1]!
    const options = Array.from(declared.matchAll(/^ {2}readonly (\w+)\?/gm), (match) => match[1]!)
    const section = /^### Options of `Worker.layer`\n([^]*?)^##/m.exec(readme)![1]!
    const rows = Array.from(section.matchAll(/^\| `(\w+)`/gm), (match) => match[1]!)
    assert.isAbove(options.length, 5)
    assert.deepStrictEqual(rows, options)
  })

  it("names every subpath that the package exports", () => {
    for (const subpath of Object.keys(manifest.exports)) {
      if (subpath !== "./package.json") assert.include(readme, `\`polyqueue${subpath.slice(1)}\``)
    }
  })

  it("names every reason of JobStopped", () => {
    const source = readFileSync(join(root, "src/JobError.ts"), "utf8")
    const reasons = /StopReason = Schema\.Literals\(\[([^]*?)\]\)/.exec(source)![1]!.match(/\w+/g)!
    for (const reason of reasons) assert.include(readme, `\`${reason}\``)
  })

  it("its links lead to files that are there", () => {
    const links = Array.from(readme.matchAll(/\]\((?!https?:)([^)#]+)\)/g), (match) => match[1]!)
    assert.isAtLeast(links.length, 4)
    for (const link of links) assert.isTrue(existsSync(join(root, link)), link)
  })
})
