// Package gcm is the payload of Google's Cloud Connection Server: the JSON in <gcm xmlns='google:mobile:data'/>, as app
// servers written for GCM CCS and FCM XMPP send and expect it.
//
// It promises:
//
//  1. What a server sends is either understood in full or refused with one code and a description; fields that mean
//     nothing here are ignored.
//  2. What is said of a token depends on its text alone until the core is asked: malformed is BAD_REGISTRATION, and
//     everything the core calls a stranger is DEVICE_UNREGISTERED, the same bytes for all of them.
//
// It knows neither streams nor connections, so that a CCS connection (package ccs) and a component (package xmppsrv)
// share it. The texts of errors are those that Google documented where it did: programs have been seen to look at them.
package gcm
