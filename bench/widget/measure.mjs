// What the widget costs the page that embeds it: node measure.mjs [URL] [RUNS]
//
// Lighthouse (mobile) looks at the demo page with the widget and with its loader blocked, in turns, so
// that both meet the same noise. Then the widget is used on a processor four times slower.
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import lighthouse, { startFlow } from "lighthouse";
import puppeteer from "puppeteer-core";

const url = process.argv[2] ?? "http://localhost:5005/webchat/";
const runs = Number(process.argv[3] ?? 5);
const executablePath = execFileSync(fileURLToPath(new URL("../../deploy/browser", import.meta.url)), {
  encoding: "utf8",
}).trim();
const browser = await puppeteer.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
});
const port = Number(new URL(browser.wsEndpoint()).port);
const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];

async function look(blockedUrlPatterns) {
  const { lhr } = await lighthouse(url, {
    port,
    output: "json",
    logLevel: "error",
    onlyCategories: ["performance", "accessibility"],
    blockedUrlPatterns,
  });
  return {
    performance: lhr.categories.performance.score * 100,
    accessibility: lhr.categories.accessibility.score * 100,
    lcp: lhr.audits["largest-contentful-paint"].numericValue,
    cls: lhr.audits["cumulative-layout-shift"].numericValue,
    tbt: lhr.audits["total-blocking-time"].numericValue,
  };
}

const measured = { with: [], without: [] };
for (let run = 0; run < runs; run += 1) {
  measured.without.push(await look(["*/loader.js"]));
  measured.with.push(await look([]));
}
const summary = Object.fromEntries(
  Object.entries(measured).map(([name, all]) => [
    name,
    Object.fromEntries(
      Object.keys(all[0]).map((key) => [key, Number(median(all.map((one) => one[key])).toFixed(key === "cls" ? 4 : 0))]),
    ),
  ]),
);

// Accessibility with the panel open.
const page = await browser.newPage();
await page.setViewport({ width: 390, height: 844, isMobile: true, hasTouch: true });
const flow = await startFlow(page, { flags: { onlyCategories: ["accessibility"] } });
await flow.navigate(url);
await page.evaluate(() => document.querySelector("practice-chat").ask("what is sciatica?"));
await page.waitForFunction(() => document.querySelector("practice-chat").shadowRoot.querySelector(".sources"));
await flow.snapshot();
const [, open] = (await flow.createFlowResult()).steps;
summary.open = { accessibility: open.lhr.categories.accessibility.score * 100 };
await page.close();

await browser.close();
console.log(JSON.stringify(summary, null, 2));
