// A device's side of Web Push. Its first output line is the subscription of a new device, without endpoint:
//
//     {"keys":{"p256dh":"...","auth":"..."}}
//
// Then each line of standard input is a push, {"body":BASE64,"authorization":HEADER,"origin":OF THE PUSH SERVICE,"key":THE
// GATEWAY'S}, and is answered by {"payload":{...},"claims":{...}} or {"error":"..."}.
'use strict'
const crypto = require('node:crypto')
const readline = require('node:readline')
const ece = require('http_ece')

const device = crypto.createECDH('prime256v1')
device.generateKeys()
const auth = crypto.randomBytes(16)
const tell = value => process.stdout.write(JSON.stringify(value) + '\n')

// verify returns the claims of a VAPID token (RFC 8292) that the key has signed.
function verify (authorization, key, origin) {
  const [, token, k] = /^vapid t=([\w.-]+), k=([\w-]+)$/.exec(authorization)
  if (k !== key) throw new Error(`signed for ${k}, the gateway told ${key}`)
  const point = Buffer.from(k, 'base64url')
  if (point.length !== 65 || point[0] !== 4) throw new Error('not a point of P-256')
  const jwk = { kty: 'EC', crv: 'P-256', x: point.subarray(1, 33).toString('base64url'), y: point.subarray(33).toString('base64url') }
  const [header, claims, signature] = token.split('.')
  const good = crypto.verify('sha256', Buffer.from(header + '.' + claims),
    { key: crypto.createPublicKey({ key: jwk, format: 'jwk' }), dsaEncoding: 'ieee-p1363' }, Buffer.from(signature, 'base64url'))
  if (!good) throw new Error('the signature does not hold')
  const { alg, typ } = JSON.parse(Buffer.from(header, 'base64url'))
  if (alg !== 'ES256' || typ !== 'JWT') throw new Error(`a token of ${alg}, ${typ}`)
  const said = JSON.parse(Buffer.from(claims, 'base64url'))
  const left = said.exp - Date.now() / 1000
  if (said.aud !== origin || left <= 0 || left > 86400 || !/^(mailto:.+@|https:)/.test(said.sub)) throw new Error('claims ' + JSON.stringify(said))
  return said
}

tell({ keys: { p256dh: device.getPublicKey('base64url'), auth: auth.toString('base64url') } })

readline.createInterface({ input: process.stdin }).on('line', line => {
  try {
    const { body, authorization, origin, key } = JSON.parse(line)
    const plain = ece.decrypt(Buffer.from(body, 'base64'), { version: 'aes128gcm', privateKey: device, authSecret: auth.toString('base64url') })
    tell({ payload: JSON.parse(plain), claims: verify(authorization, key, origin) })
  } catch (e) {
    tell({ error: String(e.message || e) })
  }
})
