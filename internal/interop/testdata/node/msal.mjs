// One step of a web app on MSAL Node: reads what to do from standard input, as JSON, and
// writes what has come of it. The cache is in both: a process keeps nothing.
import { createHash } from "node:crypto";
import { text } from "node:stream/consumers";
import { ConfidentialClientApplication, CryptoProvider, LogLevel } from "@azure/msal-node";
import { adopt } from "./adopt.mjs";

const steps = { authorize, redeem, silent };

const step = JSON.parse(await text(process.stdin));
const app = new ConfidentialClientApplication({
  auth: {
    authority: step.authority,
    clientId: step.clientId,
    clientSecret: step.clientSecret,
    knownAuthorities: [new URL(step.authority).host],
  },
  system: { loggerOptions: { logLevel: LogLevel.Error, piiLoggingEnabled: false, loggerCallback() {} } },
});
const cache = app.getTokenCache();
if (step.cache) {
  cache.deserialize(JSON.stringify(step.adopt ? adopt(step.cache) : step.cache));
}
try {
  const done = await steps[step.name]();
  process.stdout.write(JSON.stringify({ ...done, cache: JSON.parse(cache.serialize()) }));
} catch (e) {
  // Messages may have tokens in them, codes have not.
  process.stdout.write(JSON.stringify({ error: e.errorCode ?? e.name, suberror: e.subError }));
}

async function authorize() {
  const crypto = new CryptoProvider();
  const { verifier, challenge } = await crypto.generatePkceCodes();
  const nonce = crypto.createNewGuid();
  const url = await app.getAuthCodeUrl({
    redirectUri: step.redirectUri,
    scopes: step.scopes,
    state: crypto.createNewGuid(),
    nonce,
    codeChallenge: challenge,
    codeChallengeMethod: "S256",
  });
  return { url, verifier, nonce };
}

async function redeem() {
  return summary(
    await app.acquireTokenByCode({
      redirectUri: step.redirectUri,
      scopes: step.scopes,
      code: step.code,
      nonce: step.nonce,
      codeVerifier: step.verifier,
    }),
  );
}

async function silent() {
  const accounts = await cache.getAllAccounts();
  if (accounts.length !== 1) {
    return { error: `there are ${accounts.length} accounts` };
  }
  return summary(await app.acquireTokenSilent({ account: accounts[0], scopes: step.scopes, forceRefresh: step.force }));
}

// summary says who the token is for and which it is, and not the token.
function summary(result) {
  return {
    account: result.account.homeAccountId,
    username: result.account.username,
    token: createHash("sha256").update(result.accessToken).digest("base64url"),
    fromCache: result.fromCache,
  };
}
