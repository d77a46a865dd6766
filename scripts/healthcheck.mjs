// Exit code 0 if the ess of this container answers the given path with 200, else 1: for HEALTHCHECK, in images without curl.
//   node healthcheck.mjs [PATH]     PATH: /healthz (the default) or /readyz; the port is that of ESS_PORT
const path = process.argv[2] ?? '/healthz';
const url = `http://127.0.0.1:${process.env.ESS_PORT || 8080}${path}`;
try {
  const response = await fetch(url, { signal: AbortSignal.timeout(4000) });
  console.log(`${response.status} ${(await response.text()).slice(0, 1000)}`);
  process.exitCode = response.status === 200 ? 0 : 1;
} catch (error) {
  console.log(`${url}: ${error.cause?.message ?? error.message}`);
  process.exitCode = 1;
}
