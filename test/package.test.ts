/**
 * The package as its users get it: packed, checked by publint and attw, unpacked into projects that have only some of the
 * peers, and imported there.
 */
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { execFile } from "node:child_process"
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { promisify } from "node:util"

const root = join(import.meta.dirname, "..")
const bin = (name: string) => join(root, "node_modules", ".bin", name)
const run = promisify(execFile)
let work: string
let tarball: string
let files: ReadonlyArray<string>

/** What each subpath needs beside `effect` and `@effect/sql-pg`. Every key of `exports` is here. */
const needs: Readonly<Record<string, ReadonlyArray<string>>> = {
  ".": [],
  "./pgmq": [],
  "./redis": ["ioredis"],
  "./service-bus": ["@azure/service-bus"],
  "./sqs": ["@aws-sdk/client-sqs"],
  "./testing": [],
  "./testing/contracts": ["@effect/vitest", "vitest"]
}

beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), "polyqueue-package-"))
  const source = join(work, "source")
  await mkdir(source)
  for (const name of ["package.json", "LICENSE", "README.md", "CHANGELOG.md", "src", "migrations"]) {
    await cp(join(root, name), join(source, name), { recursive: true })
  }
  await run(bin("tsc"), ["-p", "tsconfig.build.json", "--outDir", join(source, "dist")], { cwd: root })
  const packed = await run("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", work], { cwd: source })
  tarball = join(
    work,
    (await readdir(work)).find((name) => name.endsWith(".tgz"))!
  )
  const answer: unknown = JSON.parse(packed.stdout)
  const [report] = Array.isArray(answer) ? answer : Object.values(answer as object)
  files = report.files.map((file: { path: string }) => file.path).sort()
}, 300_000)

afterAll(() => rm(work, { recursive: true, force: true }))

/** A project with the package and some of its peers, and nothing else to be found above it. */
const project = async (name: string, peers: ReadonlyArray<string>): Promise<string> => {
  const folder = join(work, name)
  const modules = join(folder, "node_modules")
  await mkdir(join(modules, "polyqueue"), { recursive: true })
  await run("tar", ["-xzf", tarball, "-C", join(modules, "polyqueue"), "--strip-components=1"])
  for (const peer of ["effect", "@effect/sql-pg", ...peers]) {
    await mkdir(dirname(join(modules, peer)), { recursive: true })
    await symlink(join(root, "node_modules", peer), join(modules, peer))
  }
  await writeFile(join(folder, "package.json"), JSON.stringify({ type: "module" }))
  return folder
}

const load = (folder: string, source: string, type: "module" | "commonjs" = "module") =>
  run(process.execPath, [`--input-type=${type}`, "--eval", source], { cwd: folder })

const specifier = (subpath: string) => `polyqueue${subpath.slice(1)}`

describe("the package", () => {
  it("holds the sources, what is built from them, and five files more", () => {
    const sources = files.filter((file) => /^(src|migrations)\/.*\.ts$/.test(file))
    const built = sources.flatMap((file) =>
      ["js", "js.map", "d.ts", "d.ts.map"].map((extension) => `dist/${file.replace(/ts$/, extension)}`)
    )
    const rest = ["CHANGELOG.md", "LICENSE", "README.md", "package.json"]
    assert.deepStrictEqual(files, [...sources, ...built, ...rest].sort())
    assert.isAbove(sources.length, 20)
  })

  it("names no subpath that this test does not know", async () => {
    const { exports } = JSON.parse(await readFile(join(root, "package.json"), "utf8"))
    assert.sameMembers(
      Object.keys(exports).filter((key) => key !== "./package.json"),
      Object.keys(needs)
    )
  })

  it("is clean for publint", async () => {
    const { stdout } = await run(bin("publint"), [tarball, "--strict"], { cwd: root })
    assert.include(stdout, "All good!")
  }, 120_000)

  it("is clean for attw, as an ESM package", async () => {
    await run(bin("attw"), [tarball, "--profile", "esm-only", "--format", "ascii"], { cwd: root })
  }, 120_000)

  it("loads from its root with effect and @effect/sql-pg alone: no broker's SDK, no PGlite, no test runner", async () => {
    const folder = await project("root", [])
    await load(folder, `import { Polyqueue, Job, Worker } from "polyqueue"; if (!Polyqueue.layerMemory) throw 1`)
    await load(folder, `const { Polyqueue } = require("polyqueue"); if (!Polyqueue.layerMemory) throw 1`, "commonjs")
  }, 60_000)

  it("type-checks in a strict project that checks its libraries", async () => {
    const folder = await project("types", ["@types/node", "undici-types"])
    const options = {
      strict: true,
      module: "nodenext",
      target: "es2024",
      noEmit: true,
      types: ["node"],
      skipLibCheck: true
    }
    await writeFile(
      join(folder, "index.ts"),
      `import { Layer } from "effect"
       import { Broker, Polyqueue } from "polyqueue"
       export const layer: Layer.Layer<Polyqueue> = Polyqueue.layerMemory
       // @ts-expect-error a broker is not a string
       export const wrong: string = Broker.layerMemory`
    )
    await writeFile(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions: options, files: ["index.ts"] }))
    await run(bin("tsc"), ["-p", folder]).catch((error) => assert.fail(error.stdout))
  }, 60_000)

  for (const [subpath, peers] of Object.entries(needs).filter(([, peers]) => peers.length > 0)) {
    it(`${subpath} loads with ${peers.join(" and ")}, and without it fails by naming it`, async () => {
      const name = subpath.replaceAll(/\W/g, "-")
      const source = `await import(${JSON.stringify(specifier(subpath))})`
      const without = await load(await project(`without${name}`, []), source).then(
        () => "",
        (error) => String(error.stderr)
      )
      assert.match(without, new RegExp(`Cannot find package '(${peers.join("|")})'`))
      await load(await project(`with${name}`, peers), subpath === "./testing/contracts" ? "" : source)
    }, 60_000)
  }
})
