import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/globalSetup.ts"],
    reporters: ["default", "./test/support/Summary.ts"],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // Many tests wait for servers: a few more files side by side than there are cores
    maxWorkers: 3,
    // A machine that starves a test for seconds is not what a gate should fail on; the report says what was tried again
    retry: process.env["CI"] === undefined ? 0 : 2
  }
})
