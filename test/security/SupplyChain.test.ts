/**
 * What comes in and what goes out: every package in the lock file is one version of one content from the registry, nothing
 * runs at install but what is named here, users get two packages and what they choose, and the published package holds what
 * is listed, whatever else lies around.
 */
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { execFile, execFileSync } from "node:child_process"
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"

const root = join(import.meta.dirname, "../..")
const run = promisify(execFile)

interface Package {
  readonly version?: string
  readonly integrity?: string
  readonly resolved?: string
  readonly link?: boolean
  readonly hasInstallScript?: boolean
  readonly dev?: boolean
  readonly dependencies?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>
}
interface Manifest extends Package {
  readonly name: string
  readonly scripts: Readonly<Record<string, string>>
  readonly allowScripts: Readonly<Record<string, boolean>>
  readonly bundleDependencies?: unknown
}

const text = (name: string) => readFile(join(root, name), "utf8")
const manifest = async (): Promise<Manifest> => JSON.parse(await text("package.json"))
const locked = async (): Promise<ReadonlyArray<readonly [string, Package]>> => {
  const { lockfileVersion, packages } = JSON.parse(await text("package-lock.json"))
  assert.strictEqual(lockfileVersion, 3)
  return Object.entries(packages)
}

/** A version or a range of versions, or `npm:` with one: nothing that is fetched from elsewhere. */
const isRange = (spec: string) => /^(npm:(@[\w.-]+\/)?[\w.-]+@)?[\d\sxX*.^~<>=|+a-zA-Z-]+$/.test(spec)

describe("the lock file", () => {
  it("holds a SHA-512 of every package", async () => {
    const packages = (await locked()).filter(([path]) => path !== "")
    assert.isAbove(packages.length, 100)
    for (const [path, { integrity, version }] of packages) {
      assert.match(integrity ?? "", /^sha512-[A-Za-z0-9+/]{86}==$/, path)
      assert.match(version ?? "", /^\d+\.\d+\.\d+/, path)
    }
  })

  it("names no server but npm's, no link, no folder, no repository", async () => {
    for (const [path, one] of await locked()) {
      assert.isTrue(path === "" || path.startsWith("node_modules/"), path)
      assert.isUndefined(one.link, path)
      if (one.resolved !== undefined) assert.match(one.resolved, /^https:\/\/registry\.npmjs\.org\//, path)
      const { dependencies, devDependencies, optionalDependencies, peerDependencies } = one
      for (const kind of [dependencies, devDependencies, optionalDependencies, peerDependencies]) {
        for (const [name, spec] of Object.entries(kind ?? {})) assert.isTrue(isRange(spec), `${path}: ${name}@${spec}`)
      }
    }
  })

  it.each(["git+https://x/y.git", "github:x/y", "x/y", "https://x/y.tgz", "file:../x", "link:x", "git@x:y", "C:\\x"])(
    "as this test would notice: %s",
    (spec) => assert.isFalse(isRange(spec))
  )
})

describe("npm's settings", () => {
  it("name no registry and no token, and refuse what comes from elsewhere, runs scripts unasked, or is days old", async () => {
    const lines = (await text(".npmrc")).trim().split("\n")
    for (const line of lines) assert.notMatch(line, /registry\s*=|_auth|token|password|:\/\//i)
    assert.includeMembers(lines, [
      "allow-git=none",
      "allow-remote=none",
      "strict-allow-scripts=true",
      "min-release-age=3"
    ])
  })
})

describe("scripts at install", () => {
  it("are none of ours", async () => {
    const { scripts } = await manifest()
    const atInstall = ["preinstall", "install", "postinstall", "prepare", "preprepare", "postprepare", "prepublish"]
    assert.deepStrictEqual(
      Object.keys(scripts).filter((name) => atInstall.includes(name)),
      []
    )
  })

  it("and of others one, for development, which is allowed by name", async () => {
    const packages = (await locked()).filter(([, { hasInstallScript }]) => hasInstallScript === true)
    assert.deepStrictEqual(
      packages.map(([path, { dev }]) => [path, dev]),
      [["node_modules/node", true]]
    )
    assert.deepStrictEqual((await manifest()).allowScripts, { node: true })
  })
})

describe("the package", () => {
  it("has no dependencies; two peers, and six by choice", async () => {
    const { bundleDependencies, dependencies, optionalDependencies, peerDependencies, peerDependenciesMeta } =
      await manifest()
    assert.deepStrictEqual([dependencies, optionalDependencies, bundleDependencies], [undefined, undefined, undefined])
    const peers = Object.keys(peerDependencies ?? {})
    const isOptional = (name: string) => peerDependenciesMeta?.[name]?.optional === true
    assert.sameMembers(
      peers.filter((name) => !isOptional(name)),
      ["effect", "@effect/sql-pg"]
    )
    assert.sameMembers(peers.filter(isOptional), [
      "@aws-sdk/client-sqs",
      "@azure/service-bus",
      "@effect/platform-node",
      "@effect/vitest",
      "@electric-sql/pglite",
      "ioredis"
    ])
  })

  it("imports nothing else", async () => {
    const { peerDependencies } = await manifest()
    // The contract suites are for authors of brokers, who have vitest
    const known = new Set([...Object.keys(peerDependencies ?? {}), "vitest"])
    for (const folder of ["src", "migrations"]) {
      for (const file of await readdir(join(root, folder), { recursive: true })) {
        if (!file.endsWith(".ts")) continue
        const source = (await text(join(folder, file))).replaceAll(/\/\*[\s\S]*?\*\//g, "")
        for (const [, name] of source.matchAll(/(?:from|import)\s*\(?\s*"([@\w][\w@/.:-]*)"/g)) {
          const [scope, second] = name!.split("/")
          const top = name!.startsWith("@") ? `${scope}/${second}` : scope!
          assert.isTrue(known.has(top) || name!.startsWith("node:"), `${folder}/${file} imports ${name}`)
        }
      }
    }
  })
})

describe("what is published", () => {
  let work: string
  const strays = [
    ".env",
    ".env.local",
    "id_rsa",
    "notes.txt",
    "dump.sql",
    ".npmrc",
    "key.pem",
    "x.ts.swp",
    "x.tsbuildinfo"
  ]
  beforeAll(async () => {
    work = await mkdtemp(join(tmpdir(), "polyqueue-strays-"))
    for (const name of ["package.json", "LICENSE", "README.md", "CHANGELOG.md"]) {
      await cp(join(root, name), join(work, name))
    }
    for (const folder of [".", "src", "src/store", "migrations", "dist", "dist/src", "scratchpad", "test"]) {
      await mkdir(join(work, folder), { recursive: true })
      for (const name of strays) await writeFile(join(work, folder, name), "canary")
    }
    await writeFile(join(work, "src", "real.ts"), "export {}")
    await writeFile(join(work, "dist", "src", "real.js"), "export {}")
  })
  afterAll(() => rm(work, { recursive: true, force: true }))

  it("is what is listed, whatever lies beside it", async () => {
    const { stdout } = await run("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], { cwd: work })
    const answer: unknown = JSON.parse(stdout)
    const [report] = Array.isArray(answer) ? answer : Object.values(answer as object)
    assert.sameMembers(
      report.files.map((file: { path: string }) => file.path),
      ["CHANGELOG.md", "LICENSE", "README.md", "dist/src/real.js", "package.json", "src/real.ts"]
    )
  }, 60_000)
})

/** npm's answer as JSON, also when its exit code is not 0. */
const npmJson = async (...args: ReadonlyArray<string>): Promise<Record<string, unknown>> => {
  const { stdout } = await run("npm", [...args], { cwd: root, maxBuffer: 100_000_000 }).catch(
    (error: { readonly stdout: string }) => error
  )
  return JSON.parse(stdout)
}

describe("npm", () => {
  it(
    "knows of no vulnerability of high severity in any package of the lock file",
    { timeout: 120_000 },
    async (context) => {
      const report = await npmJson("audit", "--json", "--package-lock-only")
      if (!("vulnerabilities" in report)) {
        return context.skip(`the registry does not answer audits: ${String(report["message"] ?? "no reason given")}`)
      }
      const found = Object.values(report["vulnerabilities"] as Record<string, { name: string; severity: string }>)
      assert.deepStrictEqual(
        found.filter(({ severity }) => severity === "high" || severity === "critical").map(({ name }) => name),
        []
      )
    }
  )

  it("writes a bill of materials (CycloneDX) of all of them, with their hashes", { timeout: 60_000 }, async () => {
    const bill = await npmJson("sbom", "--sbom-format", "cyclonedx", "--package-lock-only")
    const components = bill["components"] as ReadonlyArray<{ name: string; hashes?: ReadonlyArray<{ alg: string }> }>
    assert.isAbove(components.length, 100)
    for (const { hashes, name } of components) assert.strictEqual(hashes?.[0]?.alg, "SHA-512", name)
  })
})

describe("the repository", () => {
  const files = (() => {
    try {
      return execFileSync("git", ["ls-files", "-z"], {
        cwd: root,
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"]
      })
        .split("\0")
        .filter((file) => file !== "")
    } catch {
      return []
    }
  })()

  it.skipIf(files.length === 0)("holds no key and no credential that looks like a real one", async () => {
    // Put together here, so that this file is not found
    const begin = ["-----BEGIN", "[A-Z ]*PRIVATE KEY-----"].join(" ")
    const secrets = new RegExp(`${begin}|\\bAKIA[0-9A-Z]{16}\\b|\\bgh[pousr]_[A-Za-z0-9]{36}|\\bnpm_[A-Za-z0-9]{36}`)
    for (const file of files) {
      assert.notMatch(file, /(^|\/)(\.env(\..*)?|id_rsa|.*\.(pem|key|p12))$/)
      const content = await readFile(join(root, file), "utf8").catch(() => "")
      assert.notMatch(content, secrets, file)
    }
  })
})
