// Drives Chromium for the tests. Standard input has one JSON object a line:
//
//     {"id":1,"page":"ann","options":{...},"run":"await page.goto(args.url)","args":{"url":"http://..."}}
//
// `run` is the body of an async function with `page`, `context`, `args` and `axe` in scope; what it returns is the value
// of the answer, one line for each command when it is done: {"id":1,"value":...} or {"id":1,"error":"..."}. Commands run
// side by side. A page named for the first time gets a browser context of its own, made with `options` (those of
// playwright's newContext): nothing is shared between two people. What the pages of a context complain about is
// collected: {"page":"ann","complaints":true} returns it, {"page":"ann","close":true} ends the context.
'use strict'
const readline = require('node:readline')
const fs = require('node:fs')
const { chromium } = require('playwright-core')

const axeSource = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8')
const AsyncFunction = (async () => {}).constructor
const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync']
const patience = 60000 // ms, as long as any wait takes at most

const pages = new Map() // name → promise of {page, context, complaints}

function pageNamed (browser, name, options) {
  if (!pages.has(name)) pages.set(name, newPage(browser, options))
  return pages.get(name)
}

async function newPage (browser, options) {
  const context = await browser.newContext(options || {})
  context.setDefaultTimeout(patience)
  const known = { context, complaints: [] }
  context.on('console', m => {
    if (m.type() === 'error' || m.type() === 'warning') known.complaints.push(`${m.type()}: ${m.text()} (${m.location().url})`)
  })
  context.on('weberror', e => known.complaints.push('exception: ' + e.error().message))
  known.page = await context.newPage()
  return known
}

// axe returns what the accessibility checks of WCAG 2 A and AA find on the page, one line each.
async function axe (page) {
  await page.evaluate(axeSource) // by the protocol, so the page's policy does not stand against it
  const result = await page.evaluate(() => globalThis.axe.run(document, {
    runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']
  }))
  return result.violations.flatMap(v => v.nodes.map(n => `${v.id} (${v.impact}): ${v.help}: ${n.target} ${n.html}`))
}

async function obey (browser, command) {
  if (command.close) {
    const known = await pages.get(command.page)
    pages.delete(command.page)
    return known?.context.close()
  }
  const known = await pageNamed(browser, command.page, command.options)
  if (command.complaints) return known.complaints.splice(0)
  const run = new AsyncFunction('page', 'context', 'args', 'axe', command.run)
  return run(known.page, known.context, command.args || {}, axe)
}

// late fails when a command, which may have several waits, takes far too long.
function late () {
  return new Promise((resolve, reject) => setTimeout(reject, 5 * patience, new Error('it does not end')).unref())
}

async function answer (browser, command) {
  let said
  try {
    const value = await Promise.race([obey(browser, command), late()])
    said = { id: command.id, value: value === undefined ? null : value }
  } catch (e) {
    said = { id: command.id, error: String(e.message || e) }
  }
  process.stdout.write(JSON.stringify(said) + '\n')
}

async function main () {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: flags })
  for await (const line of readline.createInterface({ input: process.stdin })) answer(browser, JSON.parse(line))
  await browser.close()
}

main().catch(e => { console.error(e); process.exit(1) })
