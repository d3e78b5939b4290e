// Makes bundles with Persona's own library: one request in, as JSON, one answer out.
//
//   {"issuer","email","audience","now","idp":"RS256","user":"DS128","count":1}
//   {"support":{...},"bundles":["..."]}        the issuer's support document; each bundle has an assertion of its own

const jwcrypto = require("browserid-crypto");
require("browserid-crypto/lib/algs/rs");
require("browserid-crypto/lib/algs/ds");

const done = (f, ...args) =>
  new Promise((resolve, reject) => f(...args, (err, value) => (err ? reject(new Error(String(err))) : resolve(value))));

const keys = (name) => done(jwcrypto.generateKeypair, { algorithm: name.slice(0, 2), keysize: Number(name.slice(2)) });

async function main(q) {
  const idp = await keys(q.idp);
  const user = await keys(q.user);
  const times = (minutes) => ({ issuedAt: new Date(q.now), expiresAt: new Date(q.now + minutes * 60000) });
  const cert = await done(jwcrypto.cert.sign, { publicKey: user.publicKey, principal: { email: q.email } },
    { issuer: q.issuer, ...times(60) }, {}, idp.secretKey);
  const bundles = [];
  for (let n = 0; n < q.count; n++) {
    const assertion = await done(jwcrypto.assertion.sign, { n }, { audience: q.audience, ...times(5) }, user.secretKey);
    bundles.push(jwcrypto.cert.bundle([cert], assertion));
  }
  const support = {
    "public-key": JSON.parse(idp.publicKey.serialize()),
    authentication: "/browserid/sign_in.html",
    provisioning: "/browserid/provision.html",
  };
  console.log(JSON.stringify({ support, bundles }));
}

let text = "";
process.stdin.on("data", (chunk) => (text += chunk));
process.stdin.on("end", () => main(JSON.parse(text)).catch((err) => { console.error(err); process.exitCode = 1; }));
