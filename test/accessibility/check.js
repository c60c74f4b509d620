// Checks the status page in each condition of a daemon, light and dark, on a phone
// and on a desk: by axe, and that nothing is wider than the screen. Screenshots
// go beside this file.
import { readdir, readFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import axe from "axe-core";
import { chromium } from "playwright-core";

const root = new URL("../../", import.meta.url);
const pages = new URL("app/testdata/status/", root);
const style = await readFile(new URL("status/page.css", root), "utf8");
const executablePath = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
const browser = await chromium.launch({ executablePath });

async function check(name, width, scheme) {
  const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme: scheme });
  const html = await readFile(new URL(name, pages), "utf8");
  await page.setContent(html.replace("<style></style>", () => `<style>${style}</style>`));
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

const faults = [];
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
