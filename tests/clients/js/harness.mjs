// What the JavaScript suites share: names, conditions with deadlines, and one `ok` or `FAIL` line a check.
// Checks run side by side; each takes its topics and groups from `fresh`, so a broker can serve any number of runs.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'

export const bootstrap = process.env.BOOTSTRAP
const run = randomBytes(4).toString('hex')
const checks = []

export const fresh = kind => `js-${run}-${kind}-${randomBytes(3).toString('hex')}`

/** Registers a check; `smoke` says that the short level runs it too. */
export function check (name, body, { smoke = false } = {}) {
  checks.push({ name, body, smoke })
}

export function equal (got, want, what) {
  assert.deepEqual(got, want, `${what}: got ${show(got)}, want ${show(want)}`)
}

function show (value) {
  return JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? `${v}n` : v))?.slice(0, 300)
}

export async function wait (what, condition, limitMs = 90_000) {
  const deadline = Date.now() + limitMs
  for (;;) {
    const value = await condition()
    if (value) return value
    if (Date.now() > deadline) throw new Error(`not within ${limitMs} ms: ${what}`)
    await sleep(20)
  }
}

/** Runs a check's steps and then its cleanups, last first, whatever happened. */
export async function scope (body) {
  const cleanups = []
  try {
    await body(cleanup => cleanups.push(cleanup))
  } finally {
    for (const cleanup of cleanups.reverse()) await Promise.race([Promise.resolve(cleanup()).catch(() => {}), sleep(5000)])
  }
}

async function one (suite, { name, body }) {
  const began = Date.now()
  try {
    await Promise.race([body(), sleep(120_000, undefined, { ref: false }).then(() => { throw new Error('no end in 120 s') })])
    console.log(`ok ${suite} ${name} ${((Date.now() - began) / 1000).toFixed(1)}s`)
    return true
  } catch (error) {
    console.log(`FAIL ${suite} ${name}: ${String(error?.stack ?? error).replace(/\s+/g, ' ').slice(0, 500)}`)
    return false
  }
}

/** Runs all checks, four at a time, and exits; `ONLY=name` picks one. */
export async function runAll (suite) {
  const { LEVEL, ONLY } = process.env
  const queue = checks.filter(c => (LEVEL !== 'smoke' || c.smoke) && (!ONLY || c.name === ONLY))
  let good = true
  await Promise.all(Array.from({ length: 4 }, async () => {
    for (let c = queue.shift(); c; c = queue.shift()) good = await one(suite, c) && good
  }))
  process.exit(good ? 0 : 1)
}
