// Checks the status page in each condition of a daemon, light and dark, on a phone
// and on a desk: by axe, and that nothing is wider than the screen. Screenshots
// go beside this file. It also checks that the page updates by itself and leaves
// the reader where they are.
import { readdir, readFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import axe from "axe-core";
import { chromium } from "playwright-core";

const root = new URL("../../", import.meta.url);
const pages = new URL("app/testdata/status/", root);
const style = await readFile(new URL("status/page.css", root), "utf8");
const script = await readFile(new URL("status/page.js", root), "utf8");
const executablePath = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
const browser = await chromium.launch({ executablePath });

// load has the style, and no script.
async function load(name) {
  const html = await readFile(new URL(name, pages), "utf8");
  return html.replace("<style></style>", () => `<style>${style}</style>`);
}

async function check(name, width, scheme) {
  const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme: scheme });
  await page.setContent(await load(name));
  await page.screenshot({ path: `${name.replace(".html", "")}-${width}-${scheme}.png`, fullPage: true });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
  await page.evaluate(axe.source);
  const { violations, passes } = await page.evaluate(() => axe.run());
  await page.close();
  if (passes.length === 0) throw new Error("axe has checked nothing");
  const faults = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html).join(" ")}`);
  if (wide) faults.push("it is wider than the screen");
  return faults.map((fault) => `${name}, ${width} pixels, ${scheme}: ${fault}`);
}

// checkUpdates changes what the server answers while a reader is in the middle of
// the page, and a heading is selected.
async function checkUpdates() {
  const url = "http://127.0.0.1/", healthy = await load("healthy.html"), faults = [];
  let html = healthy, requests = 0;
  const page = await browser.newPage({ viewport: { width: 400, height: 500 } });
  await page.route(url, (route) => {
    requests++;
    return html ? route.fulfill({ contentType: "text/html", body: html.replace("<script></script>", () => `<script>${script}</script>`) }) : route.abort();
  });
  await page.clock.install();
  await page.goto(url);
  await page.clock.pauseAt(Date.now() + 3600_000); // from here on it goes by the steps alone
  const place = () => page.evaluate(() => {
    const top = [...document.querySelectorAll("h2")].at(-1).getBoundingClientRect().top;
    return `focus on ${document.activeElement.id}, "${getSelection()}" selected, the heading at ${Math.round(top)}`;
  });
  await page.evaluate(() => {
    const heading = [...document.querySelectorAll("h2")].at(-1);
    heading.scrollIntoView();
    getSelection().selectAllChildren(heading);
    document.getElementById("live").focus({ preventScroll: true });
  });
  const before = await place();
  for (const [step, answer, shown] of [
    ["other numbers", healthy.replace('class="number">2<', 'class="number">12345<'), /12345/],
    ["another condition", await load("receiver-down.html"), /^failing$[^]*503 Service Unavailable/m],
    ["no answer", null, /No answer since/],
    ["an answer again", healthy, /^(?![^]*No answer)[^]*^healthy$/m],
  ]) {
    html = answer;
    await page.clock.runFor(5000);
    await page.waitForFunction((shown) => shown.test(document.body.innerText), shown).catch(() => faults.push(`${step} is not shown`));
    const after = await place();
    if (after !== before) faults.push(`after ${step} the reader's place is: ${after}; before: ${before}`);
  }
  await page.locator("#live").uncheck();
  const asked = requests;
  await page.clock.runFor(20000);
  await page.evaluate(() => fetch("")); // comes after those of the page
  if (requests !== asked + 1) faults.push("it asks though it is not to update by itself");
  await page.close();
  return faults.map((fault) => `updates: ${fault}`);
}

const faults = await checkUpdates();
let checked = 0;
for (const name of (await readdir(pages)).filter((name) => name.endsWith(".html"))) {
  for (const width of [400, 1400]) {
    for (const scheme of ["light", "dark"]) {
      faults.push(...(await check(name, width, scheme)));
      checked++;
    }
  }
}
await browser.close();
console.log([...faults, `${checked} pages checked, ${faults.length} faults`].join("\n"));
process.exitCode = checked === 0 || faults.length > 0 ? 1 : 0;
